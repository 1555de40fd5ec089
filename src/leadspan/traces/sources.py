"""Usable traces of a source, every other row counted with its reason. Knows text, not tokens."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from leadspan.config import MarkersConfig, OverlapConfig, TracesConfig
from leadspan.config_io import validate
from leadspan.display import counted, line
from leadspan.errors import ConfigError, DataError
from leadspan.grading import Grader
from leadspan.messages import Unusable
from leadspan.records import Trace
from leadspan.registry import home_of, registered
from leadspan.traces.drafts import GOLD_COLUMNS, Reading, digest_of, read_turns
from leadspan.traces.formats import FORMATS, iter_traces_of, mapped
from leadspan.traces.rows import Place, iter_rows
from leadspan.traces.sections import (
    FAMILIES,
    THINK,
    WORDS,
    Markers,
    Segmented,
    SkippedRow,
    family_names,
    split_completion,
)

MOST_COLUMNS = 20
LOOKED_AT_CHARACTERS = 100_000
PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input", "user", "task")
COMPLETIONS = ("completion", "response", "output", "generation", "solution", "answer", "text")
COTS = ("cot", "reasoning", "thinking", "thought", "rationale", "chain_of_thought")
_PLAIN = re.compile(r"[A-Za-z][\w.-]{0,59}", re.ASCII)
ANSWERS = ("answer", "response", "output", "final")
GOLDS = ("label", "target", "expected", "reference", "correct_answer", "gold_answer", "solution")
NEAREST = {"messages": "messages", "cot": "sections", "completion": "prompt_completion"}
"""The format that mapped columns have a row read as, by one of our names for them."""


def suggest_columns(row: Mapping[str, Any], takes_prompts: bool = False) -> str:
    """The columns of a row and the `traces.columns` line that would have it read.

    Args:
        row: The row.
        takes_prompts: A row without a completion is read too.
    """
    texts = {name: value for name, value in row.items() if isinstance(value, str) and value.strip()}
    chats = [name for name, value in row.items() if _is_chat(value)]
    marked = [name for name, text in texts.items() if _is_completion(text)]
    if chats:
        wanted = {"messages": chats[0]}
    elif not marked and (cot := _named(texts, COTS)):
        answer = _named(texts.keys() - {cot}, ANSWERS)
        prompt = _named(texts.keys() - {cot, answer}, PROMPTS)
        wanted = {"prompt": prompt, "cot": cot, "answer": answer}
    else:
        completion = marked[0] if marked else _named(texts, COMPLETIONS)
        prompt = _named(texts.keys() - {completion}, PROMPTS)
        wanted = {"prompt": prompt, "completion": completion}
        if takes_prompts and not completion:
            del wanted["completion"]
    if not row.keys() & {*GOLD_COLUMNS, "answer"}:
        golds = [name for name in GOLDS if name in row and name not in wanted.values()]
        wanted |= {"gold": golds[0]} if golds else {}
    pairs = ", ".join(
        f"{ours}: {_written(theirs or 'YOUR_COLUMN')}" for ours, theirs in wanted.items()
    )
    shown = [_written(name) for name in list(row)[:MOST_COLUMNS]]
    more = f" and {len(row) - len(shown)} more" if len(row) > len(shown) else ""
    nearest = next((name for ours, name in NEAREST.items() if ours in wanted), "")
    near = f"; the nearest format is {nearest}" if nearest else ""
    option = shlex.quote(f"traces.columns={{{pairs}}}")
    return (
        f"Its columns are {', '.join(shown) or 'none'}{more}{near}. "
        f"Write traces.columns: {{{pairs}}} in run.yaml, or --set {option}"
    )


def _written(name: str) -> str:
    """A name as YAML takes it, control characters and all, within reason."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name[:60])


def _is_chat(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and bool({"role", "from"} & first.keys())


def _is_completion(text: str) -> bool:
    return isinstance(split_completion(text[:LOOKED_AT_CHARACTERS]), Segmented)


def _named(columns: Iterable[str], words: Iterable[str]) -> str:
    """The column that bears one of these words, the earlier word first; empty for none."""
    names = sorted(columns)
    exact = [name for word in words for name in names if name.lower() == word]
    return next(iter(exact + [n for word in words for n in names if word in n.lower()]), "")


WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Lower-case words and single signs; spacing and case do not count."""
    return WORD.findall(text.lower())


class OverlapIndex:
    """The word n-grams of all problems of some benchmarks."""

    def __init__(self, problems: Iterable[str], ngram: int) -> None:
        self.ngram = ngram
        self._by_length: dict[int, set[int]] = {}
        for problem in problems:
            words = words_of(problem)
            length = min(ngram, len(words))
            if length:
                grams = self._by_length.setdefault(length, set())
                grams.update(_hashes(words, length))

    def hits(self, prompt: str) -> bool:
        """Whether the prompt holds one of the n-grams, or a shorter problem as a whole."""
        words = words_of(prompt)
        return any(
            gram in grams
            for length, grams in self._by_length.items()
            for gram in _hashes(words, length)
        )


def _hashes(words: list[str], length: int) -> Iterable[int]:
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))


GRADED_AT_ONCE = 256
TEACHER = "leadspan.teacher"
"""Key of a trace's `meta`: the place of its teacher among several."""
TEACHER_PROMPT = "leadspan.teacher_prompt_ids"
"""Key of `Sequence.meta`: the ids of the prompt that the teacher reads instead."""
PROBLEM_COLUMNS = ("problem", "question", "prompt")


@dataclass(slots=True)
class LoadedTraces:
    """Usable traces, and what became of the other rows."""

    traces: list[Trace] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> rows that are not used."""
    notes: Counter[str] = field(default_factory=Counter)
    """What is worth knowing about rows that are used."""
    places: dict[str, str] = field(default_factory=dict)
    """Reason -> where it was first met."""
    hints: dict[str, str] = field(default_factory=dict)
    """Reason -> what to do about it, where that depends on the row that was met first."""

    def __len__(self) -> int:
        return len(self.traces)

    def __repr__(self) -> str:
        reasons = [f"{number:,} {reason}" for reason, number in self.refused.most_common()]
        refused = f"{self.refused.total():,} refused"
        if reasons:
            refused += f" ({', '.join(reasons)})"
        return line(self, None, counted(len(self), "trace"), refused)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    def sift(self, rows: Iterable[Trace | SkippedRow]) -> Iterator[Trace]:
        """Pass the traces on without keeping them, and count everything."""
        for row in rows:
            if isinstance(row, SkippedRow):
                self.refused[row.reason] += 1
                self.places.setdefault(row.reason, row.where)
                if row.hint:
                    self.hints.setdefault(row.reason, row.hint)
            else:
                self.notes.update(_notes(row))
                yield row


def _notes(trace: Trace) -> Iterator[str]:
    yield from trace.notes
    if trace.is_prompt:
        yield "prompt_alone"
    elif not trace.closed:
        yield "unclosed"
    elif not trace.answer.strip():
        yield "empty_answer"
    if trace.gold is None:
        yield "no_gold"
    if THINK.open in trace.cot:
        yield "open_marker_in_cot"


def load_traces(source: str | Path | TracesConfig, **overrides: Any) -> LoadedTraces:
    """Read all traces of a source into memory.

    Args:
        source: A file, folder, glob or hub id, or the `traces` part of a config.
        **overrides: Fields of TracesConfig, such as `only_closed=True`.

    Raises:
        ConfigError: A field is wrong.
        DataError: The source cannot be read, or holds no rows at all.
    """
    fields = source.model_dump() if isinstance(source, TracesConfig) else {"path": str(source)}
    config = validate(TracesConfig, {**fields, **overrides}, "load_traces")
    loaded = LoadedTraces()
    loaded.traces.extend(loaded.sift(iter_traces(config)))
    return loaded


def iter_traces(
    config: TracesConfig,
    rows: Iterable[Place] | None = None,
    claims: Sequence[Mapping[str, Any]] = (),
    takes_prompts: bool = False,
) -> Iterator[Trace | SkippedRow]:
    """Stream every row as its traces or as the reason why there are none, filters applied.

    Length, sample and split are not applied here: they need tokens (see `dataset`).

    Args:
        config: The source, how it is read, and the filters.
        rows: Read instead of the source's own.
        claims: Of several teachers, the conditions of each; `meta` then says who teaches a trace.
        takes_prompts: Rows that hold a question and no completion are read too.

    Raises:
        DataError: The source cannot be read, or holds no rows at all.
    """
    given = (
        iter_rows(config.path, config.split, config.config, config.revision)
        if rows is None
        else rows
    )
    stream = _read(config, given, claims, takes_prompts)
    for check in _filters(config):
        stream = _checked(stream, check)
    if config.only_correct:
        stream = _graded(stream)
    return _checked(stream, _Distinct(config.drop_duplicates))


Rows = Iterator[Trace | SkippedRow]
Check = Callable[[Trace], Trace | SkippedRow]


def _checked(rows: Rows, check: Check) -> Rows:
    return (check(row) if isinstance(row, Trace) else row for row in rows)


def _read(
    config: TracesConfig,
    rows: Iterable[Place],
    claims: Sequence[Mapping[str, Any]],
    takes_prompts: bool,
) -> Rows:
    known = None if config.format == "auto" or config.columns else FORMATS.get(config.format)
    if known is None and config.format != "auto":
        raise ConfigError(
            f"traces.format must be auto or one of {', '.join(FORMATS)}; got {config.format!r}."
        )
    reading = replace(_reading(config), takes_prompts=takes_prompts)
    rename = mapped(config.columns) if config.columns else None
    mapped_names = frozenset(config.columns)
    empty, hinted = True, set()
    for where, row in rows:
        empty = False
        if isinstance(row, SkippedRow):
            yield SkippedRow(row.reason, where, UNREADABLE.get(row.reason, ""))
            continue
        failed = next((n for n, wanted in config.where.items() if not _meets(row, n, wanted)), None)
        if failed is not None:
            yield SkippedRow(f"where:{failed}", where)
            continue
        teacher = next((i for i, claim in enumerate(claims) if _meets_all(row, claim)), None)
        if claims and teacher is None:
            yield SkippedRow("no_teacher", where)
            continue
        traces = iter_traces_of(rename(row) if rename else row, known, reading, mapped_names)
        for trace in traces:
            if isinstance(trace, Trace):
                yield _taught_by(trace, teacher)
                continue
            hint = "" if trace.reason in hinted else _hint(trace.reason, row, takes_prompts)
            hinted.add(trace.reason)
            yield SkippedRow(trace.reason, where, hint)
    if empty:
        raise DataError(f"{config.path}: must hold at least one row; got none.")


def _hint(reason: str, row: Mapping[str, Any], takes_prompts: bool) -> str:
    """What to write so that a row is read."""
    name, _, what = reason.partition(":")
    if name in ("unknown_format", "missing"):
        return suggest_columns(row, takes_prompts)
    if name == "no_marker":
        return NO_MARKER
    return f"Write traces.format: one of {what}" if name == "ambiguous_format" else ""


_KINDS_OF_FILES = (
    "Rows are read from JSON lines (a line is one JSON object), .csv, .tsv, .parquet and .arrow"
)
UNREADABLE = {
    "broken_json": _KINDS_OF_FILES,
    "not_an_object": _KINDS_OF_FILES,
    "invalid_utf8": _KINDS_OF_FILES,
    "broken_table_row": "Each row of a table needs as many cells as its first line",
}
NO_MARKER = (
    "Its completion has no think marker that is known. Name yours, traces.markers: {open: TEXT, close: "
    "TEXT}, or the column that holds the reasoning, traces.columns: {prompt: A, cot: B, answer: C}"
)


def _reading(config: TracesConfig) -> Reading:
    markers = config.markers
    if isinstance(markers, MarkersConfig):
        family = Markers("custom", **markers.model_dump())
        return Reading((family,), words=False, generations=config.generations)
    if markers == "auto":
        return Reading(generations=config.generations)
    if markers not in family_names():
        raise ConfigError(
            f"traces.markers must be auto, {', '.join(family_names())} or {{open, close}}; "
            f"got {markers!r}."
        )
    chosen = tuple(family for family in FAMILIES if family.name == markers)
    return Reading(chosen, words=markers == WORDS, generations=config.generations)


def _taught_by(trace: Trace, teacher: int | None) -> Trace:
    """The trace with its teacher's place, where there are several; no column of a row can say it."""
    if teacher is None and not {TEACHER, TEACHER_PROMPT} & trace.meta.keys():
        return trace
    meta = {key: trace.meta[key] for key in trace.meta if key not in (TEACHER, TEACHER_PROMPT)}
    return replace(trace, meta=meta if teacher is None else {**meta, TEACHER: teacher})


def _meets_all(row: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    return all(_meets(row, name, wanted) for name, wanted in conditions.items())


def _meets(row: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name not in row:
        return False
    return row[name] in wanted if isinstance(wanted, list | tuple) else bool(row[name] == wanted)


def _filters(config: TracesConfig) -> Iterator[Check]:
    """The filters that look at one trace alone."""
    if config.only_closed or config.only_correct:
        yield _filter("prompt_alone", lambda trace: not trace.is_prompt)
    if config.only_closed:
        yield _filter("not_closed", lambda trace: trace.closed)
    if config.only_with_gold or config.only_correct:
        yield _filter("no_gold", lambda trace: trace.gold is not None)
    for benchmark in config.decontaminate:
        index = OverlapIndex(_problems(benchmark), config.decontaminate_ngram)
        reason = f"overlap:{Path(benchmark.path).name}"
        yield _filter(reason, lambda trace, index=index: not index.hits(trace.prompt))  # type: ignore[misc]


def _filter(reason: str, passes: Callable[[Trace], bool]) -> Check:
    return lambda trace: trace if passes(trace) else SkippedRow(reason, trace.trace_id)


def _problems(benchmark: OverlapConfig) -> Iterator[str]:
    known = registered(benchmark.path)
    names: tuple[str, ...] = (benchmark.column,) if benchmark.column else PROBLEM_COLUMNS
    split, config = benchmark.split, benchmark.config
    path, revision = home_of(benchmark.path, benchmark.revision)
    if known is not None:
        home = known.defaults
        split, config = home.split or split, config or home.config
        names = (home.prompt_column, *names) if home.prompt_column else names
    adapt = known.adapt if known is not None else None
    for where, found in iter_rows(path, split, config, revision):
        row = adapt(found) if adapt is not None and not isinstance(found, SkippedRow) else found
        if row is None:
            continue
        text = None if isinstance(row, SkippedRow) else _question(row, names)
        if text is None:
            raise DataError(
                f"{where}: traces.decontaminate needs a text column of {', '.join(names)}. "
                "Name it with `column`."
            )
        yield text


def _question(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The problem in the first of these columns, be it text or messages."""
    value = next((row[name] for name in names if row.get(name) is not None), None)
    try:
        if isinstance(value, list):
            return "\n".join(m.text for m in read_turns(value) if m.role == "user")
        return value if isinstance(value, str) else None
    except Unusable:
        return None


def _graded(rows: Rows) -> Rows:
    """Pass on the traces whose answer grades as correct; the others are refused by outcome."""
    with Grader() as grader:
        while batch := list(islice(rows, GRADED_AT_ONCE)):
            traces = [row for row in batch if isinstance(row, Trace)]
            grades = grader.grade_many([(t.answer or t.cot, t.golds, "math") for t in traces])
            outcomes = iter([grade.outcome for grade in grades])
            for row in batch:
                if isinstance(row, Trace) and (outcome := next(outcomes)) != "correct":
                    row = SkippedRow(f"answer_{outcome}", row.trace_id)
                yield row


class _Distinct:
    """Drops exact duplicates, and gives every further bearer of an id one of its own."""

    def __init__(self, drop: bool) -> None:
        self._drop = drop
        self._contents: set[str] = set()
        self._bearers: Counter[str] = Counter()

    def __call__(self, trace: Trace) -> Trace | SkippedRow:
        digest = digest_of(trace)
        if self._drop and digest in self._contents:
            return SkippedRow("duplicate", trace.trace_id)
        self._contents.add(digest)
        trace_id = self._free_id(trace.trace_id, digest)
        self._bearers[trace_id] += 1
        return trace if trace_id == trace.trace_id else replace(trace, trace_id=trace_id)

    def _free_id(self, trace_id: str, digest: str) -> str:
        """`trace_id` where nobody bears it yet, else one with the content's digest, then its number."""
        if not self._bearers[trace_id]:
            return trace_id
        by_content = found = f"{trace_id}~{digest}"
        while self._bearers[found]:
            self._bearers[by_content] += 1
            found = f"{by_content}~{self._bearers[by_content]}"
        return found
