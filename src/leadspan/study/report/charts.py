"""All figures of a report. Pure."""

from __future__ import annotations

from leadspan.study.report.ablation_charts import (
    halves_chart,
    halves_loss_chart,
    prompt_chart,
    sections_chart,
)
from leadspan.study.report.chart import Chart
from leadspan.study.report.curve_charts import (
    accuracy_chart,
    cost_chart,
    frontier_chart,
    predicted_chart,
    retention_chart,
)
from leadspan.study.report.summary import Summary
from leadspan.study.report.trace_charts import derivation_chart


def build_charts(summary: Summary) -> dict[str, Chart]:
    """Every chart that has something to show, by name, in the report's order."""
    charts = (
        accuracy_chart(summary),
        retention_chart(summary),
        cost_chart(summary),
        frontier_chart(summary),
        sections_chart(summary),
        prompt_chart(summary),
        halves_chart(summary),
        halves_loss_chart(summary),
        predicted_chart(summary),
        *(derivation_chart(dataset) for dataset in summary.datasets),
    )
    return {chart.name: chart for chart in charts if chart.series}
