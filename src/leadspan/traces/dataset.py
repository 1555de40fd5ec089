"""The one way from `traces` and `render` of a run.yaml to uncut sequences, split and counted.

Training, prepare, inspect and doctor all come through here. Rendered sequences are kept on disk under
a hash of everything that made them: the traces' bytes, the filters, the render settings, the template,
the tokenizer and this package's own code. Knows nothing about batches or losses.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceABC
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from leadspan.config import (
    DERIVATION_COLUMN,
    RolloutConfig,
    RoutedTeacherConfig,
    RunConfig,
    TeacherConfig,
    TracesConfig,
    TruncationConfig,
)
from leadspan.errors import ConfigError, DataError
from leadspan.identity import code_digest, digest, file_digest, tokenizer_fingerprint
from leadspan.paths import local_files
from leadspan.records import Sequence, Span, Trace
from leadspan.registry import home_of
from leadspan.runs import cache_root
from leadspan.traces.cut import TOKENS_SUFFIX, cut_point
from leadspan.traces.render import Renderer, iter_rendered
from leadspan.traces.rows import Place
from leadspan.traces.sections import SkippedRow
from leadspan.traces.sources import LoadedTraces, iter_traces
from leadspan.traces.taught import with_teacher_prompts

NOT_IN_KEY = {"path", "num_processes", "validation_fraction"}
"""Fields of TracesConfig that do not change the rendered rows, or are hashed by content."""


Annotate = Callable[[Trace], Mapping[str, Any]]
"""Adds entries to a trace's `meta` before it is rendered, such as its own cut point."""
Rendered = tuple[list[Sequence], LoadedTraces]


def cache_folder(
    config: RunConfig, tokenizer: Any, layout: list[Any], annotate: Annotate | None = None
) -> Path | None:
    """Where this set is kept; None where its content has no fixed name.

    Such are a hub data set without a revision, and what a function from elsewhere has annotated.

    Args:
        config: The run.
        tokenizer: The student's.
        layout: `Layout.identity`; holds the date where the template reads one.
        annotate: Adds to each trace's `meta`.
    """
    problems = [home_of(one.path, one.revision) for one in config.traces.decontaminate]
    sources = [(config.traces.path, config.traces.revision), *problems]
    contents = [_content(path, revision) for path, revision in sources]
    annotated = None if annotate is None else _name_in_this_package(annotate)
    if None in contents or (annotate is not None and annotated is None):
        return None
    traces = config.traces.model_dump(mode="json", exclude=NOT_IN_KEY)
    made_of = {
        "contents": contents,
        "traces": traces,
        "takes_prompts": config.takes_prompts,
        "render": config.render.model_dump(mode="json", exclude={"chat_template", "date"}),
        "taught": [[one.system_prompt, _claim(one)] for one in config.all_teachers],
        "column": [config.truncation.column, config.truncation.column_unit],
        "layout": layout,
        "annotated": annotated,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "code": code_digest(),
    }
    key = digest(json.dumps(made_of, sort_keys=True, default=str))
    return cache_root() / "sequences" / key


def load_sequences(folder: Path) -> Rendered | None:
    """Read a stored set; None where there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokens_T = np.load(folder / "tokens.npy")
        ends = np.load(folder / "ends.npy").tolist()
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return None
    sequences, start = [], 0
    for line, (prompt, cot, answer) in zip(lines, ends, strict=False):
        trace_id, closed, meta = json.loads(line)
        sequences.append(
            Sequence(
                trace_id=trace_id,
                input_ids_T=tokens_T[start : start + answer],
                prompt=Span(0, prompt),
                cot=Span(prompt, cot),
                answer=Span(cot, answer),
                closed=closed,
                meta=meta,
            )
        )
        start += answer
    counts = LoadedTraces(
        refused=Counter(manifest["refused"]),
        notes=Counter(manifest["notes"]),
        places=manifest["places"],
    )
    return sequences, counts


def save_sequences(folder: Path, sequences: list[Sequence], counts: LoadedTraces) -> None:
    """Write a set whole or not at all; where it cannot be written, the next run renders again."""
    try:
        rows = [json.dumps([s.trace_id, s.closed, dict(s.meta)]) for s in sequences]
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    except (OSError, TypeError, ValueError):
        return
    try:
        ids = [s.input_ids_T for s in sequences] or [np.zeros(0, np.int32)]
        ends = [[s.prompt.end, s.cot.end, s.answer.end] for s in sequences]
        np.save(temporary / "tokens.npy", np.concatenate(ids))
        np.save(temporary / "ends.npy", np.array(ends, dtype=np.int64).reshape(-1, 3))
        (temporary / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
        manifest = {"refused": counts.refused, "notes": counts.notes, "places": counts.places}
        (temporary / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        temporary.rename(folder)
    except OSError:  # a full disk, or another process was first
        shutil.rmtree(temporary, ignore_errors=True)


def _content(path: str, revision: str | None) -> Any:
    files = local_files(path)
    if files is None:
        return [path, revision] if revision else None
    inner = [f for file in files for f in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    return [file_digest(file) for file in inner if file.is_file()]


def _name_in_this_package(function: Callable[..., Any]) -> str | None:
    """What a function is called here, where `code_digest` knows its code; None for any other."""
    name: str = getattr(function, "__qualname__", "<lambda>")
    is_own = function.__module__.startswith("leadspan.") and "<" not in name
    return f"{function.__module__}.{name}" if is_own else None


@dataclass(slots=True)
class SequenceSet:
    """Uncut sequences of a run, and what became of the rows that are not among them."""

    train: list[Sequence]
    validation: list[Sequence]
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> rows that are not used."""
    notes: Counter[str] = field(default_factory=Counter)
    """What is worth knowing about rows that are used."""
    places: dict[str, str] = field(default_factory=dict)
    """Reason -> where it was first met."""


def build_sequences(
    config: RunConfig,
    tokenizer: Any,
    annotate: Annotate | None = None,
    rows: Iterable[Place] | None = None,
) -> SequenceSet:
    """Load, render, filter by length, sample and split; the rendered rows are cached by content.

    Of several processes that ask for one set, such as the ranks of a run, one renders; the others wait
    and read what it wrote.

    Args:
        config: The run.
        tokenizer: The student's.
        annotate: Adds to each trace's `meta`; cached only where it is a function of this package.
        rows: Read instead of `config.traces.path`, and not cached.

    Raises:
        DataError: The source cannot be read, or no row of it is usable.
        ConfigError: The rollouts ask for something that prompts alone do not have.
    """
    check_annotated(config.truncation, annotate)
    renderer = Renderer(tokenizer, config.render)

    def rendered() -> Rendered:
        counts = LoadedTraces()
        pairs = iter_sequences(
            config.traces,
            renderer,
            counts,
            config.truncation,
            annotate,
            rows,
            config.all_teachers,
            config.takes_prompts,
        )
        return [sequence for _, sequence in pairs], counts

    layout = renderer.layout.identity
    folder = cache_folder(config, tokenizer, layout, annotate) if rows is None else None
    sequences, counts = rendered() if folder is None else _read_or_make(folder, rendered)
    if not sequences:
        raise DataError(nothing_usable(config.traces, counts))
    train, validation = split_validation(
        sequences, config.traces.validation_fraction, config.traces.seed
    )
    if config.rollout is not None:
        _check_prompts(config.traces.path, config.rollout, train, validation)
    return SequenceSet(train, validation, counts.refused, counts.notes, counts.places)


def _read_or_make(folder: Path, make: Callable[[], Rendered]) -> Rendered:
    if stored := load_sequences(folder):
        return stored
    with _waiting_for_others(folder):
        if stored := load_sequences(folder):
            return stored
        made = make()
        save_sequences(folder, *made)
        return made


@contextmanager
def _waiting_for_others(folder: Path) -> Iterator[None]:
    """Hold the set for this process, once others have let it go; nothing where no lock can be had."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # then the set cannot be written here either
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _check_prompts(
    path: str, rollout: RolloutConfig, train: list[Sequence], validation: list[Sequence]
) -> None:
    """Check that the rollouts ask nothing of a trace where a row is a prompt alone."""
    first = next((sequence.trace_id for sequence in train if sequence.is_prompt), None)
    if first is None:
        return
    if not isinstance(rollout.horizon, int):
        raise ConfigError(
            f"{path}: rollout.horizon must be a number of tokens where a row is a prompt alone; got "
            f"{rollout.horizon:g}, and {first} has no trace to take a share of. Write 512, for example."
        )
    if rollout.prefix:
        raise ConfigError(
            f"{path}: rollout.prefix must be 0 where a row is a prompt alone; got {rollout.prefix:g}, "
            f"and {first} has no trace to begin with. Leave it out."
        )
    if rollout.schedule == "entropy" and not validation:
        raise ConfigError(
            f"{path}: rollout.schedule must be constant or linear where all rows are prompts alone; got "
            f"'entropy', which grows at validations, and prompts such as {first} are never held out. "
            "Write linear."
        )


def check_annotated(truncation: TruncationConfig, annotate: Annotate | None) -> None:
    """Check that someone finds the derivations where the cut needs them.

    Raises:
        ConfigError: Nobody does.
    """
    if truncation.policy == "derivation" and annotate is None:
        raise ConfigError(
            "truncation.policy derivation needs the derivations; call leadspan.study.run.run, which "
            "finds them, or write them into a column and use policy column."
        )


def nothing_usable(config: TracesConfig, counts: LoadedTraces) -> str:
    """The one line that says why no row is left, and what to do where that is known."""
    reasons = ", ".join(
        f"{reason} {number} (first at {counts.places.get(reason) or '?'})"
        for reason, number in counts.refused.most_common(4)
    )
    hints = "".join(f" {hint}." for hint in counts.hints.values())
    return f"{config.path}: must hold a usable trace; all rows were refused: {reasons}.{hints}"


def iter_sequences(
    config: TracesConfig,
    renderer: Renderer,
    counts: LoadedTraces,
    truncation: TruncationConfig | None = None,
    annotate: Annotate | None = None,
    rows: Iterable[Place] | None = None,
    teachers: SequenceABC[TeacherConfig] = (),
    takes_prompts: bool = False,
) -> Iterator[tuple[Trace, Sequence]]:
    """Stream traces with their sequences, after every filter and the sample.

    Args:
        config: The source and its filters.
        renderer: Turns traces into tokens.
        counts: Receives what was refused, and notes.
        truncation: Where its cut points are in characters, they are turned into tokens.
        annotate: Adds to each trace's `meta`.
        rows: Read instead of the source's own.
        teachers: Who claims rows, or reads a prompt of its own.
        takes_prompts: Rows that hold a question and no completion are read too.
    """
    claims = [one.where for one in teachers if isinstance(one, RoutedTeacherConfig)]
    traces: Iterable[Trace] = counts.sift(iter_traces(config, rows, claims, takes_prompts))
    if annotate is not None:
        traces = (replace(t, meta={**t.meta, **annotate(t)}) for t in traces)
    fitting = _fitting(config, iter_rendered(traces, renderer, config.num_processes), counts)
    columns = {DERIVATION_COLUMN} if annotate else set()
    if truncation and truncation.column and truncation.column_unit == "characters":
        columns.add(truncation.column)
    for column in columns:
        fitting = _located(fitting, renderer, column)
    templates = [one.system_prompt for one in teachers]
    if any(templates):
        fitting = with_teacher_prompts(fitting, templates, renderer, counts)
    return fitting if config.sample is None else _sampled(fitting, config, counts)


def _claim(teacher: TeacherConfig) -> dict[str, Any] | None:
    return teacher.where if isinstance(teacher, RoutedTeacherConfig) else None


Pairs = Iterator[tuple[Trace, Sequence]]


def _fitting(
    config: TracesConfig, rows: Iterable[tuple[Trace, Sequence | SkippedRow]], counts: LoadedTraces
) -> Pairs:
    for trace, sequence in rows:
        if isinstance(sequence, SkippedRow):
            reason = sequence.reason
        elif config.max_tokens is not None and len(sequence) > config.max_tokens:
            reason = "over_max_tokens"
        elif draw(trace.trace_id, config.seed, "sample") >= config.sample_fraction:
            reason = "not_sampled"
        else:
            yield trace, sequence
            continue
        counts.refused[reason] += 1
        counts.places.setdefault(reason, trace.trace_id)


def _located(rows: Pairs, renderer: Renderer, column: str) -> Pairs:
    """Turn cut points in characters of the CoT into tokens of the sequence."""
    for trace, sequence in rows:
        point = cut_point(sequence.meta.get(column))
        if point is not None:
            offset = int(min(point, len(trace.cot)))
            (tokens,) = renderer.positions_of([(trace, sequence, offset)])
            sequence = replace(sequence, meta={**sequence.meta, column + TOKENS_SUFFIX: tokens})
        yield trace, sequence


def _sampled(rows: Pairs, config: TracesConfig, counts: LoadedTraces) -> Pairs:
    """The `sample` rows with the lowest draws, in their own order; only those are held."""
    assert config.sample is not None
    heap: list[tuple[float, int, tuple[Trace, Sequence]]] = []
    for order, row in enumerate(rows):
        entry = (-draw(row[0].trace_id, config.seed, "sample"), -order, row)
        if len(heap) < config.sample:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
            counts.refused["not_sampled"] += 1
    yield from (row for _, _, row in sorted(heap, key=lambda entry: -entry[1]))


def draw(trace_id: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but the trace, the seed and the purpose."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{trace_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_validation(
    sequences: list[Sequence], fraction: float, seed: int
) -> tuple[list[Sequence], list[Sequence]]:
    """Train and validation share; a trace stays on its side when rows are appended.

    A prompt alone has no tokens for a validation loss and is never held out.
    """
    held_out = [not s.is_prompt and is_validation(s.trace_id, fraction, seed) for s in sequences]
    train = [s for s, out in zip(sequences, held_out, strict=True) if not out]
    validation = [s for s, out in zip(sequences, held_out, strict=True) if out]
    return train, validation


def is_validation(trace_id: str, fraction: float, seed: int) -> bool:
    """Whether a trace belongs to the validation share."""
    return draw(trace_id, seed, "validation") < fraction
