"""Choosing the next token from logits. Pure; knows nothing about models or batches of requests.

Shape suffixes: B rows, V vocabulary, T steps.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def compute_uniforms(seed: int, steps: int) -> NDArray[np.float64]:
    """One uniform number a step, shape [T], in [0, 1); the same for a seed on every machine."""
    return np.random.Generator(np.random.Philox(key=seed)).random(steps)


def choose_greedy(logits_BV: Tensor) -> Tensor:
    """The likeliest token of each row, shape [B]."""
    return logits_BV.argmax(dim=-1)


def choose_sampled(
    logits_BV: Tensor,
    uniform_B: Tensor,
    sampling_temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """Sample a token of each row by inverting its cumulative distribution at `uniform_B`.

    A row's token depends on its own logits and its own number alone, so an answer is the same
    whatever stands beside it. The cumulative sum runs in float64 and in the vocabulary's order: two
    tokens of nearly equal probability cannot trade places when the logits move by rounding.

    Args:
        logits_BV: Raw logits, any float dtype.
        uniform_B: float64, in [0, 1).
        sampling_temperature: > 0.
        top_p: Keep the smallest set of likeliest tokens with at least this mass.
        top_k: Keep this many of the likeliest tokens; 0 keeps all. Applied before `top_p`.

    Returns:
        Token ids, shape [B].
    """
    probs_BV = torch.softmax(logits_BV.double() / sampling_temperature, dim=-1)
    if 0 < top_k < probs_BV.shape[-1]:
        least_B1 = probs_BV.topk(top_k, dim=-1).values[:, -1:]
        probs_BV = probs_BV.masked_fill(probs_BV < least_B1, 0.0)
        probs_BV = probs_BV / probs_BV.sum(dim=-1, keepdim=True)
    if top_p < 1.0:
        sorted_BV = probs_BV.sort(dim=-1, descending=True).values
        before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
        # The last token whose predecessors hold less than top_p is the least likely one kept.
        kept_B1 = (before_BV < top_p).sum(dim=-1, keepdim=True)
        least_B1 = sorted_BV.gather(-1, kept_B1 - 1)
        probs_BV = probs_BV.masked_fill(probs_BV < least_B1, 0.0)
    cumulative_BV = probs_BV.cumsum(dim=-1)
    target_B1 = uniform_B.unsqueeze(-1) * cumulative_BV[:, -1:]
    return (
        torch.searchsorted(cumulative_BV, target_B1, right=True)
        .squeeze(-1)
        .clamp_max(probs_BV.shape[-1] - 1)
    )
