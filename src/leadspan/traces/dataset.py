"""The one way from `traces` and `render` of a run.yaml to uncut sequences, split and counted.

Training, prepare, inspect and doctor all come through here. Knows nothing about batches or losses.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from leadspan.config import DERIVATION_COLUMN, RunConfig, TracesConfig, TruncationConfig
from leadspan.errors import ConfigError, DataError
from leadspan.records import Sequence, Trace
from leadspan.traces.cut import TOKENS_SUFFIX, cut_point
from leadspan.traces.render import Renderer, iter_rendered
from leadspan.traces.sections import Refusal
from leadspan.traces.sources import LoadedTraces, iter_traces
from leadspan.traces.store import cache_folder, load_sequences, save_sequences

Annotate = Callable[[Trace], Mapping[str, Any]]
"""Adds entries to a trace's `meta` before it is rendered, such as its own cut point."""


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
    config: RunConfig, tokenizer: Any, annotate: Annotate | None = None
) -> SequenceSet:
    """Load, render, filter by length, sample and split; the rendered rows are cached by content.

    Raises:
        DataError: The source cannot be read, or no row of it is usable.
    """
    check_annotated(config.truncation, annotate)
    renderer = Renderer(tokenizer, config.render)
    folder = None if annotate else cache_folder(config, tokenizer, renderer.layout.identity)
    cached = load_sequences(folder) if folder else None
    if cached is None:
        counts = LoadedTraces()
        pairs = iter_sequences(config.traces, renderer, counts, config.truncation, annotate)
        sequences = [sequence for _, sequence in pairs]
        if folder:
            save_sequences(folder, sequences, counts)
    else:
        sequences, counts = cached
    if not sequences:
        raise DataError(nothing_usable(config.traces, counts))
    train, validation = split_validation(
        sequences, config.traces.validation_fraction, config.traces.seed
    )
    return SequenceSet(train, validation, counts.refused, counts.notes, counts.places)


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
) -> Iterator[tuple[Trace, Sequence]]:
    """Stream traces with their sequences, after every filter and the sample.

    Args:
        config: The source and its filters.
        renderer: Turns traces into tokens.
        counts: Receives what was refused, and notes.
        truncation: Where its cut points are in characters, they are turned into tokens.
        annotate: Adds to each trace's `meta`.
    """
    traces: Iterable[Trace] = counts.sift(iter_traces(config))
    if annotate is not None:
        traces = (replace(t, meta={**t.meta, **annotate(t)}) for t in traces)
    fitting = _fitting(config, iter_rendered(traces, renderer, config.num_processes), counts)
    columns = {DERIVATION_COLUMN} if annotate else set()
    if truncation and truncation.column and truncation.column_unit == "characters":
        columns.add(truncation.column)
    for column in columns:
        fitting = _located(fitting, renderer, column)
    return fitting if config.sample is None else _sampled(fitting, config, counts)


Pairs = Iterator[tuple[Trace, Sequence]]


def _fitting(
    config: TracesConfig, rows: Iterable[tuple[Trace, Sequence | Refusal]], counts: LoadedTraces
) -> Pairs:
    for trace, sequence in rows:
        if isinstance(sequence, Refusal):
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
    """Train and validation share; a trace stays on its side when rows are appended."""
    held_out = [is_validation(sequence.trace_id, fraction, seed) for sequence in sequences]
    train = [s for s, out in zip(sequences, held_out, strict=True) if not out]
    validation = [s for s, out in zip(sequences, held_out, strict=True) if out]
    return train, validation


def is_validation(trace_id: str, fraction: float, seed: int) -> bool:
    """Whether a trace belongs to the validation share."""
    return draw(trace_id, seed, "validation") < fraction
