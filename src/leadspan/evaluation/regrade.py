"""Grade kept samples again, without generating. Knows samples.jsonl, not how it came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from leadspan.errors import RunError
from leadspan.evaluation.samples import EvaluationFolder, sample_line
from leadspan.evaluation.summary import EvaluationResult, summarise
from leadspan.grading import Grade, Grader, check_kind
from leadspan.runs import lock_folder, read_json, write_json_atomic, write_text_atomic


@dataclass(frozen=True, slots=True)
class Regraded:
    """What came of it."""

    result: EvaluationResult
    changes: dict[str, int]
    """`before -> after`, counted, for samples whose outcome changed."""


def regrade(
    samples: str | Path, kind: str | None = None, limit_seconds: float | None = None
) -> Regraded:
    """Grade every sample of a finished or unfinished evaluation again and rewrite its figures.

    Args:
        samples: A samples.jsonl, or the folder that holds it.
        kind: Grade all benchmarks by this kind instead of their own.
        limit_seconds: Instead of the limit of the evaluation.

    Raises:
        RunError: There are no samples, or another process writes there.
    """
    path = Path(samples)
    folder = EvaluationFolder(path.parent if path.suffix == ".jsonl" else path)
    if not folder.samples_path.is_file():
        raise RunError(f"{folder.samples_path}: is not there. Give a samples.jsonl or its folder.")
    with lock_folder(folder.path):
        rows = folder.read()
        if not rows:
            raise RunError(f"{folder.samples_path}: holds no sample to grade.")
        identity = regraded_identity(read_json(folder.identity_path), kind, limit_seconds)
        graded = list(grade_rows(rows, identity))
        write_text_atomic(folder.samples_path, "".join(map(sample_line, graded)))
        write_json_atomic(folder.identity_path, identity)
        there = {row["benchmark"] for row in graded}
        result = summarise(
            [name for name in identity["benchmarks"] if name in there],
            graded,
            _earlier_ks(folder),
            forcing=identity["answer_forcing"] is not None,
        )
        if folder.summary_path.is_file():
            folder.finish(identity, {**asdict(result), "regraded": True})
    changes = Counter(
        f"{before.get('outcome')} -> {after['outcome']}"
        for before, after in zip(rows, graded, strict=True)
        if before.get("outcome") != after["outcome"]
    )
    return Regraded(result, dict(changes))


def regraded_identity(
    identity: dict[str, Any], kind: str | None, limit_seconds: float | None
) -> dict[str, Any]:
    """The identity under the new rules, and under the grader that is installed now."""
    benchmarks = {
        name: {**benchmark, "grading": check_kind(kind or benchmark["grading"])}
        for name, benchmark in identity["benchmarks"].items()
    }
    return {
        **identity,
        "benchmarks": benchmarks,
        "grading_limit_seconds": limit_seconds or identity["grading_limit_seconds"],
        "versions": grader_versions(),
    }


def grader_versions() -> dict[str, str]:
    """Versions that decide a grade."""
    return {name: version(name) for name in ("leadspan", "math-verify")}


def _earlier_ks(folder: EvaluationFolder) -> list[int]:
    """The k of pass@k that the evaluation reported."""
    if not folder.summary_path.is_file():
        return []
    benchmarks = read_json(folder.summary_path)["benchmarks"]
    return sorted({int(k) for benchmark in benchmarks for k in benchmark["pass_at"]})


def grade_rows(
    rows: Iterable[Mapping[str, Any]], identity: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The rows with new grades, each by the rules of its benchmark."""
    rows, rules = list(rows), identity["benchmarks"]
    with Grader(limit_seconds=identity["grading_limit_seconds"]) as grader:
        futures = []
        for row in rows:
            rule = rules[row["benchmark"]]
            answer = row["text"] if row.get("answer") is None else row["answer"]
            futures.append(
                grader.submit(answer, row["golds"], rule["grading"], rule["answer_pattern"])
            )
        for row, future in zip(rows, futures, strict=True):
            yield {**row, **graded_fields(future.result())}


def graded_fields(grade: Grade) -> dict[str, Any]:
    """A grade as it stands in a sample's row."""
    return {"outcome": grade.outcome, "extracted": grade.extracted, "reason": grade.reason}
