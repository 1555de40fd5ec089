"""Sets of problems with golds, from a local file. Knows nothing about models or generation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadspan.config import BenchmarkConfig
from leadspan.errors import ConfigError, DataError
from leadspan.grading import check_kind
from leadspan.grading.extract import find_box
from leadspan.records import Turn

PROMPT_COLUMNS = ("problem", "question", "prompt", "Problem", "Question", "input")
GOLD_COLUMNS = ("gold", "answer", "final_answer", "expected_answer", "target", "Answer", "solution")
ID_COLUMNS = ("id", "problem_id", "unique_id")


@dataclass(frozen=True, slots=True)
class Problem:
    """One question and what counts as its answer."""

    problem_id: str
    turns: tuple[Turn, ...]
    golds: tuple[str, ...]
    """Normalised; any of them counts."""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Problems and how they are asked and graded."""

    name: str
    problems: tuple[Problem, ...]
    grading: str
    answer_pattern: str | None
    identity: Mapping[str, Any]
    """Everything that makes two results comparable: content, template, grading."""


def load_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Read and check one benchmark.

    Raises:
        ConfigError: A column or the grading is not there.
        DataError: The file cannot be read, is empty, or a problem has no gold.
    """
    path = Path(config.path)
    rows = _read_rows(path)
    prompt_column = _column(rows, config.prompt_column, PROMPT_COLUMNS, "prompt_column", path)
    gold_column = _column(rows, config.gold_column, GOLD_COLUMNS, "gold_column", path)
    problems, without = [], []
    for number, row in enumerate(rows[: config.limit]):
        problem_id = _id_of(row, number)
        golds = normalise_golds(row.get(gold_column))
        if not golds:
            without.append(problem_id)
        text = config.prompt_template.replace("{problem}", str(row[prompt_column]))
        meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
        problems.append(Problem(problem_id, (Turn("user", text),), golds, meta or {}))
    if without:
        raise DataError(
            f"{path}: every problem must have a gold in {gold_column!r}; {len(without)} of "
            f"{len(problems)} have none: {', '.join(without[:10])}. Give gold_column or drop them."
        )
    name = config.name or path.stem
    grading = check_kind(config.grading or "math", f"benchmark {name}")
    content = json.dumps([[p.problem_id, p.turns[-1].content, p.golds] for p in problems])
    identity = {
        "name": name,
        "problems": len(problems),
        "content": hashlib.sha256(content.encode()).hexdigest()[:16],
        "prompt_template": config.prompt_template,
        "grading": grading,
        "answer_pattern": config.answer_pattern,
    }
    return Benchmark(name, tuple(problems), grading, config.answer_pattern, identity)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    rows = [_read_row(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: must hold at least one problem; got none.")
    return rows


def _read_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: must be one JSON object a line ({error}).") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: must be one JSON object a line; got {type(row).__name__}.")
    return row


def _column(
    rows: list[dict[str, Any]],
    wanted: str | None,
    usual: tuple[str, ...],
    key: str,
    path: Path,
) -> str:
    there = rows[0].keys()
    for name in (wanted,) if wanted else usual:
        if name in there:
            return name
    raise ConfigError(
        f"{path}: {key} must be one of its columns {', '.join(there)}; got {wanted!r}. "
        f"Set {key} of this benchmark."
    )


def _id_of(row: dict[str, Any], number: int) -> str:
    for name in ID_COLUMNS:
        if row.get(name) is not None:
            return str(row[name])
    return str(number)


def normalise_golds(value: Any) -> tuple[str, ...]:
    """The accepted answers of a row: `#### 1,234`, "27.0", "025", a list, a box in a solution."""
    if value is None or isinstance(value, bool):
        return ()
    if isinstance(value, list | tuple):
        return tuple(gold for entry in value for gold in normalise_golds(entry))
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)),)
    text = str(value).strip()
    if "####" in text:
        text = text.rpartition("####")[2].strip()
    box = find_box(text)
    text = box.strip() if box is not None else text
    return (text,) if text else ()
