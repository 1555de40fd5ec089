"""The report as one Markdown text, with its figures beside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from leadspan.study.report.chart import Chart
from leadspan.study.report.summary import Summary
from leadspan.study.report.table import Table
from leadspan.study.report.wording import headline, say_count

AFTER = {
    "tradeoff": ("tradeoff",),
    "sections": ("sections",),
    "prompt": ("prompt",),
    "halves": ("halves", "halves-loss"),
    "frontier": ("frontier",),
    "predicted": ("predicted",),
}
"""Figures that stand above each table; those of the derivations stand above the survival table."""


def write_markdown(
    summary: Summary,
    tables: Mapping[str, Table],
    charts: Mapping[str, Chart],
    figures: Mapping[str, Path],
) -> str:
    """The text of report.md."""
    done = [run for run in summary.runs if run.is_done]
    tags = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in summary.tags.items())
    counted = f"{say_count(len(done), 'run')} with a result" + (f"; {tags}" if tags else "") + "."
    parts = ["# What truncation cost", headline(summary), escape(counted)]
    for table in tables.values():
        parts.append(f"## {escape(table.title)}")
        for name in _figures_of(table, figures):
            if name in figures:
                caption = charts[name].caption if name in charts else "Accuracy, retention, cost."
                parts.append(f"![{escape(caption)}](figures/{figures[name].name})")
        parts.append(write_table(table))
        if table.note:
            parts.append(escape(table.note))
    parts.append("Every number of every run: [results.csv](results.csv).")
    return "\n\n".join(parts) + "\n"


def _figures_of(table: Table, figures: Mapping[str, Path]) -> tuple[str, ...]:
    if table.name == "survival":
        return tuple(name for name in figures if name.startswith("derivation-"))
    return AFTER.get(table.name, ())


def write_table(table: Table) -> str:
    """One pipe table."""
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that cannot break out of its line, cell or paragraph, nor become HTML."""
    for mark in ("\\", "|", "<", ">", "*", "`", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
