"""Compare two finished evaluations problem by problem. Knows their folders, not their models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadspan.errors import RunError
from leadspan.evaluation.samples import EvaluationFolder
from leadspan.evaluation.summary import group_by, plain_rows, problem_scores
from leadspan.runs import differing_keys
from leadspan.statistics import Comparison, compare_paired

SAME = ("chat_template", "sampling", "answer_forcing", "unclosed", "grading_limit_seconds")
"""Parts of the identity that two runs must share; the student is what differs."""
NOTED = ("backend", "versions")
"""Parts whose difference is said, because it can move a few answers."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One benchmark, or all together, in both runs."""

    name: str
    problems: int
    first: float
    second: float
    paired: Comparison


@dataclass(frozen=True, slots=True)
class RunComparison:
    """All benchmarks of two runs, all together last where there are several."""

    first: str
    second: str
    rows: tuple[Compared, ...]
    differences: tuple[str, ...]
    """What was evaluated differently; not empty only when forced."""
    remarks: tuple[str, ...]
    """Smaller differences, and benchmarks that only one run has."""


def find_evaluation(path: str | Path) -> EvaluationFolder:
    """The evaluation folder of a run, or the folder itself.

    Raises:
        RunError: There is no finished evaluation.
    """
    for candidate in (Path(path), Path(path) / "evaluation"):
        folder = EvaluationFolder(candidate)
        if folder.summary_path.is_file():
            return folder
    raise RunError(f"{path}: holds no finished evaluation. Run: leadspan evaluate {path}")


def compare_runs(first: str | Path, second: str | Path, force: bool = False) -> RunComparison:
    """Compare the second run with the first.

    Raises:
        RunError: A run is not evaluated, they share no benchmark, or they were evaluated
            differently and `force` is not set.
    """
    folders = [find_evaluation(first), find_evaluation(second)]
    identities = [folder.read_summary()["identity"] for folder in folders]
    differences = sorted(_differences(*identities))
    if differences and not force:
        raise RunError(
            f"{first} and {second}: were evaluated differently: {', '.join(differences[:6])}. "
            "Evaluate both alike, or say --force to compare them all the same."
        )
    samples = [group_by(plain_rows(folder.read()), "benchmark") for folder in folders]
    shared = [name for name in identities[0]["benchmarks"] if name in identities[1]["benchmarks"]]
    if not shared:
        raise RunError(f"{first} and {second}: share no benchmark.")
    remarks = _remarks(*identities)
    rows, pairs = [], []
    for name in shared:
        scores = [problem_scores(side[name]) for side in samples]
        both = sorted(scores[0].keys() & scores[1].keys())
        if not both:
            raise RunError(f"{first} and {second}: share no problem of {name}.")
        apart = len(scores[0].keys() ^ scores[1].keys())
        if apart:
            remarks.append(f"{name}: {apart} problems stand in one run only and are left out")
        pair = [np.array([side[problem] for problem in both]) for side in scores]
        pairs.append(pair)
        rows.append(_compared(name, [pair]))
    if len(rows) > 1:
        rows.append(_compared("all", pairs))
    return RunComparison(str(first), str(second), tuple(rows), tuple(differences), tuple(remarks))


def _compared(name: str, pairs: list[Any]) -> Compared:
    firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Compared(
        name=name,
        problems=sum(len(scores) for scores in firsts),
        first=float(np.mean([scores.mean() for scores in firsts])),
        second=float(np.mean([scores.mean() for scores in seconds])),
        paired=compare_paired(firsts, seconds),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    keys: set[str] = set()
    for part in SAME:
        keys |= differing_keys(first.get(part), second.get(part), f"{part}.")
    # A seed picks samples of one distribution; it changes no question and no rule.
    keys.discard("sampling.seed")
    shared = first["benchmarks"].keys() & second["benchmarks"].keys()
    for name in shared:
        keys |= differing_keys(
            first["benchmarks"][name], second["benchmarks"][name], f"benchmarks.{name}."
        )
        # `content` says whether the problems are the same ones, at whichever commit they were read.
        keys.discard(f"benchmarks.{name}.revision")
    return keys


def _remarks(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    remarks = [
        f"{key} differs"
        for part in NOTED
        for key in sorted(differing_keys(first.get(part), second.get(part), f"{part}."))
    ]
    only = sorted(first["benchmarks"].keys() ^ second["benchmarks"].keys())
    if only:
        remarks.append(f"only one run has {', '.join(only)}")
    return remarks
