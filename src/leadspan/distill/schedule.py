"""Learning rate over training, as a factor of its peak. Pure."""

from __future__ import annotations

import math

from leadspan.config import TrainingConfig

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25
"""Start and end factors of torch's OneCycleLR, which the published runs used."""


def compute_lr_factor(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Factor of `config.learning_rate` at 0-based `step` of `num_steps`, in (0, 1].

    The first step of a warm-up is above zero, so that no step is spent for nothing.
    """
    num_warmup = min(round(config.warmup_fraction * num_steps), num_steps - 1)
    if step < num_warmup:
        if config.schedule == "one_cycle":
            return _anneal(ONE_CYCLE_START, 1.0, step / max(1, num_warmup))
        return (step + 1) / (num_warmup + 1)
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "one_cycle":
        return _anneal(1.0, ONE_CYCLE_END, (step - num_warmup) / max(1, num_steps - 1 - num_warmup))
    return _anneal(1.0, 0.0, done)


def _anneal(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
