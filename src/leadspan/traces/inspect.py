"""What is in a set of traces: rows, section lengths, round trips, cuts, and a few traces.

Measured once as plain data and drawn with rich on the terminal; `study.report.traces_page` shows the same as
a page. Text from traces is never markup.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from leadspan.config import RenderConfig, SupervisionConfig, TracesConfig, TruncationConfig
from leadspan.progress import amount, build_table
from leadspan.records import SECTIONS, Section, Sequence, Trace
from leadspan.traces.cut import Cut, CutCounter, CutReport
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
    **{code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)},
}
"""Characters that steer a terminal or the direction of text, and halves of characters, which cannot be
printed, as something one can see."""


def visible(text: str) -> str:
    """`text` with every control character replaced by a visible one."""
    return text.translate(CONTROL)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighboring tokens of a trace that share section and fate."""

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
    at_shares = np.quantile(values, list(QUANTILES.values())).tolist()
    return {**dict(zip(QUANTILES, at_shares, strict=True)), "mean": float(values.mean())}


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
    takes_prompts: bool = False,
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
        takes_prompts: Rows that hold a question and no completion are shown too; nothing is cut there.

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
    pairs = iter_sequences(
        traces, renderer, counts, truncation, annotate, takes_prompts=takes_prompts
    )
    for trace, sequence in pairs:
        for section in SECTIONS:
            lengths[section].append(len(sequence.span(section)))
        lengths["sequence"].append(len(sequence))
        round_trips[renderer.round_trip(trace, sequence)] += 1
        for counter in () if sequence.is_prompt else (*counters.values(), configured):
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


def specimen(renderer: Renderer, trace: Trace, sequence: Sequence, cut: Cut) -> Specimen:
    """Decode a trace in runs of tokens that share section and fate."""
    positions_K = cut.positions(sequence)
    kept_T = np.zeros(len(sequence), dtype=np.bool_)
    kept_T[positions_K] = True
    scored_T = np.zeros(len(sequence), dtype=np.bool_)
    scored_T[positions_K] = cut.example(sequence).supervised_T
    edges = [0, *(np.flatnonzero((np.diff(kept_T) != 0) | (np.diff(scored_T) != 0)) + 1)]
    edges += [sequence.prompt.end, sequence.cot.end, len(sequence)]
    pieces = list(pairwise(sorted({int(edge) for edge in edges})))
    texts = renderer.encoder.decode([sequence.input_ids_T[a:b].tolist() for a, b in pieces])
    runs = tuple(
        Run(visible(text), _section_at(sequence, start), bool(kept_T[start]), bool(scored_T[start]))
        for text, (start, _) in zip(texts, pieces, strict=True)
    )
    return Specimen(trace.trace_id, len(sequence), len(positions_K), runs)


def _section_at(sequence: Sequence, position: int) -> Section:
    return next(name for name in SECTIONS if position < sequence.span(name).end)


COLORS = {"prompt": "cyan", "cot": "yellow", "answer": "green", "sequence": "white"}
BARS = " ▁▂▃▄▅▆▇█"
MOST_CHARACTERS = 6000
"""The terminal shows longer runs shortened in their middle; the page shows them whole."""


def show(
    inspection: Inspection, console: Console, most_characters: int | None = MOST_CHARACTERS
) -> None:
    """Print counts, specimens, longer runs of which are shortened, lengths, and the cuts last."""
    console.print(_counts(inspection))
    for specimen in inspection.specimens:
        console.print(_specimen(specimen, most_characters))
    if inspection.usable:
        console.print(_lengths(inspection))
    if inspection.configured.sequences:
        console.print(_cuts(inspection))


def _counts(inspection: Inspection) -> RenderableType:
    round_trips = inspection.round_trips
    lines = [
        Text(f"{inspection.rows} rows, {inspection.usable} usable: {visible(inspection.path)}"),
        Text(
            f"round trip: {round_trips['exact']} exact, {round_trips['normalised']} normalised, "
            f"{round_trips['failed']} failed"
        ),
    ]
    for reason, number in inspection.counts.refused.most_common():
        place = inspection.counts.places.get(reason, "?")
        lines.append(Text(visible(f"refused: {reason} {number} (first at {place})"), style="red"))
        # Where nothing is usable, the error behind all this says so once more.
        if inspection.usable and (hint := inspection.counts.hints.get(reason)):
            lines.append(Text(f"  {hint}", style="red"))
    for note, number in inspection.counts.notes.most_common():
        lines.append(Text(f"note: {note} {number}", style="dim"))
    return Group(*lines)


def _lengths(inspection: Inspection) -> RenderableType:
    table = build_table("section", *QUANTILES, "mean", title="tokens by section")
    counts = histogram(inspection.lengths)
    for name, values in inspection.lengths.items():
        cells = [amount(value) for value in quantiles(values).values()]
        table.add_row(Text(name, style=COLORS[name]), *cells)
    bars = [Text(f"{n:9}{_bars(counts[n])}", style=COLORS[n]) for n in inspection.lengths]
    caption = f"traces by length, 0 to {counts['edges'][-1]:,.0f} tokens"
    return Group(table, Text(caption, style="dim"), *bars, Text())


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    return "".join(BARS[-(-8 * count // most)] for count in counts)


def _cuts(inspection: Inspection) -> RenderableType:
    headers = (
        "lsp",
        "kept",
        *(f"scored\n{section}" for section in SECTIONS),
        "close\nkept",
        "answers\nkept",
        *(["derived\nkept"] if inspection.configured.derivation_kept is not None else []),
        "nothing\nscored",
    )
    table = build_table(*headers, title="what each LSP keeps, in tokens and shares of the traces")
    for lsp, cut in inspection.cuts.items():
        table.add_row(f"{lsp:g}", *_cut_cells(cut))
    table.add_section()
    table.add_row("config", *_cut_cells(inspection.configured))
    return table


def _cut_cells(cut: CutReport) -> list[str]:
    shares = [cut.close_marker_kept, cut.answer_kept]
    shares += [] if cut.derivation_kept is None else [cut.derivation_kept]
    return [
        amount(cut.kept_tokens),
        *(amount(number) for number in cut.scored_tokens.values()),
        *("-" if share is None else f"{share:.1%}" for share in shares),
        amount(cut.dropped),
    ]


def _specimen(specimen: Specimen, most_characters: int | None) -> RenderableType:
    text = Text()
    kept = True
    for run in specimen.runs:
        if kept and not run.kept:
            text.append(" ✂ cut here ", style="bold white on red")
        kept = run.kept
        fate = "" if run.scored else "dim " if run.kept else "dim strike "
        text.append(_shortened(run.text, most_characters), style=fate + COLORS[run.section])
    title = f"{visible(specimen.trace_id)}: {specimen.num_kept_tokens} of {specimen.num_tokens} tokens kept"
    legend = Text("  ").join(Text(section, style=COLORS[section]) for section in SECTIONS)
    legend.append("  dim: not scored", style="dim").append("  struck: cut", style="dim strike")
    return Panel(text, title=Text(title), subtitle=legend, title_align="left")


def _shortened(text: str, most_characters: int | None) -> str:
    if most_characters is None or len(text) <= most_characters:
        return text
    half = most_characters // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"
