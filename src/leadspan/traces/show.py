"""An inspection on the terminal, drawn with rich. Knows nothing about how it was measured."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from leadspan.traces.cut_report import CutReport
from leadspan.traces.inspection import (
    QUANTILES,
    Inspection,
    Specimen,
    histogram,
    quantiles,
    visible,
)

COLOURS = {"prompt": "cyan", "cot": "yellow", "answer": "green", "sequence": "white"}
BARS = " ▁▂▃▄▅▆▇█"
MOST_CHARACTERS = 6000
"""Longer traces are shortened in the middle of a run."""


def show(inspection: Inspection, console: Console) -> None:
    """Print counts, lengths, cuts and specimens."""
    console.print(_counts(inspection))
    if not inspection.usable:
        return
    console.print(_lengths(inspection))
    console.print(_cuts(inspection))
    for specimen in inspection.specimens:
        console.print(_specimen(specimen))


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
        if hint := inspection.counts.hints.get(reason):
            lines.append(Text(f"  {hint}", style="red"))
    for note, number in inspection.counts.notes.most_common():
        lines.append(Text(f"note: {note} {number}", style="dim"))
    return Group(*lines)


def _lengths(inspection: Inspection) -> RenderableType:
    table = Table(title="tokens by section", title_justify="left")
    table.add_column("section")
    for name in (*QUANTILES, "mean"):
        table.add_column(name, justify="right")
    counts = histogram(inspection.lengths)
    for name, values in inspection.lengths.items():
        cells = [f"{value:,.0f}" for value in quantiles(values).values()]
        table.add_row(Text(name, style=COLOURS[name]), *cells)
    bars = [Text(f"{n:9}{_bars(counts[n])}", style=COLOURS[n]) for n in inspection.lengths]
    caption = f"traces by length, 0 to {counts['edges'][-1]:,.0f} tokens"
    return Group(table, Text(caption, style="dim"), *bars)


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    return "".join(BARS[-(-8 * count // most)] for count in counts)


def _cuts(inspection: Inspection) -> RenderableType:
    table = Table(title="what each LSP keeps", title_justify="left")
    names = (
        "tokens",
        "scored prompt",
        "scored cot",
        "scored answer",
        "close kept",
        "answers kept",
        "derived",
    )
    for name in ("lsp", *names, "dropped"):
        table.add_column(name, justify="right")
    for lsp, cut in inspection.cuts.items():
        table.add_row(f"{lsp:g}", *_cut_cells(cut))
    table.add_section()
    table.add_row("config", *_cut_cells(inspection.configured))
    return table


def _cut_cells(cut: CutReport) -> list[str]:
    shares = [cut.close_marker_kept, cut.answer_kept, cut.derivation_kept]
    return [
        f"{cut.kept_tokens:,}",
        *(f"{number:,}" for number in cut.scored_tokens.values()),
        *("-" if share is None else f"{share:.1%}" for share in shares),
        f"{cut.dropped:,}",
    ]


def _specimen(specimen: Specimen) -> RenderableType:
    text = Text()
    kept = True
    for run in specimen.runs:
        if kept and not run.kept:
            text.append(" ✂ cut here ", style="bold white on red")
        kept = run.kept
        style = COLOURS[run.section]
        if not run.kept:
            style = f"dim strike {style}"
        elif not run.scored:
            style = f"dim {style}"
        text.append(_shortened(run.text), style=style)
    title = f"{visible(specimen.trace_id)}: {specimen.num_kept_tokens} of {specimen.num_tokens} tokens kept"
    legend = Text("prompt", style=COLOURS["prompt"])
    for section in ("cot", "answer"):
        legend.append("  ").append(section, style=COLOURS[section])
    legend.append("  dim: not scored", style="dim").append("  struck: cut", style="dim strike")
    return Panel(text, title=Text(title), subtitle=legend, title_align="left")


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"
