"""How big a model and its run folder are: parameters by part and bytes on disk, from shapes alone.

Shapes come from a model on this machine, or from the published config.json files of Qwen3, without a
download. Knows nothing about time or memory.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from leadspan.config import StudentConfig
from leadspan.errors import ConfigError
from leadspan.flops import ModelShape, model_shape
from leadspan.identity import model_folder

STEP_CHECKPOINTS = 3
"""Resumable checkpoints on disk at one time: the last two, and the one that is being written."""
BEST_CHECKPOINTS = 3
"""Best weights on disk at one time: of the run so far, and those that the kept checkpoints name."""
STATE_COPIES = 3
"""A resumable checkpoint holds the trained weights and AdamW's two moments of them."""


@dataclass(frozen=True, slots=True)
class NumParameters:
    """Parameters of a dense decoder by part."""

    layers: int
    """All layers together: matrices, norms and biases."""
    embedding: int
    head: int
    """0 where the head is tied to the embedding."""
    linear: int
    """Of `layers`, those in matrices."""

    @property
    def total(self) -> int:
        """Every parameter once."""
        return self.layers + self.embedding + self.head


def weight_bytes(dtype: str, device: str = "cpu") -> int:
    """Bytes of a number; dtype auto is taken for bfloat16 on a GPU alone."""
    return 2 if dtype == "bfloat16" or (dtype == "auto" and device == "cuda") else 4


def count_parameters(shape: ModelShape) -> NumParameters:
    """Parameters by part; biases of the few models that have them are left out (under 0.1 %)."""
    linear = shape.layers * sum(inputs * outputs for inputs, outputs in shape.linears)
    norms_per_layer = (4 if shape.post_norm else 2) * shape.hidden
    if shape.qk_norm:
        norms_per_layer += 2 * shape.head_dim
    embedding = shape.vocabulary * shape.hidden
    return NumParameters(
        layers=linear + shape.layers * norms_per_layer + shape.hidden,
        embedding=embedding,
        head=0 if shape.tied_head else embedding,
        linear=linear,
    )


def count_stored_parameters(folder: Path) -> int | None:
    """Parameters in the safetensors files of a folder, from their headers; None where there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="np") as stored:
                shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
        except (OSError, SafetensorError):  # loading it says what is wrong
            continue
        total += sum(map(math.prod, shapes))
    return total or None


def kv_cache_bytes(shape: ModelShape, num_rows: int, num_tokens: int, number_bytes: int) -> int:
    """Keys and values of rows that are written side by side, each `num_tokens` long at most.

    A window saves nothing: generation keeps every token of a row.
    """
    return num_rows * num_tokens * 2 * shape.layers * shape.kv_heads * shape.head_dim * number_bytes


def run_folder_bytes(student: StudentConfig, size: ModelShape | int) -> int:
    """The most that a run folder takes on disk at one time, samples and metrics apart.

    Either a checkpoint is being written beside the ones that are kept and the best weights, or the
    whole student beside those, at the end.

    Args:
        student: Gives the adapters, and the dtype in which everything is written.
        size: Of the student: its shape, or where its layers are not known its parameters; the
            adapters then count nothing.
    """
    whole = size if isinstance(size, int) else count_parameters(size).total
    trained = whole
    if student.lora is not None:
        per_rank = 0 if isinstance(size, int) else sum(a + b for a, b in size.linears) * size.layers
        trained = student.lora.rank * per_rank
    kept = (STATE_COPIES * (STEP_CHECKPOINTS - 1) + BEST_CHECKPOINTS) * trained
    return weight_bytes(student.dtype) * (kept + max(STATE_COPIES * trained, whole))


_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8}


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool) -> dict[str, Any]:
    return {
        **_QWEN3,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "tie_word_embeddings": tied,
    }


QWEN3_CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, True),
    "Qwen/Qwen3-4B": _qwen3(2560, 36, 32, 9728, True),
    "Qwen/Qwen3-8B": _qwen3(4096, 36, 32, 12288, False),
    "Qwen/Qwen3-14B": _qwen3(5120, 40, 40, 17408, False),
    "Qwen/Qwen3-32B": _qwen3(5120, 64, 64, 25600, False),
}
"""Model name -> the keys of its config.json that decide its cost; `-Base` models share them."""


def load_model_config(path: str, revision: str | None = None) -> dict[str, Any]:
    """The config of a model that is on this machine, or of a published Qwen3 model by its hub id.

    Raises:
        ConfigError: There is no config.json, it is not JSON, or the hub id is not a known one.
    """
    file = (model_folder(path, revision) or Path(path)) / "config.json"
    if file.is_file():
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: must be readable JSON; {error}.") from None
        return content
    known = QWEN3_CONFIGS.get(path.removesuffix("-Base"))
    if known is None:
        raise ConfigError(
            f"{path}: must be a folder with config.json, or one of {', '.join(QWEN3_CONFIGS)}. "
            "Download the model's config.json into a folder and name that."
        )
    return known


def shape_of(path: str, revision: str | None = None) -> ModelShape:
    """Sizes of the model at `path`: a folder or a hub id, whose revision may be given.

    Raises:
        ConfigError: There is no config, or its architecture is not one whose cost is known.
    """
    try:
        return model_shape(load_model_config(path, revision))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
