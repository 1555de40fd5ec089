"""The world's two models, small Qwen3 networks, and the next-token training that makes them.

Knows nothing about files or distillation.

Shape suffixes: B rows, T tokens, H hidden size, V vocabulary, C tokens of the completion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadspan.progress import progress
from leadspan.world.problems import draw_problems, solve
from leadspan.world.tokenizer import encode_trace

WARMUP_STEPS = 20
ADAMW_SHARE = 0.2


@dataclass(frozen=True)
class ModelShape:
    """Architecture of a Qwen3 model with tied embeddings."""

    hidden: int = 96
    intermediate: int = 256
    layers: int = 2
    heads: int = 3
    head_dim: int = 32


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
    only_lead: bool = False
    """End each trace with its derivation: short and rich in additions, a good beginning."""


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
    """Train in place on fresh traces, on the completion alone.

    The prompt is noise to the model, so that scoring it would only teach it noise.

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
            for step in range(phase.steps):
                rate = _learning_rate(phase, step) * min(1.0, (done + 1) / WARMUP_STEPS)
                loss = _completion_loss(model, *_draw_batch(tokenizer, phase, late, gap, rng))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer, share in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = rate * share
                    optimizer.step()
                model.zero_grad()
                done += 1
                advance(note=f"loss {loss.item():.3f}")
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
    share = 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return phase.last_learning_rate + share * (phase.first_learning_rate - phase.last_learning_rate)


def _draw_batch(
    tokenizer: Any, phase: Phase, late: bool, gap: Any, rng: np.random.Generator
) -> tuple[Any, int]:
    """Ids [B, T] of fresh traces of one size, and how many of the T are the prompt's."""
    import torch

    size = int(rng.choice(phase.sizes))
    rows, prompt = [], 0
    for problem in draw_problems(rng, phase.batch_size, (size,)):
        solution = solve(problem, late, gap, rng)
        parts = encode_trace(tokenizer, problem.text, solution)
        completion = parts.completion
        if phase.only_lead:
            completion = completion[: 1 + solution.derivation_end]
        rows.append([*parts.prompt, *completion])
        prompt = len(parts.prompt)
    return torch.tensor(rows), prompt


def _completion_loss(model: Any, input_ids_BT: Any, prompt: int) -> Any:
    """Mean cross-entropy over the completion's tokens."""
    import torch.nn.functional as functional

    hidden_BTH = model.model(input_ids=input_ids_BT[:, :-1], use_cache=False).last_hidden_state
    logits_BCV = model.lm_head(hidden_BTH[:, prompt - 1 :]).float()
    return functional.cross_entropy(logits_BCV.flatten(0, 1), input_ids_BT[:, prompt:].flatten())
