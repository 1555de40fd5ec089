"""What is in a set of traces, measured: rows, section lengths, round trips, cuts, and a few traces.

Plain data; `show` and `page` draw it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from leadspan.config import RenderConfig, SupervisionConfig, TracesConfig, TruncationConfig
from leadspan.records import SECTIONS, Section, Sequence, Trace
from leadspan.traces.cut import Cut
from leadspan.traces.cut_report import CutCounter, CutReport
from leadspan.traces.dataset import Annotate, check_annotated, iter_sequences
from leadspan.traces.render import Renderer
from leadspan.traces.sources import LoadedTraces

LSPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
HISTOGRAM_BINS = 24
CONTROL = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
"""Characters that steer a terminal or the direction of text, as something one can see."""


def visible(text: str) -> str:
    """`text` with every control character replaced by a visible one."""
    return text.translate(CONTROL)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of a trace that share section and fate."""

    text: str
    section: Section
    kept: bool
    scored: bool


@dataclass(frozen=True, slots=True)
class Specimen:
    """One trace to look at."""

    trace_id: str
    num_tokens: int
    num_kept_tokens: int
    gold: str | None
    runs: tuple[Run, ...]


@dataclass(slots=True)
class Inspection:
    """Everything `leadspan inspect` says."""

    path: str
    counts: LoadedTraces
    lengths: dict[str, np.ndarray]
    """Tokens of each usable trace, by section and for the whole `sequence`."""
    round_trips: Counter[str]
    cuts: dict[float, CutReport]
    """By lead-span proportion."""
    configured: CutReport
    """The cut that the config asks for."""
    specimens: list[Specimen]

    @property
    def usable(self) -> int:
        """Traces that can be trained on."""
        return len(self.lengths["sequence"])

    @property
    def rows(self) -> int:
        """Usable and refused."""
        return self.usable + self.counts.refused.total()

    def as_dict(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "path": self.path,
            "rows": self.rows,
            "usable": self.usable,
            "refused": dict(self.counts.refused),
            "first_refused": self.counts.places,
            "hints": self.counts.hints,
            "notes": dict(self.counts.notes),
            "tokens": {name: quantiles(values) for name, values in self.lengths.items()},
            "roundtrip_failures": self.round_trips["failed"],
            "roundtrip_normalised": self.round_trips["normalised"],
            "lsp": {f"{lsp:g}": cut.as_dict() for lsp, cut in self.cuts.items()},
            "configured": self.configured.as_dict(),
            "histogram": histogram(self.lengths),
        }


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Quantiles and mean; empty for no values."""
    if not len(values):
        return {}
    named = {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}
    return {**named, "mean": float(values.mean())}


def histogram(lengths: dict[str, np.ndarray], bins: int = HISTOGRAM_BINS) -> dict[str, Any]:
    """Counts by section over shared edges: `{edges: [bins + 1], prompt: [bins], ...}`, in tokens."""
    longest = max((int(values.max()) for values in lengths.values() if len(values)), default=1)
    edges = np.linspace(0, longest + 1, bins + 1)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in lengths.items()}
    return {"edges": edges.round(1).tolist(), **counts}


def inspect_traces(
    tokenizer: Any,
    traces: TracesConfig,
    render: RenderConfig | None = None,
    truncation: TruncationConfig | None = None,
    supervision: SupervisionConfig | None = None,
    num_specimens: int = 1,
    annotate: Annotate | None = None,
) -> Inspection:
    """Read, render and measure a source, streaming.

    Args:
        tokenizer: The student's.
        traces: The source.
        render: Text to tokens.
        truncation: The cut that is shown.
        supervision: The sections that are scored.
        num_specimens: Traces to look at.
        annotate: Adds where each trace first derives its gold, if that is to be counted.

    Raises:
        DataError: The source cannot be read.
    """
    renderer = Renderer(tokenizer, render)
    truncation = truncation or TruncationConfig()
    check_annotated(truncation, annotate)
    counters = {lsp: CutCounter(Cut(TruncationConfig(lsp=lsp), supervision)) for lsp in LSPS}
    configured = CutCounter(Cut(truncation, supervision))
    counts = LoadedTraces()
    lengths: dict[str, list[int]] = {name: [] for name in (*SECTIONS, "sequence")}
    round_trips: Counter[str] = Counter()
    specimens: list[Specimen] = []
    for trace, sequence in iter_sequences(traces, renderer, counts, truncation, annotate):
        for section in SECTIONS:
            lengths[section].append(len(sequence.span(section)))
        lengths["sequence"].append(len(sequence))
        round_trips[renderer.round_trip(trace, sequence)] += 1
        for counter in (*counters.values(), configured):
            counter.add(sequence)
        if len(specimens) < num_specimens:
            specimens.append(specimen(renderer, trace, sequence, configured.cut))
    return Inspection(
        path=traces.path,
        counts=counts,
        lengths={name: np.array(values, dtype=np.int64) for name, values in lengths.items()},
        round_trips=round_trips,
        cuts={lsp: counter.report() for lsp, counter in counters.items()},
        configured=configured.report(),
        specimens=specimens,
    )


def specimen(
    renderer: Renderer,
    trace: Trace,
    sequence: Sequence,
    cut: Cut,
) -> Specimen:
    """Decode a trace in runs of tokens that share section and fate."""
    positions_K = cut.positions(sequence)
    kept_T = np.zeros(len(sequence), dtype=np.bool_)
    kept_T[positions_K] = True
    scored_T = np.zeros(len(sequence), dtype=np.bool_)
    scored_T[positions_K] = cut.example(sequence).supervised_T
    edges = [0, *(np.flatnonzero((np.diff(kept_T) != 0) | (np.diff(scored_T) != 0)) + 1)]
    edges += [sequence.prompt.end, sequence.cot.end, len(sequence)]
    bounds = sorted({int(edge) for edge in edges})
    pieces = list(pairwise(bounds))
    texts = renderer.encoder.decode([sequence.input_ids_T[a:b].tolist() for a, b in pieces])
    runs = tuple(
        Run(visible(text), _section_at(sequence, start), bool(kept_T[start]), bool(scored_T[start]))
        for text, (start, _) in zip(texts, pieces, strict=True)
    )
    return Specimen(trace.trace_id, len(sequence), len(positions_K), trace.gold, runs)


def _section_at(sequence: Sequence, position: int) -> Section:
    return next(name for name in SECTIONS if position < sequence.span(name).end)
