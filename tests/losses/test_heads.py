"""The head of real architectures, taken apart and put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from leadspan.errors import DataError
from leadspan.losses.heads import Head, check_head, head_of
from tests.conftest import build_tiny_model

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen3": {"tie_word_embeddings": False},
    "Llama": {},
    "Gemma2": {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 4.0},
    "Phi": {},
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **ARCHITECTURES[name]})
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_known_architectures_give_their_own_logits(name: str) -> None:
    model = build(name)
    check_head(model, name)
    head = head_of(model)
    assert head.num_rows == 40
    expected = {"Gemma2": (1.0, 3.0), "Cohere": (0.25, None), "Granite": (0.25, None)}
    assert (head.logit_scale, head.soft_cap) == expected.get(name, (1.0, None))
    assert (head.bias_V is not None) == (name == "Phi")


DROPOUT: dict[str, dict[str, Any]] = {
    "GPT2": {"embd_pdrop": 0.5, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1},
    "GPTNeoX": {"hidden_dropout": 0.5},
    "Llama": {"attention_dropout": 0.5},
}


@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_is_no_reason_to_refuse_a_model(name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **DROPOUT[name]})
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    evaluating = model.get_input_embeddings().eval()
    for _ in range(5):
        check_head(model, name)
    assert model.training, "each module is left in the mode it was in"
    assert not evaluating.training


def test_tied_heads_are_the_embedding_itself() -> None:
    model = build_tiny_model(40, seed=0)
    assert head_of(model).weight_VH is model.get_input_embeddings().weight


def test_an_architecture_that_does_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build("Cohere")
    plain = Head(head_of(model).weight_VH)
    monkeypatch.setattr("leadspan.losses.heads.head_of", lambda model: plain)
    with pytest.raises(DataError, match="cohere: the logits of CohereForCausalLM must be"):
        check_head(model, "cohere")


@pytest.mark.parametrize("also_scaled", [False, True])
def test_masked_columns_do_not_hide_a_difference(
    also_scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("Phi")
    with torch.no_grad():
        model.lm_head.bias[[3, 7]] = -torch.inf
    if not also_scaled:
        check_head(model, "phi")
        return
    scaled = replace(head_of(model), logit_scale=0.5)
    monkeypatch.setattr("leadspan.losses.heads.head_of", lambda model: scaled)
    with pytest.raises(DataError, match="they differ"):
        check_head(model, "phi")


def test_a_head_that_is_no_plain_matrix_is_refused() -> None:
    model = build("Llama")
    model.lm_head = torch.nn.Identity()
    with pytest.raises(DataError, match="must be one linear layer; got Identity"):
        head_of(model)
    model = build("Llama")
    model.lm_head.lora_A = torch.nn.ModuleDict()
    with pytest.raises(DataError, match="must be a plain float matrix; got Linear"):
        head_of(model)
