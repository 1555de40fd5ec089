"""The optimiser of a run and its learning rate. Knows nothing about losses or data."""

from __future__ import annotations

import math

import torch

from leadspan.config import TrainingConfig

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25
"""Start and end factors of torch's OneCycleLR, which the published runs used."""


def compute_lr_factor(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Factor of `config.learning_rate` at 0-based `step` of `num_steps`, in (0, 1].

    The first step of a warm-up is above zero, so that no step is spent for nothing.
    """
    if config.lr_schedule == "one_cycle":
        return _one_cycle(step, num_steps, config.warmup_fraction)
    num_warmup = min(round(config.warmup_fraction * num_steps), num_steps - 1)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    done = (step - num_warmup) / (num_steps - num_warmup)
    if config.lr_schedule == "constant":
        return 1.0
    if config.lr_schedule == "linear":
        return 1.0 - done
    return _anneal(1.0, 0.0, done)


def _one_cycle(step: int, num_steps: int, warmup_fraction: float) -> float:
    """As torch's OneCycleLR, whose peak may lie between two steps."""
    peak = max(0.0, warmup_fraction * num_steps - 1)
    if step < peak:
        return _anneal(ONE_CYCLE_START, 1.0, step / peak)
    return _anneal(1.0, ONE_CYCLE_END, (step - peak) / max(1.0, num_steps - 1 - peak))


def _anneal(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def build_optimizer(
    objective: torch.nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Fused AdamW; weight decay on matrices only."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=training.adam_betas,
        fused=True,
    )
