"""pass@k and maj@k against enumeration and simulation."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from leadspan.evaluation.summary import maj_at_k, pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k"), [(n, c, k) for n in (1, 4, 7) for c in range(n + 1) for k in range(1, n + 1)]
)
def test_pass_at_k_is_the_share_of_draws_with_a_hit(n, c, k):
    outcomes = [True] * c + [False] * (n - c)
    draws = [any(draw) for draw in combinations(outcomes, k)]
    assert len(draws) == comb(n, k)
    assert pass_at_k(c, n, k) == pytest.approx(np.mean(draws), abs=1e-12)


@pytest.mark.parametrize("k", [0, 5])
def test_k_must_be_within_the_samples(k):
    with pytest.raises(ValueError, match="within 1 and the 4 samples"):
        pass_at_k(1, 4, k)
    with pytest.raises(ValueError, match="within 1 and the 4 samples"):
        maj_at_k(["a"] * 4, [True] * 4, k)


@pytest.mark.parametrize(
    ("answers", "right", "k", "score"),
    [
        (["a", "a", "b"], "a", 3, 1.0),
        (["a", "b", "b"], "a", 3, 0.0),
        (["a", "b"], "a", 2, 0.5),
        (["a", "b", "c"], "a", 3, 1 / 3),
        (["a", None, None], "a", 3, 1.0),
        ([None, None], "a", 2, 0.0),
        (["a", "a", "b", "b"], "a", 2, 0.5),
        (["a", "b", "b"], "b", 2, 0.5),
    ],
)
def test_majority_and_its_ties(answers, right, k, score):
    assert maj_at_k(answers, [answer == right for answer in answers], k) == pytest.approx(score)


def test_majority_ties_are_a_random_pick_on_average():
    answers = ["a", "b", "c", "a", "b"]
    generator = np.random.default_rng(0)
    picks = [generator.choice(["a", "b"]) == "a" for _ in range(4000)]
    assert maj_at_k(answers, [a == "a" for a in answers], 5) == pytest.approx(
        np.mean(picks), abs=0.03
    )
