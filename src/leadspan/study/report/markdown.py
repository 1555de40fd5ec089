"""The report as one Markdown text, with its figures beside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from leadspan.study.report.charts import Chart
from leadspan.study.report.headline import headline, say_tags
from leadspan.study.report.summary import Summary
from leadspan.study.report.tables import Table

ABOVE = {
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
    counted, *tags = say_tags(summary)
    counted = f"{counted}; {', '.join(tags)}." if tags else f"{counted}."
    parts = ["# What truncation cost", headline(summary), escape(counted)]
    above = ABOVE | {"survival": tuple(name for name in figures if name.startswith("derivation-"))}
    for table in tables.values():
        parts.append(f"## {escape(table.title)}")
        for name in above.get(table.name, ()):
            if name in figures:
                caption = charts[name].caption if name in charts else "Accuracy, retention, cost."
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
