"""What the loss knows of a model: the last projection, taken apart so that it can be applied in chunks.

A teacher is hidden states with such a head, or the kept part of a distribution. Knows nothing about
losses or files. Shape suffixes: V width of the head, N scored tokens, H hidden, K kept ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
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


@torch.no_grad()
def check_head(model: Any, name: str) -> None:
    """Check that the head as taken apart gives the model's own logits, on two tokens.

    Both are computed in evaluation mode: two passes under dropout differ whatever the head does.

    Raises:
        DataError: It does not: the architecture does something to its logits that is not known here.
    """
    head = head_of(model)
    input_ids = torch.tensor([[0, 1]], device=head.weight_VH.device)
    backbone = getattr(model, model.base_model_prefix)
    with evaluating(model):
        expected = model(input_ids=input_ids, use_cache=False).logits[0].float()
        hidden = backbone(input_ids=input_ids, use_cache=False).last_hidden_state[0]
    logits = (hidden.to(head.weight_VH.dtype) @ head.weight_VH.T).float()
    if head.bias_V is not None:
        logits += head.bias_V
    logits *= head.logit_scale
    if head.soft_cap is not None:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    # Masked tokens are at -inf on both sides, and their difference is NaN.
    is_finite = expected.isfinite()
    apart = (logits - expected)[is_finite].abs().max()
    # Half precision rounds logits by 2**-9 of the largest, twice.
    within = apart <= 1e-2 * expected[is_finite].abs().max()
    if not within or not torch.equal(is_finite, logits.isfinite()):
        raise DataError(
            f"{name}: the logits of {type(model).__name__} must be its head times its final hidden "
            "states, scaled and capped; they differ. This architecture is not supported."
        )


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode again afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True, slots=True)
class DenseTeacher:
    """The whole distribution, as final hidden states and the teacher's head; no logits are held."""

    hidden_NH: Tensor
    head: Head

    def __len__(self) -> int:
        return int(self.hidden_NH.shape[0])


@dataclass(frozen=True, slots=True)
class SparseTeacher:
    """Part of a distribution: K token ids, their log-probabilities, and the rest as one class.

    A kept entry with log-probability -inf is empty: its id counts as part of the tail. Ids of the
    other entries are distinct within a row.
    """

    topk_ids_NK: Tensor
    """Integer ids below the vocabulary size."""
    topk_logprobs_NK: Tensor
    """Natural logs, of the whole distribution: they need not sum to 1."""
    tail_logprob_N: Tensor
    """Log of the mass that is not kept; -inf where everything is."""

    def __len__(self) -> int:
        return int(self.topk_ids_NK.shape[0])

    def renormalised(self, kd_temperature: float = 1.0) -> SparseTeacher:
        """The kept part alone, scaled to sum to 1: hides the tail, so it biases the student."""
        wide = torch.promote_types(self.topk_logprobs_NK.dtype, torch.float32)
        logprobs_NK = torch.log_softmax(self.topk_logprobs_NK.to(wide) / kd_temperature, dim=-1)
        return SparseTeacher(
            self.topk_ids_NK, logprobs_NK, torch.full_like(logprobs_NK[:, 0], -torch.inf)
        )


@dataclass(frozen=True, slots=True)
class SampledTeacher:
    """The teacher's log-probability of each label and nothing else, for labels that the student sampled."""

    logprob_N: Tensor
    """Natural logs."""

    def __len__(self) -> int:
        return len(self.logprob_N)


Teacher = DenseTeacher | SparseTeacher | SampledTeacher
