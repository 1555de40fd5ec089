"""Intervals and tests against hand calculation, other libraries, simulation, and at their edges."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from leadspan.statistics import (
    Floats,
    Interval,
    compare_paired,
    difference_interval,
    mean_interval,
    ratio_interval,
    share_interval,
)


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def draw(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Floats:
    return np.random.default_rng(seed).uniform(low, high, shape)


@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [
        ([np.zeros(30)], 0.0, 0.122),
        ([np.zeros((3, 30))], 0.0, 0.122),
        ([np.ones((10, 30))], 0.878, 1.0),
        ([np.zeros(30), np.zeros(30)], 0.0, 0.063),
        ([np.ones(10), np.zeros(1000)], 0.363, 0.502),
        ([np.ones(1)], 0.006, 1.0),
    ],
    ids=[
        "no hit",
        "no hit of three seeds",
        "all hits of ten seeds",
        "two benchmarks",
        "two benchmarks, each all alike",
        "one problem",
    ],
)
def test_an_interval_has_a_width_where_all_score_the_same(
    scores: list[Floats], low: float, high: float
) -> None:
    assert ends(mean_interval(scores)) == pytest.approx((low, high), abs=2e-3)


@pytest.mark.parametrize(("hits", "trials"), [(0, 30), (1, 30), (15, 30), (30, 30), (490, 500)])
def test_pass_or_fail_is_wilsons_interval(hits: int, trials: int) -> None:
    """With the confidence at which the normal quantile is Student's."""
    quantile = stats.t.ppf(0.975, trials - 1)
    confidence = 2 * stats.norm.cdf(quantile) - 1
    expected = stats.binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    assert ends(share_interval(hits, trials)) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize(("hits", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_a_share_is_of_trials(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="num_hits must be within"):
        share_interval(hits, trials)


def test_problems_count_not_samples_and_not_benchmark_sizes() -> None:
    two = mean_interval([np.array([1.0, 0.0])])
    assert two.high - two.low > 0.8
    assert mean_interval([np.ones(10), np.zeros(1000)]).value == 0.5


def test_a_variance_has_a_part_of_the_problems_and_one_of_the_seeds() -> None:
    """Scores that are a problem's part plus a seed's, without noise: both are known exactly."""
    problems_P = draw(0, 400, low=-0.1, high=0.1)
    seeds_S = np.array([-0.2, -0.05, 0.1, 0.15])
    scores_SP = 0.5 + problems_P + seeds_S[:, None]
    found = difference_interval([scores_SP], [np.zeros((4, 400))])
    variance = problems_P.var(ddof=1) / 400 + seeds_S.var(ddof=1) / 4
    half = stats.t.ppf(0.975, 3) * np.sqrt(variance)  # nearly all of it comes from four seeds
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-2)


def test_more_seeds_of_the_same_answers_say_nothing_new_about_the_problems() -> None:
    score_P = (draw(1, 60) < 0.4).astype(float)
    assert ends(mean_interval([np.tile(score_P, (5, 1))])) == pytest.approx(
        ends(mean_interval([score_P])), abs=1e-9
    )


def test_seeds_shared_by_benchmarks_do_not_average_out() -> None:
    shift_S1 = np.array([[-0.2], [0.0], [0.2]])
    alike = [0.5 + shift_S1 + draw(seed, 3, 50, low=-0.1, high=0.1) for seed in (0, 1)]
    opposed = [alike[0], 1.0 - alike[1]]
    together, cancelled = mean_interval(alike), mean_interval(opposed)
    assert together.high - together.low > 3 * (cancelled.high - cancelled.low)


def test_a_paired_difference_is_tighter_than_two_intervals() -> None:
    generator = np.random.default_rng(0)
    first = generator.beta(0.3, 0.7, 30)
    second = np.clip(first - 0.05, 0, 1)
    compared, alone = compare_paired([first], [second]), mean_interval([first])
    assert compared.difference.value == pytest.approx(np.mean(second - first))
    assert compared.difference.high < 0
    assert compared.difference.high - compared.difference.low < 0.3 * (alone.high - alone.low)
    assert compared.p_value < 0.01
    assert compared.ratio is not None
    assert compared.ratio.value == pytest.approx(second.mean() / first.mean())


def test_many_problems_give_students_paired_interval() -> None:
    first, second = draw(0, 2000), draw(1, 2000)
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    found = difference_interval([second], [first])
    assert ends(found) == pytest.approx(tuple(expected), rel=2e-3)


def test_the_ends_of_a_ratio_are_where_the_difference_is_at_its_limit() -> None:
    first, second = draw(0, 200, low=0.2, high=0.9), draw(1, 200, high=0.7)
    ratio = ratio_interval([second], [first])
    assert ratio is not None
    # `second - low * first` is as large, and `second - high * first` as small, as chance allows.
    for end, side in ((ratio.low, 1), (ratio.high, -1)):
        gap = second - end * first
        error = gap.std(ddof=1) / np.sqrt(200)
        assert side * gap.mean() / error == pytest.approx(stats.t.ppf(0.975, 199), rel=0.02)


def test_a_ratio_to_what_may_be_nothing_has_no_upper_end() -> None:
    reference, scores = np.zeros(30), np.zeros(30)
    reference[0] = scores[:3] = 1.0
    ratio = ratio_interval([scores], [reference])
    assert ratio is not None
    assert ratio.high == np.inf
    assert 0 <= ratio.low < 1
    assert ratio_interval([scores], [np.zeros(30)]) is None


def test_runs_alike_do_not_differ_but_might() -> None:
    same = compare_paired([np.array([0.5, 1.0, 0.0])], [np.array([0.5, 1.0, 0.0])])
    assert (same.p_value, same.difference.value) == (1.0, 0.0)
    assert same.difference.low < 0 < same.difference.high
    assert compare_paired([np.zeros(3)], [np.ones(3)]).ratio is None


def test_seeds_are_paired_where_both_have_as_many() -> None:
    shift_S1 = np.array([[-0.2], [0.0], [0.2]])
    first = 0.5 + shift_S1 + draw(0, 3, 80, low=-0.1, high=0.1)
    second = 0.4 + shift_S1 + draw(1, 3, 80, low=-0.1, high=0.1)
    paired = difference_interval([second], [first])
    for seeds in (1, 2):
        apart = difference_interval([second], [first[:seeds]])
        assert apart.high - apart.low > 3 * (paired.high - paired.low)


def test_p_value_against_every_sign_pattern() -> None:
    first, second = np.array([0.2, 0.5, 0.1, 0.4]), np.array([0.4, 0.4, 0.5, 0.9])
    difference = second - first
    sums = [abs(np.dot(signs, difference)) for signs in product((-1, 1), repeat=4)]
    expected = np.mean([total >= abs(difference.sum()) - 1e-12 for total in sums])
    assert compare_paired([first], [second]).p_value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "reference"),
    [([], []), ([np.zeros(0)], [np.zeros(0)]), ([np.zeros(3)], [np.zeros(4)])],
    ids=["no benchmark", "no problem", "other problems"],
)
def test_scores_without_a_pair_are_refused(scores: list[Floats], reference: list[Floats]) -> None:
    with pytest.raises(ValueError, match="scores"):
        compare_paired(scores, reference)


def test_many_studies_at_once_give_the_same_as_one_by_one() -> None:
    scores, reference = draw(0, 5, 3, 20), draw(1, 5, 3, 20)
    means, ratios = mean_interval([scores]), ratio_interval([scores], [reference])
    for study, (one, other) in enumerate(zip(scores, reference, strict=True)):
        for together, alone in (
            (means, mean_interval([one])),
            (ratios, ratio_interval([one], [other])),
        ):
            assert together is not None
            assert alone is not None
            shown = [float(np.asarray(end)[study]) for end in (together.value, *ends(together))]
            assert shown == pytest.approx([alone.value, *ends(alone)])


@pytest.mark.parametrize("accuracy", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_what_they_promise(accuracy: float, seeds: int) -> None:
    """A small part of benchmarks/coverage.py, on difficulties of another kind: two sorts of problems."""
    generator = np.random.default_rng(7)
    studies, problems = 400, 60
    spread = 0.9 * min(accuracy, 1 - accuracy)
    chance = accuracy + spread * generator.choice([-1, 1], (studies, 1, problems))
    shift = generator.uniform(-0.1, 0.1, (studies, seeds, 1)) if seeds > 1 else 0.0
    chance = chance + shift * chance * (1 - chance)
    first = (generator.random((studies, seeds, problems)) < chance).astype(float)
    second = (generator.random((studies, seeds, problems)) < 0.8 * chance).astype(float)
    for truth, interval in (
        (accuracy, mean_interval([first])),
        (0.8, ratio_interval([second], [first])),
    ):
        assert interval is not None
        low, high = (np.asarray(end) for end in ends(interval))
        covered = np.mean(((low <= truth) & (truth <= high))[first.any(axis=(1, 2))])
        # 400 studies know a coverage of 0.95 to 0.022 either way.
        assert covered >= 0.93 - 0.022
