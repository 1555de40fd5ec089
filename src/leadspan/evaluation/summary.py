"""From graded samples to figures: accuracy, pass@k, maj@k, with intervals of `leadspan.statistics`.

Knows the rows of samples.jsonl, not where they come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadspan.display import block, counted, line
from leadspan.grading import answer_key
from leadspan.statistics import Floats, mean_interval


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


Rows = Sequence[Mapping[str, Any]]
QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One benchmark's figures."""

    name: str
    problems: int
    samples: int
    accuracy: float
    """avg@k: mean over problems of the mean over samples."""
    accuracy_low: float
    accuracy_high: float
    pass_at: dict[int, float]
    """k -> pass@k."""
    maj_at: dict[int, float]
    """k -> maj@k."""
    outcomes: dict[str, int]
    """Samples by outcome: correct, wrong, unparsed, timeout."""
    closed_fraction: float
    cut_off_fraction: float
    """Share that reached max_new_tokens."""
    unparsed_fraction: float
    empty_fraction: float
    """Share that holds no text at all."""
    tokens: dict[str, float]
    """Mean and quantiles of the generated tokens, where they are known."""
    by_difficulty: dict[str, dict[str, float]]
    """Difficulty -> problems and accuracy."""
    forced_accuracy: float | None = None
    """Accuracy where cut-off answers were forced; None without answer forcing."""
    forced_samples: int = 0

    def __repr__(self) -> str:
        return line(
            self,
            self.name,
            _with_interval(self),
            counted(self.problems, "problem"),
            counted(self.samples, "sample"),
        )


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """All benchmarks together: the mean over benchmarks with its 95 % interval, and each one."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    closed_fraction: float
    forced_accuracy: float | None
    benchmarks: tuple[BenchmarkResult, ...]
    seconds: float
    """Of this call; a resumed evaluation counts its last part."""

    def __repr__(self) -> str:
        return line(self, None, _with_interval(self), counted(len(self.benchmarks), "benchmark"))

    def _repr_html_(self) -> str:
        columns = ("benchmark", "accuracy", "95 % interval", "problems", "samples", "unparsed")
        rows = [
            (
                result.name,
                f"{result.accuracy:.3f}",
                f"{result.accuracy_low:.3f} to {result.accuracy_high:.3f}",
                f"{result.problems:,}",
                f"{result.samples:,}",
                f"{result.unparsed_fraction:.1%}",
            )
            for result in self.benchmarks
        ]
        return block(repr(self), columns, rows)


def _with_interval(result: BenchmarkResult | EvaluationResult) -> str:
    interval = f"[{result.accuracy_low:.3f}, {result.accuracy_high:.3f}]"
    return f"accuracy {result.accuracy:.3f} {interval}"


def problem_scores(rows: Rows) -> dict[str, float]:
    """Problem id -> mean over its samples, in the order of the ids."""
    by_problem = group_by(rows, "problem_id")
    return {
        problem_id: float(np.mean([row["outcome"] == "correct" for row in by_problem[problem_id]]))
        for problem_id in sorted(by_problem)
    }


def group_by(rows: Rows, key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by the value of one key, in the order of first appearance."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get(key), []).append(row)
    return groups


def summarise(
    names: Sequence[str],
    rows: Rows,
    pass_at: Sequence[int] = (),
    seconds: float = 0.0,
    forcing: bool = False,
) -> EvaluationResult:
    """The figures of all samples, a benchmark after the other.

    Args:
        names: The benchmarks, in order; rows of others are passed over.
        rows: Lines of samples.jsonl, forced ones among them.
        pass_at: Further k; 1 and the number of samples are always there.
        seconds: Put on the result.
        forcing: Whether cut-off answers were forced.
    """
    by_name = group_by(rows, "benchmark")
    results = [summarise_benchmark(name, by_name[name], pass_at, forcing) for name in names]
    scores = [_scores(by_name[name]) for name in names]
    overall = mean_interval(scores)
    forced = [result.forced_accuracy for result in results if result.forced_accuracy is not None]
    return EvaluationResult(
        accuracy=overall.value,
        accuracy_low=overall.low,
        accuracy_high=overall.high,
        closed_fraction=float(np.mean([result.closed_fraction for result in results])),
        forced_accuracy=float(np.mean(forced)) if len(forced) == len(results) else None,
        benchmarks=tuple(results),
        seconds=round(seconds, 3),
    )


def _scores(rows: Rows) -> Floats:
    return np.array(list(problem_scores(plain_rows(rows)).values()))


def plain_rows(rows: Rows) -> list[Mapping[str, Any]]:
    """The rows that are not forced answers."""
    return [row for row in rows if not row.get("forced")]


def summarise_benchmark(
    name: str, rows: Rows, pass_at: Sequence[int] = (), forcing: bool = False
) -> BenchmarkResult:
    """The figures of one benchmark."""
    plain = plain_rows(rows)
    forced = {
        (row["problem_id"], row["sample"]): row["outcome"] for row in rows if row.get("forced")
    }
    by_problem = group_by(plain, "problem_id")
    accuracy = mean_interval([_scores(plain)])
    fewest = min(len(samples) for samples in by_problem.values())
    ks = sorted({1, fewest, *(k for k in pass_at if k <= fewest)})
    outcomes = Counter(row["outcome"] for row in plain)
    return BenchmarkResult(
        name=name,
        problems=len(by_problem),
        samples=len(plain),
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        pass_at={k: float(np.mean([_pass(s, k) for s in by_problem.values()])) for k in ks},
        maj_at={
            k: float(np.mean([_maj_of_samples(s, k) for s in by_problem.values()])) for k in ks
        },
        outcomes={key: outcomes[key] for key in ("correct", "wrong", "unparsed", "timeout")},
        closed_fraction=_share(plain, lambda row: row["closed"]),
        cut_off_fraction=_share(plain, lambda row: row["finish_reason"] == "length"),
        unparsed_fraction=_share(plain, lambda row: row["outcome"] == "unparsed"),
        empty_fraction=_share(plain, lambda row: not row["text"].strip()),
        tokens=_tokens(plain),
        by_difficulty=_by_difficulty(plain),
        forced_accuracy=_forced_accuracy(plain, forced) if forcing else None,
        forced_samples=len(forced),
    )


def _pass(samples: Rows, k: int) -> float:
    return pass_at_k(sum(row["outcome"] == "correct" for row in samples), len(samples), k)


def _maj_of_samples(samples: Rows, k: int) -> float:
    ordered = sorted(samples, key=lambda row: row["sample"])
    return maj_at_k(
        [_vote(row) for row in ordered], [row["outcome"] == "correct" for row in ordered], k
    )


def _vote(row: Mapping[str, Any]) -> Hashable | None:
    """Equal answers vote together: all correct ones, and wrong ones that read the same."""
    if row["outcome"] == "correct":
        return ("correct",)
    if row["outcome"] == "unparsed" or row["extracted"] is None:
        return None
    return answer_key(row["extracted"])


def _share(rows: Rows, condition: Any) -> float:
    return float(np.mean([bool(condition(row)) for row in rows]))


def _tokens(rows: Rows) -> dict[str, float]:
    known = [row["num_tokens"] for row in rows if row["num_tokens"] is not None]
    if not known:
        return {}
    quantiles = np.quantile(known, QUANTILES)
    named = {f"p{100 * q:.0f}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": float(np.mean(known)), **named}


def _by_difficulty(rows: Rows) -> dict[str, dict[str, float]]:
    groups = group_by([row for row in rows if row.get("difficulty") is not None], "difficulty")
    result = {}
    for difficulty in sorted(groups, key=lambda text: (len(text), text)):
        scores = list(problem_scores(groups[difficulty]).values())
        result[difficulty] = {"problems": len(scores), "accuracy": float(np.mean(scores))}
    return result


def _forced_accuracy(plain: Rows, forced: Mapping[tuple[str, int], str]) -> float:
    """Mean over problems, a forced answer in the place of its cut-off one."""
    merged = [
        {**row, "outcome": forced.get((row["problem_id"], row["sample"]), row["outcome"])}
        for row in plain
    ]
    return float(np.mean(list(problem_scores(merged).values())))
