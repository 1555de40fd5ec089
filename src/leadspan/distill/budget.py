"""How long a run is: in steps, in epochs, or until a budget of tokens or FLOPs is spent. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as SequenceABC

import numpy as np

from leadspan.config import TrainingConfig
from leadspan.distill.batches import compute_order

CostOf = Callable[[SequenceABC[int]], float]
"""Tokens or FLOPs of one optimiser step, from the indices of its examples."""


def compute_num_steps(training: TrainingConfig, num_examples: int) -> int:
    """Optimiser steps of a run whose length is given in steps or epochs."""
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    return math.ceil(training.epochs * num_examples / training.batch_size)


def compute_budget_steps(
    training: TrainingConfig, num_examples: int, seed: int, cost_of: CostOf
) -> int:
    """The number of steps whose summed cost is nearest to the budget, at least one.

    Args:
        training: Gives `budget` and `batch_size`.
        num_examples: Of the training share.
        seed: Of the data order: the same steps are counted that will be run.
        cost_of: In the unit of the budget.
    """
    assert training.budget is not None
    budget = training.budget.tokens or training.budget.flops or 0.0
    spent, steps, epochs = 0.0, 0, 1
    size = training.batch_size
    order = compute_order(num_examples, num_examples, seed)
    while True:
        if (steps + 1) * size > len(order):
            epochs *= 2
            order = compute_order(num_examples, epochs * num_examples + size, seed)
        cost = cost_of(np.asarray(order[steps * size : (steps + 1) * size]).tolist())
        if steps and spent + cost - budget > budget - spent:
            return steps
        spent, steps = spent + cost, steps + 1
        if spent >= budget:
            return steps
