"""Sets of problems with golds, from the hub or a local file, by registered name or column mapping.

Knows nothing about models, generation or how an answer is graded.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadspan.config import BenchmarkConfig
from leadspan.errors import ConfigError, DataError
from leadspan.grading import KINDS, check_kind
from leadspan.grading.golds import read_golds
from leadspan.messages import Unusable
from leadspan.records import Message
from leadspan.registry import Registered, registered, registered_names
from leadspan.traces.drafts import read_turns, turns_of
from leadspan.traces.rows import iter_rows
from leadspan.traces.sections import SkippedRow

PROMPT_COLUMNS = ("problem", "question", "prompt", "Problem", "Question", "input")
GOLD_COLUMNS = ("gold", "answer", "final_answer", "expected_answer", "target", "Answer", "solution")
ID_COLUMNS = ("id", "problem_id", "unique_id")
DIFFICULTY_COLUMNS = ("difficulty", "level")


@dataclass(frozen=True, slots=True)
class Problem:
    """One question and what counts as its answer."""

    problem_id: str
    messages: tuple[Message, ...]
    golds: tuple[str, ...]
    """Any of them counts."""
    difficulty: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Problems and how they are asked and graded."""

    name: str
    problems: tuple[Problem, ...]
    grading: str
    answer_pattern: str | None
    identity: Mapping[str, Any]
    """What makes two results comparable: content, template, grading."""


def load_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Read and check one benchmark.

    Raises:
        ConfigError: A column or the grading is not there.
        DataError: The source cannot be read, is empty, or a problem has no gold.
    """
    known = registered(config.path) or registered(config.name) or registered(Path(config.path).stem)
    merged = _merge(config, known)
    name = merged.name or Path(merged.path).stem
    grading = check_kind(merged.grading or "math", f"benchmark {name}")
    rows = _read_rows(merged, known)
    columns = _Columns(rows[0][1], merged, known is not None)
    problems = [
        columns.problem(where, row, number, grading) for number, (where, row) in enumerate(rows)
    ]
    problems = _unique(problems[: config.limit])
    _check_golds(problems, merged.path, columns.gold)
    content = json.dumps(
        [[p.problem_id, [t.content for t in p.messages], p.golds] for p in problems]
    )
    identity = {
        "name": name,
        "problems": len(problems),
        "content": hashlib.sha256(content.encode()).hexdigest()[:16],
        "revision": merged.revision,
        "prompt_template": merged.prompt_template or "{problem}",
        "system_prompt": merged.system_prompt,
        "grading": grading,
        "answer_pattern": merged.answer_pattern,
    }
    return Benchmark(name, tuple(problems), grading, merged.answer_pattern, identity)


def _merge(config: BenchmarkConfig, known: Registered | None) -> BenchmarkConfig:
    """The user's fields over the registered ones; a local copy has columns of its own."""
    if known is None:
        return config
    given = config.model_dump(exclude_none=True)
    if registered(config.path) is known:
        del given["path"]
    return known.defaults.model_copy(update=given)


def _read_rows(
    config: BenchmarkConfig, known: Registered | None
) -> list[tuple[str, Mapping[str, Any]]]:
    rows: list[tuple[str, Mapping[str, Any]]] = []
    try:
        for where, row in iter_rows(
            config.path, config.split or "test", config.config, config.revision
        ):
            if isinstance(row, SkippedRow):
                raise DataError(f"{where}: must be one JSON object a line; got {row.reason}.")
            adapted = known.adapt(row) if known is not None and known.adapt is not None else row
            if adapted is not None:
                rows.append((where, adapted))
            if config.limit is not None and len(rows) == config.limit:
                break
    except DataError as error:
        if "no such file" not in str(error):
            raise
        names = ", ".join(registered_names())
        raise DataError(f"{error} Registered benchmarks: {names}.") from None
    if not rows:
        raise DataError(f"{config.path}: must hold at least one problem; got none.")
    return rows


class _Columns:
    """Which column holds what."""

    def __init__(self, first: Mapping[str, Any], config: BenchmarkConfig, lenient: bool) -> None:
        self._config = config
        self._there = first.keys()
        # A registered column that a local copy calls otherwise is looked for by its usual names.
        self.prompt = self._find("prompt_column", config.prompt_column, PROMPT_COLUMNS, lenient)
        self.gold = self._find("gold_column", config.gold_column, GOLD_COLUMNS, lenient)
        self._id = self._optional(config.id_column, ID_COLUMNS)
        self._difficulty = self._optional(config.difficulty_column, DIFFICULTY_COLUMNS)
        self._template = config.prompt_template or "{problem}"

    def _find(self, key: str, wanted: str | None, usual: tuple[str, ...], lenient: bool) -> str:
        if wanted in self._there:
            return str(wanted)
        if wanted is None or lenient:
            for name in usual:
                if name in self._there:
                    return name
        raise ConfigError(
            f"{self._config.path}: {key} must be one of its columns {', '.join(self._there)}; got "
            f"{wanted!r}. Set {key} of this benchmark."
        )

    def _optional(self, wanted: str | None, usual: tuple[str, ...]) -> str | None:
        return next((name for name in (wanted, *usual) if name in self._there), None)

    def problem(self, where: str, row: Mapping[str, Any], number: int, grading: str) -> Problem:
        *earlier, question = self._asked(where, row)
        text = question.content
        options = row.get(self._config.choices_column or "")
        gold = row.get(self.gold)
        if isinstance(options, list | tuple):
            text, gold = _with_options(text, [str(option) for option in options], gold)
        turns = [*earlier, Message("user", self._template.replace("{problem}", text))]
        if self._config.system_prompt:
            turns.insert(0, Message("system", self._config.system_prompt))
        meta = row.get("meta")
        difficulty = row.get(self._difficulty) if self._difficulty else None
        return Problem(
            problem_id=str(row[self._id])
            if self._id and row.get(self._id) is not None
            else str(number),
            messages=tuple(turns),
            golds=_golds(where, gold, grading),
            difficulty=None if difficulty is None else str(difficulty),
            meta=meta if isinstance(meta, dict) else {},
        )

    def _asked(self, where: str, row: Mapping[str, Any]) -> tuple[Message, ...]:
        """The prompt column as turns, a user turn that asks something last."""
        value = row.get(self.prompt)
        try:
            messages = value if isinstance(value, list) else [{"role": "user", "content": value}]
            turns = turns_of(read_turns(messages))
        except Unusable as reason:
            raise DataError(
                f"{where}: {self.prompt} must be text or messages; got {reason}."
            ) from None
        if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
            raise DataError(
                f"{where}: {self.prompt} must be a text that is not empty, or messages that end in "
                f"a user's; got {str(value)[:80]!r}."
            )
        return turns


def _with_options(text: str, options: list[str], gold: Any) -> tuple[str, Any]:
    """The question with lettered options, and the gold as a letter."""
    letters = string.ascii_uppercase
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=False)]
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(options):
        gold = letters[gold]
    elif isinstance(gold, str) and gold in options:
        gold = letters[options.index(gold)]
    return "\n".join([text, "", *lines]), gold


def _unique(problems: list[Problem]) -> list[Problem]:
    """Ids that tell problems apart: a repeated one gets its place in the file."""
    counts = Counter(problem.problem_id for problem in problems)
    if len(counts) == len(problems):
        return problems
    return [
        problem
        if counts[problem.problem_id] == 1
        else Problem(
            f"{problem.problem_id}~{number}",
            problem.messages,
            problem.golds,
            problem.difficulty,
            problem.meta,
        )
        for number, problem in enumerate(problems)
    ]


def _check_golds(problems: list[Problem], path: str, column: str) -> None:
    without = [problem.problem_id for problem in problems if not problem.golds]
    if without:
        raise DataError(
            f"{path}: every problem must have a gold in {column!r}; {len(without)} of "
            f"{len(problems)} have none: {', '.join(without[:10])}. Give gold_column or drop them."
        )


def _golds(where: str, value: Any, grading: str) -> tuple[str, ...]:
    """The accepted answers of a row, as its grading takes them."""
    if grading not in KINDS and isinstance(value, Mapping):
        return (json.dumps(value, ensure_ascii=False),)
    try:
        return read_golds(value, literal=grading not in ("math", "numeric", "set"))
    except ValueError as error:
        raise DataError(
            f"{where}: the gold must be text, a number, or a list or mapping of these; got {error}."
        ) from None
