"""The world's tokenizer and its two models, small Qwen3 networks trained on the next token.

The tokenizer has a token a character, four special tokens, and a chat template. Knows nothing about
files or distillation.

Shape suffixes: B rows, T tokens, H hidden size, V vocabulary, N = B * (T - 1) labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadspan.progress import progress
from leadspan.world.problems import ALPHABET, Solution, draw_problems, solve

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
SPECIAL_TOKENS = (PAD, END, USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '<|user|>' + message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' + message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""The generation prompt does not open the think block: the student writes `<think>` itself."""


def build_tokenizer() -> Any:
    """Build the tokenizer; the same ids every time, `<|pad|>` is 0."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *ALPHABET))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    # The think markers stay visible when special tokens are skipped in decoding, as in Qwen3.
    tokenizer.add_tokens([THINK_OPEN, THINK_CLOSE], special_tokens=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@dataclass(frozen=True, slots=True)
class EncodedTrace:
    """A trace as ids: the prompt as generation feeds it, then all that the model writes."""

    prompt: list[int]
    completion: list[int]


def encode_trace(tokenizer: Any, prompt: str, solution: Solution) -> EncodedTrace:
    """Encode by dictionary: in this vocabulary a character is a token, whatever stands beside it."""
    ids = tokenizer.get_vocab()
    completion = (THINK_OPEN, *solution.cot, THINK_CLOSE, *solution.answer, END)
    return EncodedTrace(
        [ids[token] for token in (USER, *prompt, ASSISTANT)], [ids[token] for token in completion]
    )


def count_tokens(prompt: str, solution: Solution) -> tuple[int, int]:
    """Tokens of the whole sequence up to the end of the derivation, and in all."""
    before_cot = len(prompt) + 3  # the user, assistant and open markers
    total = before_cot + len(solution.cot) + 1 + len(solution.answer) + 1
    return before_cot + solution.derivation_end, total


WARMUP_STEPS = 20
ADAMW_SHARE = 0.2
ACCURACY_STEPS = 10
PROMPT_WEIGHT = 0.3
"""Weight of the prompt's tokens. They are mostly noise, but a model that has never predicted them
moves far when a distillation scores them (P+CoT at lsp 1.0: 0.53 instead of 0.99 without)."""


@dataclass(frozen=True)
class ModelShape:
    """Architecture of a Qwen3 model with tied embeddings."""

    hidden: int = 96
    intermediate: int = 256
    layers: int = 2
    heads: int = 4
    head_dim: int = 24


@dataclass(frozen=True)
class Phase:
    """Part of a training: steps of `batch_size` problems of one size, the size drawn per step."""

    steps: int
    batch_size: int
    sizes: tuple[int, ...]
    """Numbers of additions. One size a step, so that no row needs padding."""
    first_learning_rate: float
    """Of the matrices; embeddings and norms learn at `ADAMW_SHARE` of it."""
    last_learning_rate: float
    """Reached by a cosine."""
    until: float = 0.0
    """Go on at the last learning rate, for at most as many steps again, until this share of the
    digits is predicted right: copying and adding are each learnt all at once, some seeds later."""
    digit_weight: float = 1.0
    """Weight in the loss of digits; they are what is hard to predict."""
    result_weight: float = 1.0
    """Weight of the digits after `=`. 10 halves the steps until additions are learnt, but alone it
    leaves seeds that do not learn to copy."""


def build_model(shape: ModelShape, tokenizer: Any, seed: int) -> Any:
    """Build a random model whose generation stops at the end token."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        initializer_range=0.08,  # the usual 0.02 is for wide models; it doubles the training here
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def train_next_token(
    model: Any,
    tokenizer: Any,
    phases: Sequence[Phase],
    label: str,
    late: bool,
    gap: Any,
    rng: np.random.Generator,
) -> None:
    """Train in place on fresh traces.

    Args:
        model: A causal language model.
        tokenizer: The world's.
        phases: One after another, with one optimiser.
        label: Shown with the progress.
        late: Write the traces of the late variant.
        gap: Additions whose result is random, or None (see `draw_gap`).
        rng: Draws everything.
    """
    import torch

    optimizers = _build_optimizers(model)
    model.train()
    done = 0
    with progress(f"World: {label}", sum(phase.steps for phase in phases)) as advance:
        for phase in phases:
            shares: list[float] = []
            while len(shares) < phase.steps or (
                len(shares) < 2 * phase.steps and np.mean(shares[-ACCURACY_STEPS:]) < phase.until
            ):
                rate = _learning_rate(phase, len(shares)) * min(1.0, (done + 1) / WARMUP_STEPS)
                input_ids_BT, prompt = _draw_batch(tokenizer, phase, late, gap, rng)
                loss, share = _weighted_loss(model, input_ids_BT, prompt, tokenizer, phase)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer, part in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = rate * part
                    optimizer.step()
                model.zero_grad()
                shares.append(share)
                done += 1
                if len(shares) <= phase.steps:
                    advance(note=f"{100 * share:.0f} % of digits right")
    model.eval()


def _build_optimizers(model: Any) -> list[tuple[Any, float]]:
    """Muon for the matrices, AdamW for the rest, each with its share of the learning rate.

    Muon learns the format and the addition table here in a third of AdamW's steps.
    """
    import torch

    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim != 2 or p is embedding]
    muon = torch.optim.Muon(matrices, lr=0.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    return [(muon, 1.0), (adamw, ADAMW_SHARE)]


def _learning_rate(phase: Phase, step: int) -> float:
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, step / phase.steps)))
    return phase.last_learning_rate + share * (phase.first_learning_rate - phase.last_learning_rate)


def _draw_batch(
    tokenizer: Any, phase: Phase, late: bool, gap: Any, rng: np.random.Generator
) -> tuple[Any, int]:
    """Ids [B, T] of fresh traces of one size, and how many of the T are the prompt's."""
    import torch

    size = int(rng.choice(phase.sizes))
    rows, prompt = [], 0
    for problem in draw_problems(rng, phase.batch_size, (size,)):
        parts = encode_trace(tokenizer, problem.text, solve(problem, late, gap, rng))
        rows.append([*parts.prompt, *parts.completion])
        prompt = len(parts.prompt)
    return torch.tensor(rows), prompt


def _weighted_loss(
    model: Any, input_ids_BT: Any, prompt: int, tokenizer: Any, phase: Phase
) -> tuple[Any, float]:
    """Weighted mean of the cross-entropy, and the share of the completion's digits predicted."""
    import torch
    import torch.nn.functional as functional

    zero, equals = tokenizer.convert_tokens_to_ids(["0", "="])
    logits_NV = model(input_ids=input_ids_BT[:, :-1], use_cache=False).logits.float().flatten(0, 1)
    labels_BT = input_ids_BT[:, 1:]
    is_prompt_BT = torch.arange(1, input_ids_BT.shape[1]).expand_as(labels_BT) < prompt
    is_digit_BT = (labels_BT >= zero) & (labels_BT < zero + 10) & ~is_prompt_BT
    weights_BT = 1.0 + (phase.digit_weight - 1.0) * is_digit_BT
    weights_BT = weights_BT.masked_fill(input_ids_BT[:, :-1] == equals, phase.result_weight)
    weights_N = weights_BT.masked_fill(is_prompt_BT, PROMPT_WEIGHT).flatten()
    labels_N = labels_BT.flatten()
    losses_N = functional.cross_entropy(logits_NV, labels_N, reduction="none")
    right_N = (logits_NV.argmax(-1) == labels_N)[is_digit_BT.flatten()]
    return (losses_N * weights_N).sum() / weights_N.sum(), float(right_N.float().mean())
