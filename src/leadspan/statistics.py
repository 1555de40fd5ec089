"""How sure a figure is: every interval, paired difference, retention and p-value of the package.

Pure numpy and scipy; knows nothing of files, runs or reports. Scores lie in [0, 1] and are crossed:
each of S training seeds answers the same P problems of a benchmark, and several benchmarks weigh the
same. Chance enters twice, through the problems and through the seeds, so a variance has two parts
(the two-way random-effects analysis of variance, Searle et al. 1992, "Variance Components", ch. 4):

- between problems: the variance of the problems' means over the seeds, divided by P;
- between seeds: the variance of the seeds' means, divided by S, less what the problems' noise puts
  there, at least 0. One seed says nothing about other seeds: its interval is that of one student.

A mean gets Wilson's interval for the effective number of problems, a difference Student's, a ratio
the set of ratios that the interval of `numerator - ratio * denominator` does not refuse (Fieller 1954).
Measured coverage: `benchmarks/coverage.py` and docs/evaluation.md.

Shape suffixes: S seeds, P problems, A arms (1 for a mean, 2 for a comparison). `...` stands for axes of
independent studies, which the benchmark uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9_999
"""Sign patterns drawn by the p-value; where there are fewer, every one is tried."""
SHRINKAGE = 0.1
"""Weight, in problems, of one that is either always or never solved."""
UNSEEN = 0.001
"""Weight, in problems, of a difference larger than any seen."""
HALVINGS = 50
"""Of the search for the ends of a ratio; 2**-50 is below float64's resolution of a share."""
MEAN, DIFFERENCE = np.array([1.0]), np.array([1.0, -1.0])
"""Weights of the arms."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; arrays [...] where the scores are of many studies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the same problems."""

    difference: Interval
    """Second minus first."""
    ratio: Interval | None
    """Second over first, the retention; None where the first scores nothing."""
    p_value: float
    """Two-sided, of no difference: how often random signs give one as large."""


def share_interval(num_hits: int, num_trials: int) -> Interval:
    """A share of independent trials, by the rule of `mean_interval`.

    Raises:
        ValueError: There is no trial, or more hits than trials.
    """
    if not 0 <= num_hits <= num_trials or num_trials < 1:
        raise ValueError(f"num_hits must be within 0 and {num_trials} trials; got {num_hits}.")
    return mean_interval([(np.arange(num_trials) < num_hits).astype(float)])


def mean_interval(scores: Sequence[Floats]) -> Interval:
    """Mean over benchmarks of the mean over problems and seeds.

    Wilson's interval (1927), for as many independent problems as would have the variance found. Of
    several benchmarks it is the mean of their Wilson intervals, each at the quantile at which the
    whole has its own standard error, as Bonett and Price (2006) combine two proportions. What few
    seeds add to the quantile widens both sides alike.

    Args:
        scores: One array [P] or [..., S, P] a benchmark, the seeds in the same order in each.

    Raises:
        ValueError: There is no benchmark, or one without a problem.
    """
    (scores,) = _checked(scores)
    alone = [_spread_of([[score]]) for score in scores]
    means = [spread.mean(MEAN) for spread in alone]
    counts = [spread.effective_problems() for spread in alone]
    squares = [mean * (1 - mean) / n + 1 / n**2 for mean, n in zip(means, counts, strict=True)]
    whole = _spread_of([scores])
    # Seeds are common to the benchmarks: what they add to the variance of the whole.
    common = whole.variance(MEAN) - sum(s.variance(MEAN) for s in alone) / len(scores) ** 2
    error = np.sqrt(np.maximum(sum(squares) / len(scores) ** 2 + common, 0.0))
    of_problems = _student(whole.problem_freedom)
    quantile = of_problems * error * len(scores) / sum(np.sqrt(s) for s in squares)
    ends = [_wilson(mean, n, quantile) for mean, n in zip(means, counts, strict=True)]
    value, widening = whole.mean(MEAN), whole.quantile(MEAN) / of_problems
    low, high = value + (np.mean(ends, axis=0) - value) * widening
    return _interval(value, np.clip(low, 0.0, value), np.clip(high, value, 1.0))


def difference_interval(scores: Sequence[Floats], reference: Sequence[Floats]) -> Interval:
    """Mean of `scores` minus that of `reference`, paired by problem, and by seed where S is the same.

    Args:
        scores: As for `mean_interval`.
        reference: The same problems in the same order; the seeds too where they are the same ones.

    Raises:
        ValueError: The problems differ, or there is none.
    """
    spread = _spread_of(_checked(scores, reference))
    value, half = spread.mean(DIFFERENCE), spread.half_width(DIFFERENCE)
    return _interval(value, np.maximum(value - half, -1.0), np.minimum(value + half, 1.0))


def ratio_interval(scores: Sequence[Floats], reference: Sequence[Floats]) -> Interval | None:
    """Mean of `scores` as a share of that of `reference`; None where that is 0.

    A ratio is searched as its share t = ratio / (1 + ratio). The upper end is infinite (t = 1) where
    the reference cannot be told from 0. Arguments and errors as for `difference_interval`.
    """
    spread = _spread_of(_checked(scores, reference))
    top, bottom = (spread.mean_A[..., arm] for arm in (0, 1))
    if not bottom.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        share = top / (top + bottom)
        ends = [_last_accepted(spread, share, np.full_like(share, edge)) for edge in (0.0, 1.0)]
        return _interval(top / bottom, *(end / (1 - end) for end in ends))


def compare_paired(first: Sequence[Floats], second: Sequence[Floats]) -> Comparison:
    """Compare two runs problem by problem; one array [P] a benchmark, means over samples.

    Raises:
        ValueError: The problems differ, or there is none.
    """
    difference, ratio = difference_interval(second, first), ratio_interval(second, first)
    apart = [(b - a) / len(a) for a, b in zip(first, second, strict=True)]
    return Comparison(difference, ratio, _sign_flip(np.concatenate(apart)))


def _sign_flip(difference_P: Floats) -> float:
    """Two-sided p-value of the sum of the differences under random signs."""
    if not difference_P.any():
        return 1.0
    test = stats.permutation_test(
        (difference_P[difference_P != 0],),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1_000,
        random_state=0,
    )
    return float(test.pvalue)


def _checked(*arms: Sequence[Floats]) -> list[list[Floats]]:
    """The arms with an axis for the seeds."""
    if not arms[0] or any(score.size == 0 for score in arms[0]):
        raise ValueError("scores must hold at least one problem a benchmark; got none.")
    if any([a.shape[-1] for a in arm] != [b.shape[-1] for b in arms[0]] for arm in arms):
        raise ValueError("scores and reference must hold the same problems.")
    return [[np.atleast_2d(score) for score in arm] for arm in arms]


def _interval(*ends: Floats) -> Interval:
    return Interval(*(end.item() if end.ndim == 0 else end for end in ends))  # type: ignore[arg-type]


def _last_accepted(spread: _Spread, inside: Floats, outside: Floats) -> Floats:
    """The share between `inside` and `outside` up to which the data do not refuse the ratio."""
    for halving in range(HALVINGS):
        share = outside if halving == 0 else (inside + outside) / 2
        weights_A = np.stack([1 - share, -share], axis=-1)
        accepted = np.abs(spread.mean(weights_A)) <= spread.half_width(weights_A)
        inside = np.where(accepted, share, inside)
        outside = np.where(accepted, outside, share)
    return inside


def _wilson(share: Floats, count: Floats, quantile: Floats) -> tuple[Floats, Floats]:
    """Wilson's interval for `share` of `count`."""
    spread = quantile**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = quantile * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


@dataclass(frozen=True, slots=True)
class _Spread:
    """What the variance of any weighted sum of the arms' means follows from."""

    mean_A: Floats
    problems_AA: Floats
    """Covariance of the means, from the problems."""
    fourth_CC: Floats
    """Fourth moments of the problems' deviations, C = A * A."""
    seeds_AA: Floats
    """Covariance of the means, from the seeds as they are seen."""
    residual_AA: Floats
    """The part of `seeds_AA` that the problems' noise accounts for."""
    num_problems: float
    problem_freedom: int
    seed_freedom: int

    def mean(self, weights_A: Floats) -> Floats:
        """The weighted sum of the means."""
        return np.asarray(np.einsum("...a,...a->...", weights_A, self.mean_A))

    def variance(self, weights_A: Floats) -> Floats:
        """Of the weighted sum."""
        seeds = _variance_of(self.seeds_AA, weights_A) - _variance_of(self.residual_AA, weights_A)
        return _variance_of(self.problems_AA, weights_A) + np.maximum(seeds, 0.0)

    def quantile(self, weights_A: Floats) -> Floats:
        """Student's, for a variance of two parts: the larger of two approximations.

        Satterthwaite's (1946) counts the seeds' raw variance, because a part that came out as 0 was
        not known to be 0. Cochran's (1964) weighs the quantiles of the parts, which is safer where
        three seeds make most of the variance.
        """
        problems, raw = (_variance_of(m, weights_A) for m in (self.problems_AA, self.seeds_AA))
        total = self.variance(weights_A)
        found = total > 0
        safe = np.where(found, total, 1.0)
        parts = problems**2 / self.problem_freedom + raw**2 / self.seed_freedom
        freedom = np.where(found, safe**2 / np.where(found, parts, 1.0), self.problem_freedom)
        least = min(self.seed_freedom, self.problem_freedom)
        satterthwaite = _student(np.clip(freedom, least, self.problem_freedom))
        of_problems, of_seeds = _student(self.problem_freedom), _student(self.seed_freedom)
        weight = np.where(found, 1 - problems / safe, 0.0)
        cochran = np.sqrt(of_problems**2 + weight * (of_seeds**2 - of_problems**2))
        return np.asarray(np.maximum(satterthwaite, cochran))

    def half_width(self, weights_A: Floats) -> Floats:
        """Half of Student's interval, as if one more problem stood out as much as those that do.

        Where hardly anything differs a variance is known badly, and where nothing does it would be 0.
        """
        second = _variance_of(self.problems_AA, weights_A)
        fourth = _variance_of(self.fourth_CC, _products(weights_A[..., None])[..., 0])
        unit = np.abs(weights_A).max(axis=-1) / self.num_problems
        one_more = (fourth + UNSEEN * unit**4) / (second + UNSEEN * unit**2)
        error = np.sqrt(self.variance(weights_A) + one_more)
        return np.asarray(self.quantile(weights_A) * error)

    def effective_problems(self) -> Floats:
        """How many independent pass-or-fail problems would have the variance of a single mean.

        Shrunk towards the number of problems, which it is where all score the same.
        """
        n = self.num_problems
        most, prior = self.mean_A[..., 0] * (1 - self.mean_A[..., 0]), SHRINKAGE / n
        problems = self.problems_AA[..., 0, 0] * (n - 1)
        seeds = (self.variance(MEAN) - self.problems_AA[..., 0, 0]) * n
        return n * (most + prior) / (problems + seeds + prior)


def _student(freedom: Floats | float) -> Floats:
    """Two-sided quantile of Student's t."""
    return np.asarray(special.stdtrit(freedom, (1 + CONFIDENCE) / 2), dtype=np.float64)


def _variance_of(matrix: Floats, weights: Floats) -> Floats:
    """The quadratic form weights' matrix weights, never negative."""
    form = np.einsum("...a,...ab,...b->...", weights, matrix, weights)
    return np.asarray(np.maximum(form, 0.0))


def _products(values: Floats) -> Floats:
    """All products of two arms, [..., A, N] -> [..., C, N]."""
    products = values[..., :, None, :] * values[..., None, :, :]
    return products.reshape(*values.shape[:-2], -1, values.shape[-1])


def _gram(values: Floats) -> Floats:
    """Sums of the products of two rows, [..., A, N] -> [..., A, A]."""
    return np.asarray(values @ values.swapaxes(-1, -2))


def _spread_of(arms: Sequence[Sequence[Floats]]) -> _Spread:
    """The spread of arms that answered the same problems, each [..., S, P] a benchmark."""
    benchmarks = [
        np.stack([score.mean(axis=-2) for score in scores], axis=-2)
        for scores in zip(*arms, strict=True)
    ]
    sizes = [means_AP.shape[-1] for means_AP in benchmarks]
    centred = [
        (means_AP - means_AP.mean(axis=-1, keepdims=True)) / (len(sizes) * size)
        for means_AP, size in zip(benchmarks, sizes, strict=True)
    ]
    grams = [_gram(c) * n / max(n - 1, 1) for c, n in zip(centred, sizes, strict=True)]
    seeds, residual = _seed_spread(arms)
    return _Spread(
        mean_A=np.mean([means_AP.mean(axis=-1) for means_AP in benchmarks], axis=0),
        problems_AA=np.sum(grams, axis=0),
        fourth_CC=np.sum([_gram(_products(c)) for c in centred], axis=0),
        seeds_AA=seeds,
        residual_AA=residual,
        num_problems=len(sizes) ** 2 / sum(1 / size for size in sizes),
        problem_freedom=max(sum(sizes) - len(sizes), 1),
        seed_freedom=min((n - 1 for arm in arms if (n := arm[0].shape[-2]) > 1), default=1),
    )


def _seed_spread(arms: Sequence[Sequence[Floats]]) -> tuple[Floats, Floats]:
    """Covariance of the means from the seeds, and how much of it the problems' noise makes.

    As many seeds in each arm are paired in order: right where they are the same ones, and no error
    where they are not, since then nothing is common to a pair.
    """
    if len({scores[0].shape[-2] for scores in arms}) == 1:
        return _crossed([np.stack(scores, axis=-3) for scores in zip(*arms, strict=True)])
    apart = [_crossed([score[..., None, :, :] for score in scores]) for scores in arms]
    seeds, residual = (
        np.stack([parts[kind][..., 0, 0] for parts in apart], axis=-1)[..., None]
        * np.eye(len(arms))
        for kind in (0, 1)
    )
    return seeds, residual


def _crossed(benchmarks: Sequence[Floats]) -> tuple[Floats, Floats]:
    """`_seed_spread` of arms with the same seeds, [..., A, S, P] a benchmark."""
    *studies, num_arms, num_seeds, _ = benchmarks[0].shape
    seeds = residual = np.zeros((*studies, num_arms, num_arms))
    if num_seeds == 1:
        return seeds, residual
    means_AS = np.mean([scores.mean(axis=-1) for scores in benchmarks], axis=0)
    scale = num_seeds * (num_seeds - 1)
    seeds = _gram(means_AS - means_AS.mean(axis=-1, keepdims=True)) / scale
    for scores_ASP in benchmarks:
        size = scores_ASP.shape[-1]
        of_seeds_AS, of_problems_AP = scores_ASP.mean(axis=-1), scores_ASP.mean(axis=-2)
        grand_A1 = of_seeds_AS.mean(axis=-1, keepdims=True)
        squares = (
            _gram(scores_ASP.reshape(*studies, num_arms, -1))
            - _gram(of_problems_AP) * num_seeds
            - _gram(of_seeds_AS) * size
            + _gram(grand_A1) * num_seeds * size
        )
        residual = residual + squares / (scale * size * max(size - 1, 1) * len(benchmarks) ** 2)
    return seeds, residual
