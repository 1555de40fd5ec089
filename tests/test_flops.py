"""FLOPs against torch's own counter, under eager attention, on three architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen3Config

from leadspan.flops import forward_flops, forward_parts, model_shape, training_flops

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "vocab_size": 500,
    "max_position_embeddings": 512,
}
CONFIGS = {
    "qwen3": Qwen3Config(
        **SIZES, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True, pad_token_id=0
    ),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=4, tie_word_embeddings=False),
    "gemma3": Gemma3TextConfig(
        **SIZES, num_key_value_heads=1, head_dim=48, sliding_window=16, pad_token_id=0
    ),
}
TOKENS, SCORED = 96, 40


def _count(config: Any, backward: bool, checkpointing: bool = False) -> int:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(1, config.vocab_size, (1, TOKENS))
    with FlopCounterMode(display=False) as counter:
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, -SCORED:]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[0, -SCORED:])
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", CONFIGS)
class TestAgainstTorch:
    def test_forward(self, name: str) -> None:
        counted = _count(CONFIGS[name], backward=False)
        assert counted > 1e6
        assert forward_flops(CONFIGS[name], [TOKENS], SCORED) == pytest.approx(counted, rel=2e-2)

    def test_training(self, name: str) -> None:
        counted = _count(CONFIGS[name], backward=True)
        predicted = training_flops(CONFIGS[name], [TOKENS], [SCORED])
        assert predicted == pytest.approx(counted, rel=2e-2)

    def test_recomputation(self, name: str) -> None:
        counted = _count(CONFIGS[name], backward=True, checkpointing=True)
        predicted = training_flops(CONFIGS[name], [TOKENS], SCORED, gradient_checkpointing=True)
        assert predicted == pytest.approx(counted, rel=2e-2)

    def test_the_attention_term_is_seen(self, name: str) -> None:
        parts = forward_parts(CONFIGS[name], [TOKENS], SCORED)
        assert parts.attention > 0.04 * parts.total


def test_attention_is_quadratic_and_the_rest_linear() -> None:
    short, long = (forward_parts(CONFIGS["llama"], [n], n) for n in (64, 128))
    assert long.attention == 4 * short.attention
    assert long.mlp == 2 * short.mlp
    assert long.head == 2 * short.head


def test_sequences_do_not_attend_to_one_another() -> None:
    one, two = (forward_parts(CONFIGS["llama"], lengths, 0) for lengths in ([128], [64, 64]))
    assert two.projections == one.projections
    assert two.attention * 2 == one.attention


def test_causal_counts_the_triangle() -> None:
    full, causal = (forward_parts(CONFIGS["llama"], [3], 0, kind) for kind in ("full", "causal"))
    assert causal.attention * 9 == full.attention * 6


def test_causal_window_keeps_the_band() -> None:
    config = CONFIGS["gemma3"].to_dict() | {"layer_types": ["sliding_attention"] * 3}
    shape = model_shape(config | {"sliding_window": 2})
    pairs = 1 + 2 + 2 + 2
    assert forward_parts(shape, [4], 0, "causal").attention == 3 * pairs * 4 * 4 * 48


def test_lora_against_peft() -> None:
    peft = pytest.importorskip("peft")
    config = LlamaConfig(**SIZES | {"num_hidden_layers": 12}, num_key_value_heads=4)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear"))
    ids = torch.randint(1, 500, (1, TOKENS))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    predicted = training_flops(config, [TOKENS], TOKENS, lora_rank=8)
    # The first layer's inputs need no gradient when the embedding is frozen: under 2 % of 12 layers.
    assert predicted == pytest.approx(counter.get_total_flops(), rel=2e-2)


def test_text_config_of_a_multimodal_model_is_read() -> None:
    text = CONFIGS["gemma3"].to_dict()
    assert model_shape({"model_type": "gemma3", "text_config": text}) == model_shape(text)


def test_tied_head() -> None:
    assert model_shape(CONFIGS["qwen3"]).tied_head
    assert not model_shape(CONFIGS["llama"]).tied_head
    assert model_shape(CONFIGS["gemma3"]).tied_head


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'gpt2'"):
        model_shape({"model_type": "gpt2", "hidden_size": 8})


def test_missing_size_is_named() -> None:
    with pytest.raises(ValueError, match="num_hidden_layers"):
        model_shape({"model_type": "llama", "hidden_size": 8})
