"""Statistics against enumeration, against simulation, and at their edges."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from leadspan.evaluation.metrics import (
    compare_paired,
    maj_at_k,
    mean_interval,
    pass_at_k,
)


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


def test_interval_is_one_over_problems_not_samples():
    """Two problems with a thousand samples each say little about other problems."""
    assert (
        mean_interval([np.array([1.0, 0.0])]).high - mean_interval([np.array([1.0, 0.0])]).low > 0.8
    )


def test_interval_has_a_width_where_all_score_the_same():
    interval = mean_interval([np.ones(30)])
    assert interval.high == interval.value == 1.0
    assert 0.8 < interval.low < 0.95


def test_benchmarks_weigh_the_same():
    assert mean_interval([np.ones(10), np.zeros(1000)]).value == 0.5


def coverage(a, b, problems, samples, trials=1000):
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(trials):
        chance = generator.beta(a, b, problems)
        score = generator.binomial(samples, chance) / samples
        interval = mean_interval([score])
        hits += interval.low <= a / (a + b) <= interval.high
    return hits / trials


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b", "problems", "samples"),
    [(0.3, 0.7, 30, 64), (0.3, 0.7, 30, 1), (2, 2, 30, 16), (0.5, 0.2, 40, 4), (3, 1, 200, 1)],
)
def test_a_nominal_95_interval_covers_93_to_97(a, b, problems, samples):
    # 1,000 trials know a coverage to 0.007 either way; docs/evaluation.md has 6,000 of each.
    assert 0.93 - 0.007 <= coverage(a, b, problems, samples) <= 0.97 + 0.007


@pytest.mark.slow
def test_paired_intervals_cover_and_the_test_keeps_its_level():
    generator = np.random.default_rng(3)
    covered = ratio_covered = rejected = 0
    trials = 300
    for _ in range(trials):
        chance = generator.beta(1, 1, 40)
        first = generator.binomial(8, chance) / 8
        second = generator.binomial(8, 0.8 * chance) / 8
        compared = compare_paired([first], [second])
        covered += compared.difference.low <= -0.1 <= compared.difference.high
        ratio_covered += compared.ratio.low <= 0.8 <= compared.ratio.high
        same = compare_paired([first], [generator.binomial(8, chance) / 8])
        rejected += same.p_value < 0.05
    assert 0.92 <= covered / trials <= 0.98
    assert 0.92 <= ratio_covered / trials <= 0.98
    assert rejected / trials <= 0.08


def test_paired_difference_is_tighter_than_the_two_intervals():
    generator = np.random.default_rng(0)
    first = generator.beta(0.3, 0.7, 30)
    second = np.clip(first - 0.05, 0, 1)
    compared = compare_paired([first], [second])
    alone = mean_interval([first])
    assert compared.difference.value == pytest.approx(np.mean(second - first))
    assert compared.difference.high - compared.difference.low < 0.2 * (alone.high - alone.low)
    assert compared.p_value < 0.01
    assert compared.ratio.value == pytest.approx(second.mean() / first.mean())


def test_p_value_against_every_sign_pattern():
    first, second = np.array([0.2, 0.5, 0.1, 0.4]), np.array([0.4, 0.4, 0.5, 0.9])
    difference = second - first
    sums = [abs(np.dot(signs, difference)) for signs in product((-1, 1), repeat=4)]
    expected = np.mean([total >= abs(difference.sum()) - 1e-12 for total in sums])
    assert compare_paired([first], [second]).p_value == pytest.approx(expected)


def test_runs_alike_and_runs_without_a_hit():
    same = compare_paired([np.array([0.5, 1.0])], [np.array([0.5, 1.0])])
    assert (same.p_value, same.difference.value) == (1.0, 0.0)
    assert compare_paired([np.zeros(3)], [np.ones(3)]).ratio is None


def test_empty_scores_are_refused():
    with pytest.raises(ValueError, match="at least one problem"):
        mean_interval([np.array([])])
