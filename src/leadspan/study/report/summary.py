"""From rows to what the report says: groups over seeds, retention, cost ratios, the recommended cut.

Pure: no files, no figures, no text for people. Every number of the report is computed here, once.

Shape suffixes: S seeds, P problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leadspan.study.report.interval import Estimate, estimate_mean, estimate_ratio
from leadspan.study.results import Results, Run, mean_of

PAPER_RETENTION = 0.91
"""Share of full accuracy that the paper kept at lsp 0.5, mean of 30 settings (arXiv 2512.21002 v2);
also the share that the recommended point must keep."""
HALF = 0.5
FULL = 1.0
PLANNED = {
    "train_seconds": "seconds_ratio",
    "peak_memory_gib": "memory_ratio",
    "train_flops": "flops_ratio",
}
"""Measured costs and the plan's keys for them."""
UNCUT = {"policy": "span", "lsp_end": FULL, "max_tokens": None}
"""What the other truncation keys hold, if anything, where lsp 1.0 keeps everything."""
OUTSIDE_SETTING = {"seed", "truncation.lsp", "truncation.keep", "supervision.sections"}
"""Keys that a setting names itself, or that are averaged over."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs have in common that differ in nothing but the seed."""

    lsp: float | None
    sections: str
    keep: str
    extra: tuple[tuple[str, str], ...] = ()
    """Other keys in which this sweep's runs differ, and their values."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Means over seeds, or ratios against full sequences; None where not measured."""

    train_seconds: float | None = None
    peak_memory_gib: float | None = None
    peak_step_memory_gib: float | None = None
    train_flops: float | None = None
    tokens_forwarded: float | None = None
    tokens_scored: float | None = None


COST_NAMES = tuple(Costs.__slots__)


@dataclass(frozen=True, slots=True)
class Group:
    """All finished runs of one setting."""

    setting: Setting
    runs: tuple[Run, ...]
    accuracy: Estimate | None
    closed_fraction: float | None
    train_loss: float | None
    val_loss: float | None
    costs: Costs
    retention: Estimate | None = None
    """Accuracy as a share of that of lsp 1.0 with the same sections; None without that reference."""
    ratios: Costs = Costs()
    """Costs as a share of those of lsp 1.0."""

    @property
    def is_uncut(self) -> bool:
        """True where whole sequences were trained on, so that cuts are measured against it."""
        cut = flatten(self.runs[0].config.get("truncation") or {}) if self.runs else {}
        return (
            self.lsp == FULL
            and self.setting.keep == "lead"
            and all(cut.get(key, value) in (value, None) for key, value in UNCUT.items())
        )

    @property
    def lsp(self) -> float:
        """The cut; full where the config names none."""
        return FULL if self.setting.lsp is None else self.setting.lsp

    @property
    def num_seeds(self) -> int:
        """Finished runs behind the means."""
        return len(self.runs)


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
        """Finished rows of the untrained student (`base`) or the `teacher`."""
        return tuple(run for run in self.runs if run.row.kind == kind and run.is_done)


def summarise(results: Results) -> Summary:
    """Everything that follows from a sweep's rows."""
    trained = [run for run in results.runs if run.row.kind == "train"]
    groups = _with_references(_group(trained))
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
    found = []
    for group in curve:
        row = rows.get(group.lsp, {}) if plan else {"seconds_ratio": group.ratios.train_flops}
        for cost_name, key in PLANNED.items():
            predicted, measured = row.get(key), getattr(group.ratios, cost_name)
            if predicted is not None and measured is not None and group.lsp < FULL:
                found.append(Prediction(group.lsp, cost_name, predicted, measured))
    return tuple(found)


def _frontier_cost(groups: Sequence[Group]) -> str | None:
    for name in ("train_flops", "tokens_forwarded", "train_seconds"):
        if groups and all(getattr(group.costs, name) is not None for group in groups):
            return name
    return None


def _group(runs: Sequence[Run]) -> list[Group]:
    extra_keys = _varying_keys(runs)
    by_setting: dict[Setting, list[Run]] = {}
    for run in runs:
        if run.is_done:
            by_setting.setdefault(_setting_of(run, extra_keys), []).append(run)
    return [_summarise_group(setting, tuple(found)) for setting, found in by_setting.items()]


def _setting_of(run: Run, extra_keys: Sequence[str]) -> Setting:
    row, flat = run.row, flatten(run.config)
    extra = tuple((key, str(flat.get(key))) for key in extra_keys)
    return Setting(row.lsp, row.sections or "", row.keep or "lead", extra)


def _varying_keys(runs: Sequence[Run]) -> list[str]:
    """Keys in which the runs' configs differ, beyond those that a setting names."""
    flats = [flatten(run.config) for run in runs if run.config]
    keys = sorted({key for flat in flats for key in flat} - OUTSIDE_SETTING)
    return [key for key in keys if len({str(flat.get(key)) for flat in flats}) > 1]


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _summarise_group(setting: Setting, runs: tuple[Run, ...]) -> Group:
    rows = [run.row for run in runs]
    return Group(
        setting,
        runs,
        estimate_mean(runs),
        mean_of(row.closed_fraction for row in rows),
        mean_of(row.train_loss for row in rows),
        mean_of(row.val_loss for row in rows),
        Costs(**{name: mean_of(getattr(row, name) for row in rows) for name in COST_NAMES}),
    )


def _with_references(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Add retention and ratios against uncut runs with the same sections and other keys."""
    full = {_beside_the_cut(group): group for group in groups if group.is_uncut}
    found = []
    for group in groups:
        reference = full.get(_beside_the_cut(group))
        if reference is not None:
            group = replace(
                group,
                retention=estimate_ratio(group.runs, reference.runs),
                ratios=_divide(group.costs, reference.costs),
            )
        found.append(group)
    return tuple(sorted(found, key=_order))


def _beside_the_cut(group: Group) -> tuple[Any, ...]:
    """All of a setting but what is cut."""
    kept = [item for item in group.setting.extra if not item[0].startswith("truncation.")]
    return group.setting.sections, tuple(kept)


def _divide(costs: Costs, reference: Costs) -> Costs:
    def ratio(name: str) -> float | None:
        above, below = getattr(costs, name), getattr(reference, name)
        return above / below if above is not None and below else None

    return Costs(**{name: ratio(name) for name in COST_NAMES})


def _order(group: Group) -> tuple[Any, ...]:
    setting = group.setting
    keeps = ("lead", "middle", "tail")
    place = keeps.index(setting.keep) if setting.keep in keeps else len(keeps)
    return (setting.extra, setting.sections.count("+"), setting.sections, place, group.lsp)


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
