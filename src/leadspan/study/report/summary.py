"""From rows to what the report says: curves, ablations, the frontier, the recommended cut.

Pure: no files, no figures, no text for people. Every number of the report is computed here or in
`groups`, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadspan.study.report.groups import (
    FULL,
    Group,
    build_groups,
)
from leadspan.study.results import Results, Run

PAPER_RETENTION = 0.91
"""Share of full accuracy that the paper kept at lsp 0.5, mean of 30 settings (arXiv 2512.21002 v2);
also the share that the recommended point must keep."""
HALF = 0.5
PLANNED = {
    "train_seconds": "seconds_ratio",
    "peak_memory_gib": "memory_ratio",
    "train_flops": "flops_ratio",
}
"""Measured costs and the plan's keys for them."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A cost of one cut, as a share of that of lsp 1.0."""

    lsp: float
    cost_name: str
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything the report shows."""

    tags: Mapping[str, Any]
    runs: tuple[Run, ...]
    unfinished: tuple[str, ...]
    groups: tuple[Group, ...]
    curve: tuple[Group, ...]
    """The sweep over lsp: the lead series with the most cuts, in rising lsp."""
    other_curves: tuple[tuple[Group, ...], ...]
    """Other lead series with at least two cuts."""
    sections: tuple[Group, ...]
    """Section ablation: lead groups at lsp 1.0."""
    halves: tuple[Group, ...]
    """Lead, middle and tail at lsp 0.5."""
    others: tuple[Group, ...]
    """Groups that are in none of these."""
    frontier: tuple[Group, ...]
    """Groups that no other group beats in accuracy at the same or a lower cost, in rising cost."""
    cost_name: str | None
    """The cost of the frontier: train_flops, or the first that every group has."""
    recommended: Group | None
    predictions: tuple[Prediction, ...]
    """From the plan where there is one; else training time as the FLOPs of the formula foretell it."""
    plan_source: str | None
    """Where the plan's seconds come from; None without a plan."""
    datasets: tuple[Mapping[str, Any], ...]

    @property
    def reference(self) -> Group | None:
        """The curve's point at lsp 1.0."""
        return find_lsp(self.curve, FULL)

    @property
    def pairs(self) -> tuple[tuple[Group, Group], ...]:
        """The groups at lsp 0.5 and 1.0 of each curve that has both and differs in sections alone."""
        pairs = []
        for curve in (self.curve, *self.other_curves):
            half, full = find_lsp(curve, HALF), find_lsp(curve, FULL)
            if half and full and half.setting.extra == self.curve[0].setting.extra:
                pairs.append((half, full))
        return tuple(pairs)

    @property
    def failed(self) -> tuple[Run, ...]:
        """Runs without a result, with their reasons."""
        return tuple(run for run in self.runs if not run.is_done)

    def models(self, kind: str) -> tuple[Run, ...]:
        """Finished rows of the untrained students (`base`) or the teachers (`teacher`).

        The one that the runs of the curve begin from, or learn from, comes first.
        """
        part = "student" if kind == "base" else "teacher"
        trained = self.curve[0].runs if self.curve else ()
        of_curve = model_of(trained[0], part) if trained else None
        found = [run for run in self.runs if run.row.kind == kind and run.is_done]
        return tuple(sorted(found, key=lambda run: model_of(run, part) != of_curve))


def summarise(results: Results) -> Summary:
    """Everything that follows from a sweep's rows."""
    trained = [run for run in results.runs if run.row.kind == "train"]
    groups = build_groups(trained)
    curves = _curves(groups)
    curve = curves[0] if curves else ()
    cost_name = _frontier_cost(groups)
    other_curves = tuple(other for other in curves[1:] if len(other) > 1)
    sections, halves = _section_ablation(groups, curve), _halves(groups, curve)
    shown = [*curve, *sections, *halves, *(group for other in other_curves for group in other)]
    return Summary(
        tags=results.tags,
        runs=results.runs,
        unfinished=results.unfinished,
        groups=groups,
        curve=curve,
        other_curves=other_curves,
        sections=sections,
        halves=halves,
        others=tuple(group for group in groups if group not in shown),
        frontier=compute_frontier(groups, cost_name),
        cost_name=cost_name,
        recommended=recommend(curve),
        predictions=_predictions(curve, results.plan),
        plan_source=str(results.plan.get("seconds_from") or "") if results.plan else None,
        datasets=results.datasets,
    )


def model_of(run: Run, part: str) -> str:
    """A run's student or teacher, with its revision behind an @ where it has one."""
    model = run.config.get(part)
    parts = [model.get("path"), model.get("revision")] if isinstance(model, dict) else []
    return "@".join(str(part) for part in parts if part is not None)


def find_lsp(groups: Iterable[Group], lsp: float) -> Group | None:
    """The first group with this cut."""
    return next((group for group in groups if abs(group.lsp - lsp) < 1e-9), None)


def recommend(curve: Sequence[Group]) -> Group | None:
    """The smallest lsp that keeps PAPER_RETENTION of full accuracy, as does every larger one.

    One lucky small cut below a failing larger one is not taken.
    """
    best = None
    for group in sorted(curve, key=lambda group: -group.lsp):
        if group.retention is None or group.retention.value < PAPER_RETENTION:
            break
        best = group
    return best


def compute_frontier(groups: Sequence[Group], cost_name: str | None) -> tuple[Group, ...]:
    """Groups that are not beaten: no other is at most as costly and at least as accurate."""
    if cost_name is None:
        return ()
    points = [
        (getattr(group.costs, cost_name), -group.accuracy.value, place)
        for place, group in enumerate(groups)
        if group.accuracy is not None and getattr(group.costs, cost_name) is not None
    ]
    kept: list[Group] = []
    best = 0.0
    for _, negative_accuracy, place in sorted(points):
        if not kept or negative_accuracy < best:
            kept.append(groups[place])
            best = negative_accuracy
    return tuple(kept)


def _predictions(curve: Sequence[Group], plan: Mapping[str, Any]) -> tuple[Prediction, ...]:
    rows = {float(row["lsp"]): row for row in plan.get("rows", ())}
    foretold = dict(PLANNED)
    if plan.get("device") == "cpu":
        del foretold["peak_memory_gib"]  # measured, it is the whole process's
    found = []
    for group in curve:
        row = rows.get(group.lsp, {}) if plan else {"seconds_ratio": group.ratios.train_flops}
        for cost_name, key in foretold.items():
            predicted, measured = row.get(key), getattr(group.ratios, cost_name)
            if predicted is not None and measured is not None and group.lsp < FULL:
                found.append(Prediction(group.lsp, cost_name, predicted, measured))
    return tuple(found)


def _frontier_cost(groups: Sequence[Group]) -> str | None:
    for name in ("train_flops", "tokens_forwarded", "train_seconds"):
        if groups and all(getattr(group.costs, name) is not None for group in groups):
            return name
    return None


def _curves(groups: Sequence[Group]) -> list[tuple[Group, ...]]:
    """Lead series over lsp, the main one first: most cuts, then most runs."""
    series: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        if group.setting.keep == "lead":
            key = (group.setting.sections, group.setting.extra)
            series.setdefault(key, []).append(group)
    curves = [tuple(sorted(found, key=lambda group: group.lsp)) for found in series.values()]
    return sorted(curves, key=lambda curve: (-len(curve), -sum(g.num_seeds for g in curve)))


def _section_ablation(groups: Sequence[Group], curve: Sequence[Group]) -> tuple[Group, ...]:
    extra = curve[0].setting.extra if curve else ()
    found = [
        group
        for group in groups
        if group.lsp == FULL and group.setting.keep == "lead" and group.setting.extra == extra
    ]
    return tuple(found) if len(found) > 1 else ()


def _halves(groups: Sequence[Group], curve: Sequence[Group]) -> tuple[Group, ...]:
    """Groups at lsp 0.5 that differ in what is kept; the curve's sections where it has them."""
    by_sections: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        if abs(group.lsp - HALF) < 1e-9:
            key = (group.setting.sections, group.setting.extra)
            by_sections.setdefault(key, []).append(group)
    candidates = [found for found in by_sections.values() if len(found) > 1]
    if not candidates:
        return ()
    main = by_sections.get((curve[0].setting.sections, curve[0].setting.extra)) if curve else None
    return tuple(main if main in candidates else candidates[0])
