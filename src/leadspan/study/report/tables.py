"""All tables of a report. Pure."""

from __future__ import annotations

from leadspan.study.report.run_tables import (
    benchmarks_table,
    failed_table,
    models_table,
    runs_table,
)
from leadspan.study.report.setting_tables import (
    frontier_table,
    halves_table,
    others_table,
    predicted_table,
    prompt_table,
    sections_table,
    tradeoff_table,
)
from leadspan.study.report.summary import Summary
from leadspan.study.report.table import Table
from leadspan.study.report.trace_tables import advice_table, survival_table


def build_tables(summary: Summary) -> dict[str, Table]:
    """Every table that has something to show, by name, in the report's order."""
    tables = (
        tradeoff_table(summary),
        sections_table(summary),
        halves_table(summary),
        prompt_table(summary),
        others_table(summary),
        models_table(summary),
        benchmarks_table(summary),
        frontier_table(summary),
        predicted_table(summary),
        survival_table(summary.datasets),
        advice_table(summary.datasets),
        runs_table(summary.runs),
        failed_table(summary),
    )
    return {table.name: table for table in tables if table.rows}
