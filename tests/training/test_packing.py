"""Packed sequences never see each other, whatever the attention and the architecture.

`tests/test_invariants.py` holds the loss and gradients of a packed step against single sequences.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from leadspan.errors import ConfigError
from leadspan.models import check_packing, compute_hidden

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
WINDOW = 4
MODELS = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "gemma3, a window shorter than a sequence": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}
LENGTHS = (9, 1, 6)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_of_packed_sequences_are_those_of_each_alone(
    name: str, attention: str
) -> None:
    model_class, config_class, more = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(**SIZES, **more, attn_implementation=attention)).eval()
    alone = [torch.randint(0, 60, (1, length)) for length in LENGTHS]
    positions_BT = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    with torch.no_grad():  # flex attention has no gradients on a CPU
        packed_BTH = compute_hidden(model, torch.cat(alone, 1), positions_BT)
        expected_BTH = torch.cat([compute_hidden(model, ids_BT) for ids_BT in alone], 1)
        mixed_BTH = compute_hidden(model, torch.cat(alone, 1))
    torch.testing.assert_close(packed_BTH, expected_BTH, rtol=0, atol=2e-6)
    assert not torch.allclose(mixed_BTH, expected_BTH, atol=1e-3), "positions made no difference"


@pytest.mark.parametrize(
    ("layers", "device", "said"),
    [
        (
            ["full_attention", "linear_attention"],
            "cuda",
            "layers of qwen3_next are linear_attention",
        ),
        (["full_attention"], "cpu", "the device is cpu"),
    ],
)
def test_what_cannot_be_packed_is_refused(layers: list[str], device: str, said: str) -> None:
    config = SimpleNamespace(
        layer_types=layers, model_type="qwen3_next", _attn_implementation="flex_attention"
    )
    with pytest.raises(ConfigError, match=f"teacher.attention: .*{said}"):
        check_packing(config, torch.device(device), "teacher")


def test_full_and_sliding_attention_pack_on_a_gpu() -> None:
    kinds = ["full_attention", "sliding_attention"]
    check_packing(SimpleNamespace(layer_types=kinds), torch.device("cuda"), "student")
