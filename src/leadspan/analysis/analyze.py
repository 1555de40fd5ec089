"""Read every trace of a source: where it derives its answer, and what it does before and after.

Joins the readings (`derivation`, `reflection`, `segments`, `entailment`) with token positions from
`traces` and with the grade of each trace's own answer. Returns data only; figures are drawn by
`study`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, get_args

from leadspan.analysis.derivation import Derivation, find_derivation
from leadspan.analysis.mentions import find_mentions, last_sentence_start
from leadspan.analysis.segments import (
    SEGMENT_KINDS,
    SegmentKind,
    count_around,
    find_segments,
    measure_coverage,
    shares,
)
from leadspan.analysis.values import accepted_texts, read_accepted
from leadspan.config import RenderConfig, TracesConfig
from leadspan.display import counted, line
from leadspan.errors import DataError
from leadspan.grading import Grade, Grader
from leadspan.records import Sequence, Trace
from leadspan.statistics import share_interval
from leadspan.traces.cut import share_of
from leadspan.traces.dataset import iter_sequences, nothing_usable
from leadspan.traces.render import Renderer
from leadspan.traces.sources import LoadedTraces


def find_wrong(traces: Iterable[Trace], grader: Grader) -> frozenset[str]:
    """Ids of the traces whose final answer was read and is none of their golds.

    What cannot be read, and what has no final answer (an open think block), is not called wrong.
    """
    asked = [trace for trace in traces if trace.golds and _final(trace).strip()]
    rows = [(_final(trace), accepted_texts(trace.golds), "math") for trace in asked]
    grades = grader.grade_many(rows)
    return frozenset(
        trace.trace_id
        for trace, grade in zip(asked, grades, strict=True)
        if grade.outcome == "wrong" and not _says_gold(trace, grade)
    )


def _final(trace: Trace) -> str:
    """The text that holds the final answer."""
    if trace.answer.strip():
        return trace.answer
    return trace.cot if trace.closed else ""


def _says_gold(trace: Trace, grade: Grade) -> bool:
    """Whether what a grader calls another text says the gold: "Amazon River" does of "Amazon"."""
    final = _final(trace).rstrip()
    last = final[last_sentence_start(final) :]
    return any(
        find_mentions(last if gold.kind == "word" else grade.extracted or "", gold)
        for gold in read_accepted(trace.golds)
    )


LSP_GRID = tuple(step / 20 for step in range(1, 21))
"""0.05, 0.1 ... 1.0: where survival is reported."""
Status = Literal["derived", "wrong", "not_found", "gold_in_prompt", "no_gold"]
STATUSES: tuple[Status, ...] = get_args(Status)
HISTOGRAM_BINS = 20
BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class TraceReading:
    """What was read off one trace."""

    trace_id: str
    derivation: Derivation
    is_wrong: bool
    """The trace's own answer grades as wrong, so that passing through the gold derives nothing."""
    num_tokens: int
    """Of the uncut sequence: prompt, markers, CoT, answer and end."""
    prompt_tokens: int
    cot_tokens: int
    derivation_tokens: int | None
    """Tokens of the sequence up to and with the derived answer: what a lead must keep."""
    cot_fraction: float | None
    """The derivation's end as a share of the CoT's characters; 1 where it stands in the answer."""
    cues_before: int
    """Self-reflection cues before the derivation, or in the whole CoT where none was found."""
    cues_after: int
    segments: Mapping[SegmentKind, float]
    """Share of the CoT's characters by kind."""
    prompt_coverage: float
    """How much of the prompt's numbers and words the CoT holds, 0 to 1."""
    answer_coverage: float

    @property
    def status(self) -> Status:
        """What the trace counts as."""
        return "wrong" if self.is_wrong else self.derivation.status

    @property
    def fraction(self) -> float | None:
        """The derivation's end as a share of the sequence's tokens."""
        return None if self.derivation_tokens is None else self.derivation_tokens / self.num_tokens

    def survives(self, lsp: float, of: Literal["sequence", "cot"] = "sequence") -> bool:
        """True where the lead of this share keeps the derivation; `of` as in `truncation.of`."""
        kept = share_of(self.num_tokens, lsp)
        if of == "cot":
            kept = self.prompt_tokens + share_of(self.cot_tokens, lsp)
        return self.derivation_tokens is not None and self.derivation_tokens <= kept


@dataclass(frozen=True, slots=True)
class Analysis:
    """All readings of a source, and what became of its other rows."""

    readings: tuple[TraceReading, ...]
    refused: Mapping[str, int]
    template: str = ""
    """The chat template that the prompts went through, in words: shares of a sequence hang on it."""

    def __repr__(self) -> str:
        counts = Counter(reading.status for reading in self.readings)
        statuses = (f"{number:,} {status}" for status, number in counts.most_common())
        return line(self, None, counted(len(self.readings), "reading"), *statuses)

    @property
    def derived(self) -> tuple[TraceReading, ...]:
        """Right traces whose derivation was found and whose gold the prompt does not give away."""
        return tuple(r for r in self.readings if r.status == "derived")

    def survival(self, lsp: float, of: Literal["sequence", "cot"] = "sequence") -> float | None:
        """Share of the derived traces whose derivation the lead keeps; None where there are none."""
        derived = self.derived
        return sum(r.survives(lsp, of) for r in derived) / len(derived) if derived else None

    def survival_interval(self, lsp: float) -> tuple[float, float] | None:
        """The 95 % interval of `survival`, for traces drawn like these."""
        derived = self.derived
        if not derived:
            return None
        found = share_interval(sum(reading.survives(lsp) for reading in derived), len(derived))
        return found.low, found.high

    def count(self, status: Status) -> int:
        """Traces of one status."""
        return sum(r.status == status for r in self.readings)


def read_traces(
    pairs: Iterable[tuple[Trace, Sequence]], renderer: Renderer
) -> Iterator[TraceReading]:
    """Read traces, in order.

    Args:
        pairs: The texts, and the same rendered, uncut.
        renderer: The one that rendered them; turns characters into tokens.
    """
    rows = iter(pairs)
    with Grader() as grader:
        while batch := list(islice(rows, BATCH_ROWS)):
            wrong = find_wrong([trace for trace, _ in batch], grader)
            found = [find_derivation(trace) for trace, _ in batch]
            tokens = _token_positions(batch, found, renderer)
            for (trace, sequence), derivation in zip(batch, found, strict=True):
                is_wrong = trace.trace_id in wrong
                yield _read(trace, sequence, derivation, is_wrong, tokens.get(trace.trace_id))


def _token_positions(
    batch: list[tuple[Trace, Sequence]], found: list[Derivation], renderer: Renderer
) -> dict[str, int]:
    """How many tokens of each sequence end with its derivation, where there is one."""
    positions: dict[str, int] = {}
    sections: tuple[Literal["cot", "answer"], ...] = ("cot", "answer")
    for section in sections:
        ends = [one.end if section == "cot" else one.answer_end for one in found]
        places = [
            (trace, sequence, end)
            for (trace, sequence), end in zip(batch, ends, strict=True)
            if end is not None
        ]
        ids = [trace.trace_id for trace, _, _ in places]
        positions.update(zip(ids, renderer.positions_of(places, section), strict=True))
    return positions


def _read(
    trace: Trace,
    sequence: Sequence,
    derivation: Derivation,
    is_wrong: bool,
    derivation_tokens: int | None,
) -> TraceReading:
    end = derivation.end
    before, after = count_around(trace.cot, len(trace.cot) if end is None else end)
    return TraceReading(
        trace_id=trace.trace_id,
        derivation=derivation,
        is_wrong=is_wrong,
        num_tokens=len(sequence),
        prompt_tokens=len(sequence.prompt),
        cot_tokens=len(sequence.cot),
        derivation_tokens=derivation_tokens,
        cot_fraction=derivation.fraction(trace.cot),
        cues_before=before,
        cues_after=after,
        segments=shares(find_segments(trace.cot, trace.prompt, end)),
        prompt_coverage=measure_coverage(trace.prompt, trace.cot).score,
        answer_coverage=measure_coverage(trace.answer, trace.cot).score,
    )


def analyze(
    config: TracesConfig,
    tokenizer: Any,
    render: RenderConfig | None = None,
    limit: int | None = None,
) -> Analysis:
    """Read every usable trace of a source, or its first `limit`.

    Raises:
        DataError: The source cannot be read, or no row of it is usable.
    """
    renderer = Renderer(tokenizer, render or RenderConfig())
    counts = LoadedTraces()
    pairs = iter_sequences(config, renderer, counts)
    readings = tuple(read_traces(islice(pairs, limit), renderer))
    if not readings:
        raise DataError(nothing_usable(config, counts))
    return Analysis(readings, dict(counts.refused), _template_name(renderer))


def _template_name(renderer: Renderer) -> str:
    """Where the chat template comes from."""
    if renderer.layout.template is None:
        return "none (plain prompts)"
    return renderer.config.chat_template or "the tokenizer's own"


def summarise(analysis: Analysis) -> dict[str, Any]:
    """The figures of `leadspan analyze --json`, as plain numbers.

    `median_fraction` and `survival` are over the derived traces: the end of the first derivation as
    a share of the sequence's tokens, and how many of them a lead of each share keeps.
    """
    derived = analysis.derived
    fractions = [r.fraction for r in derived if r.fraction is not None]
    return {
        "traces": len(analysis.readings),
        **{status: analysis.count(status) for status in STATUSES},
        "derived_in_answer": sum(r.derivation.answer_end is not None for r in derived),
        "template": analysis.template,
        "refused": dict(analysis.refused),
        "median_fraction": _rounded(_median(fractions)),
        "quartiles": [_rounded(_quantile(fractions, q)) for q in (0.25, 0.5, 0.75)],
        "median_cot_fraction": _rounded(_median([r.cot_fraction for r in derived])),
        "survival": {f"{lsp:g}": _rounded(analysis.survival(lsp)) for lsp in LSP_GRID},
        "survival_interval": {
            f"{lsp:g}": interval and [_rounded(end) for end in interval]
            for lsp in LSP_GRID
            for interval in (analysis.survival_interval(lsp),)
        },
        "histogram": _histogram(fractions),
        "evidence": dict(Counter(r.derivation.evidence for r in derived).most_common()),
        "mean_confidence": _rounded(_mean([r.derivation.confidence for r in derived])),
        "cues_before": _rounded(_mean([r.cues_before for r in derived])),
        "cues_after": _rounded(_mean([r.cues_after for r in derived])),
        "segments": {
            kind: _rounded(_mean([r.segments[kind] for r in derived])) for kind in SEGMENT_KINDS
        },
        "prompt_coverage": _rounded(_mean([r.prompt_coverage for r in analysis.readings])),
        "answer_coverage": _rounded(_mean([r.answer_coverage for r in analysis.readings])),
        "median_tokens": int(statistics.median(r.num_tokens for r in analysis.readings)),
        "median_prompt_tokens": int(statistics.median(r.prompt_tokens for r in analysis.readings)),
    }


def reading_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One flat row a trace, for tables and figures."""
    rows = []
    for reading in analysis.readings:
        row = {**asdict(reading), "fraction": reading.fraction, "status": reading.status}
        derivation = row.pop("derivation")
        rows.append({**row, **{name: derivation[name] for name in _DERIVATION_KEYS}})
    return rows


_DERIVATION_KEYS = ("start", "end", "answer_end", "sentence", "evidence", "confidence")


def _histogram(fractions: list[float]) -> list[int]:
    """How many derivations end in each twentieth of the sequence."""
    counts = [0] * HISTOGRAM_BINS
    for fraction in fractions:
        counts[min(HISTOGRAM_BINS - 1, int(fraction * HISTOGRAM_BINS))] += 1
    return counts


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.fmean(listed) if listed else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))] if ordered else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
