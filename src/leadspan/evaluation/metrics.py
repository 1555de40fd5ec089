"""pass@k and maj@k of the samples of one problem. Pure; intervals are in `leadspan.statistics`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def pass_at_k(num_correct: int, num_samples: int, k: int) -> float:
    """Chance that at least one of `k` of the samples, drawn without replacement, is correct.

    The unbiased estimator of Chen et al. 2021, arXiv:2107.03374, section 2.1.

    Raises:
        ValueError: `k` is not within 1 and `num_samples`.
    """
    _check_k(k, num_samples)
    num_wrong = num_samples - num_correct
    if num_wrong < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(num_wrong + 1, num_samples + 1)))


def maj_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Score of the answer given most often among `k` samples.

    Ties share: where several answers are given equally often, the score is the share of them that
    is correct, which is what a random pick would score on average. An answer that could not be read
    (None) has no vote; without any vote the score is 0. With more than `k` samples the score is the
    mean over consecutive groups of `k`; a last group that is not full is left out.

    Args:
        answers: What each sample answered; equal answers are equal values.
        correct: Whether it is correct, the same for equal answers.
        k: Votes.

    Raises:
        ValueError: `k` is not within 1 and the number of samples.
    """
    _check_k(k, len(answers))
    starts = range(0, len(answers) - k + 1, k)
    scores = [_majority(answers[s : s + k], correct[s : s + k]) for s in starts]
    return float(np.mean(scores))


def _majority(answers: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    votes: dict[Hashable, int] = {}
    right: dict[Hashable, bool] = {}
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
            right[answer] = right.get(answer, False) or is_correct
    if not votes:
        return 0.0
    most = max(votes.values())
    tied = [answer for answer, count in votes.items() if count == most]
    return sum(right[answer] for answer in tied) / len(tied)


def _check_k(k: int, num_samples: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k must be within 1 and the {num_samples} samples; got {k}.")
