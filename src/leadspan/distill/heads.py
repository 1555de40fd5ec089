"""The last projection of a causal language model, taken apart so that it can be applied in chunks.

Knows nothing about losses. Shape suffixes: V width of the head, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from leadspan.errors import DataError


@dataclass(frozen=True, slots=True)
class Head:
    """logits = cap(logit_scale * (hidden @ weight.T + bias)), with cap(x) = c * tanh(x / c)."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    logit_scale: float = 1.0
    soft_cap: float | None = None

    @property
    def num_rows(self) -> int:
        """Width of the head; often more than the vocabulary has tokens."""
        return int(self.weight_VH.shape[0])


def head_of(model: Any) -> Head:
    """The head of a Hugging Face causal language model, tied to the embedding or not.

    The weights are the model's own parameters, so gradients reach them.

    Raises:
        DataError: The model has no plain linear head.
    """
    layer = model.get_output_embeddings()
    weight_VH = getattr(layer, "weight", None)
    if layer is None or weight_VH is None or weight_VH.dim() != 2:
        raise DataError(
            f"{type(model).__name__}: the output head must be one linear layer; "
            f"got {type(layer).__name__}. Load the head unquantised and without adapters."
        )
    if not weight_VH.is_floating_point() or hasattr(layer, "lora_A"):
        raise DataError(
            f"{type(model).__name__}: the output head must be a plain float matrix; got "
            f"{type(layer).__name__} of {weight_VH.dtype}. Leave it unquantised, without adapters."
        )
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    # Granite divides where Cohere multiplies.
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    soft_cap = getattr(config, "final_logit_softcapping", None)
    return Head(
        weight_VH=weight_VH,
        bias_V=getattr(layer, "bias", None),
        logit_scale=scale,
        soft_cap=float(soft_cap) if soft_cap else None,
    )
