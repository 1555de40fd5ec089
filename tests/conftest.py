"""Small real parts for every test: a character tokenizer, random Qwen3 models, made-up traces."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from leadspan.records import Message, Trace

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SPECIAL = ["<pad>", "<end>", "<think>", "</think>"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 +=?.,:\n"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real traces beside the checkout, where there are any."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


def build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, think markers as special tokens, a one-line chat template."""
    vocab = {token: place for place, token in enumerate([*SPECIAL, *CHARACTERS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens=["<think>", "</think>"],
    )
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    )
    return tokenizer


def build_tiny_model(vocab_size: int, seed: int, hidden: int = 32) -> Qwen3ForCausalLM:
    """A random Qwen3 with two layers and tied embeddings."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).float()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """See `build_tiny_tokenizer`."""
    return build_tiny_tokenizer()


def save_tiny_model(folder: Path, seed: int, hidden: int) -> Path:
    """Write a random model and the tokenizer as one folder."""
    tokenizer = build_tiny_tokenizer()
    build_tiny_model(len(tokenizer), seed, hidden).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with tokenizer, hidden size 32."""
    return save_tiny_model(tmp_path_factory.mktemp("student"), seed=1, hidden=32)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with tokenizer, hidden size 48."""
    return save_tiny_model(tmp_path_factory.mktemp("teacher"), seed=2, hidden=48)


def build_traces(count: int) -> list[Trace]:
    """Sums with a chain of thought whose length varies from row to row."""
    traces = []
    for number in range(count):
        left, right = number % 10, (7 * number + 3) % 10
        steps = " ".join(f"{left}+{k}={left + k}." for k in range(1, 2 + number % 5))
        traces.append(
            Trace(
                trace_id=f"sum-{number}",
                messages=(Message("user", f"{left}+{right}?"),),
                cot=f"{steps} so {left + right}.",
                answer=f"{left + right}",
                golds=(str(left + right),),
            )
        )
    return traces


@pytest.fixture(scope="session")
def tiny_traces() -> list[Trace]:
    """Forty of them."""
    return build_traces(40)
