"""The report as words: two sentences and a few figures at the top, then Markdown with its tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from leadspan.study.report.charts import Chart
from leadspan.study.report.on_policy import families_of
from leadspan.study.report.summary import (
    COST_LABELS,
    FULL,
    HALF,
    MISSING,
    PAPER_RETENTION,
    Summary,
    find_lsp,
    is_known,
    say_count,
    say_lsp,
    say_number,
)
from leadspan.study.report.tables import Table


def headline(summary: Summary, place: Path | None = None) -> str:
    """Two sentences: the outcome, then what it means and where it lies."""
    return f"{_outcome(summary)}. {_meaning(summary, place)}."


def _outcome(summary: Summary) -> str:
    settings = summary.settings
    if settings.empty:
        return (
            f"No training run has a result: {len(summary.failed)} failed, "
            f"{len(summary.results.unfinished)} unfinished"
        )
    scored = settings.dropna(subset="accuracy")
    if scored.empty:
        return f"{say_count(len(settings), 'setting')} trained, but none was evaluated"
    half = find_lsp(summary.curve, HALF)
    shown, reference = half if half is not None else _most_cut(summary), summary.reference
    if shown is None or not is_known(shown.retention) or reference is None:
        best = next(scored.nlargest(1, "accuracy").itertuples())
        return (
            f"The best of {say_count(len(scored), 'setting')} is {best.setting}, accuracy "
            f"{best.accuracy_said} ({say_count(best.num_seeds, 'seed')})"
        )
    kept = say_number(shown.retention)
    if is_known(shown.retention_low):
        low, high = say_number(shown.retention_low), say_number(shown.retention_high)
        kept += f" (95 % interval {low} to {high})"
    return (
        f"At lsp {say_lsp(shown.lsp)} the student kept {kept} of the accuracy of full sequences "
        f"({shown.accuracy:.2f} against {reference.accuracy:.2f}; {say_count(shown.num_seeds, 'seed')})"
        f"{_for_costs(shown)}"
    )


def _most_cut(summary: Summary) -> Any:
    """What the headline is about where there is no lsp 0.5: the recommended cut or the largest."""
    if summary.recommended is not None and summary.recommended.lsp < FULL:
        return summary.recommended
    cut = summary.curve[summary.curve.lsp < FULL].dropna(subset="retention")
    return None if cut.empty else list(cut.itertuples())[-1]


def _for_costs(setting: Any) -> str:
    shares = {"training time": setting.train_seconds_ratio, "FLOPs": setting.train_flops_ratio}
    parts = [f"{share:.2f} of the {label}" for label, share in shares.items() if is_known(share)]
    return f" for {' and '.join(parts)}" if parts else ""


def _meaning(summary: Summary, place: Path | None) -> str:
    families = families_of(summary)
    parts = [] if families is not None and summary.curve.empty else [_advice(summary)]
    if families is not None:
        parts.append(families.sentence)
    if not summary.settings.empty:
        counts = {"failed": len(summary.failed), "unfinished": len(summary.results.unfinished)}
        parts += [f"{say_count(count, 'run')} {what}" for what, count in counts.items() if count]
    if place is not None:
        parts.append(f"the report lies in {place}")
    return "; ".join(parts)


def _advice(summary: Summary) -> str:
    if summary.settings.empty:
        reasons = [run.error for run in summary.failed if run.error]
        return f"The first reason: {reasons[0].rstrip('.')}" if reasons else "Run it to the end"
    reference, chosen = summary.reference, summary.recommended
    if reference is None or not is_known(reference.accuracy):
        return "Without a result at lsp 1.0 nothing can be said about what a cut costs"
    if reference.accuracy == 0:
        return "At lsp 1.0 no answer was correct, so there is nothing that a cut could keep"
    base, teacher = (summary.accuracy_of(kind) for kind in ("base", "teacher"))
    if base is not None and reference.accuracy <= base:
        return (
            f"Training on full sequences did not beat the untrained student ({base:.2f}), "
            "so retention says little here"
        )
    if len(summary.curve) == 1:
        return "Only lsp 1.0 has a result, so nothing can be said about what a cut costs"
    if chosen is None or chosen.lsp >= FULL:
        return f"No smaller cut kept at least {PAPER_RETENTION} of full accuracy"
    scores = {"untrained student": base, "teacher": teacher}
    known = [f"{name} {score:.2f}" for name, score in scores.items() if score is not None]
    beside = f" ({' and '.join(known)})" if known else ""
    return (
        f"The smallest cut that kept at least {PAPER_RETENTION} of full accuracy is "
        f"lsp {say_lsp(chosen.lsp)}{beside}"
    )


def say_tags(summary: Summary) -> list[str]:
    """How much the report is about, and the sweep's labels."""
    done = sum(run.is_done for run in summary.results.runs)
    tags = [f"{key.replace('_', ' ')} {value}" for key, value in summary.results.tags.items()]
    return [f"{say_count(done, 'run')} with a result", *tags]


def build_tiles(summary: Summary) -> list[tuple[str, str, str]]:
    """The figures at the top of the page: value, what it is, what stands beside it."""
    half, full, chosen = find_lsp(summary.curve, HALF), summary.reference, summary.recommended
    tiles = []
    if half is not None and is_known(half.retention):
        paper = f"paper {PAPER_RETENTION}"
        tiles.append((say_number(half.retention), "of full accuracy kept at lsp 0.5", paper))
    tiles += [
        (f"{share:.2f} ×", f"{COST_LABELS[name]} at lsp 0.5", "full 1.00")
        for name in ("train_seconds", "train_flops")
        if half is not None and is_known(share := getattr(half, f"{name}_ratio"))
    ]
    if full is not None and is_known(full.accuracy):
        beside = [
            f"{label} {score:.2f}"
            for kind, label in (("base", "untrained"), ("teacher", "teacher"))
            if (score := summary.accuracy_of(kind)) is not None
        ]
        tiles.append((say_number(full.accuracy), "accuracy at lsp 1.0", ", ".join(beside)))
    if full is not None:
        value = MISSING if chosen is None else say_lsp(chosen.lsp)
        kept = "none keeps enough" if chosen is None else f"keeps {chosen.retention_said}"
        tiles.append((value, "recommended lsp", kept))
    return tiles


def write_markdown(
    summary: Summary,
    tables: Mapping[str, Table],
    charts: Mapping[str, Chart],
    figures: Mapping[str, Path],
) -> str:
    """The text of report.md."""
    counted, *tags = say_tags(summary)
    counted = f"{counted}; {', '.join(tags)}." if tags else f"{counted}."
    parts = ["# What truncation cost", headline(summary), escape(counted)]
    for table in tables.values():
        parts.append(f"## {escape(table.title)}")
        captions = {name: c.caption for name, c in charts.items() if c.table == table.name}
        if table.name == "tradeoff":
            captions = {"tradeoff": "Accuracy, retention, cost."}
        for name, caption in captions.items():
            if name in figures:
                parts.append(f"![{escape(caption)}](figures/{figures[name].name})")
        parts.append(write_table(table.cells))
        if table.note:
            parts.append(escape(table.note))
    parts.append("Every number of every run: [results.csv](results.csv).")
    return "\n\n".join(parts) + "\n"


def write_table(cells: pd.DataFrame) -> str:
    """One pipe table."""
    lines = [cells.columns, ["---"] * len(cells.columns), *cells.itertuples(index=False)]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that cannot break out of its line, cell or paragraph, nor become HTML."""
    for mark in ("\\", "|", "<", ">", "*", "`", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
