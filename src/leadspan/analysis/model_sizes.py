"""Where a model's sizes are read: in its folder, or the published Qwen3 configs, without a download.

The Qwen3 sizes are facts of the published config.json files. Knows nothing about time or memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leadspan.errors import ConfigError
from leadspan.flops import ModelShape, model_shape

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


def load_model_config(path: str) -> dict[str, Any]:
    """The config of a model folder, or of a published Qwen3 model by its hub id.

    Raises:
        ConfigError: There is no config.json, it is not JSON, or the hub id is not a known one.
    """
    file = Path(path) / "config.json"
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


def shape_of(path: str) -> ModelShape:
    """Sizes of the model at `path`.

    Raises:
        ConfigError: There is no config, or its architecture is not one whose cost is known.
    """
    try:
        return model_shape(load_model_config(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
