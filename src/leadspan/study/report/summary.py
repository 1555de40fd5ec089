"""From rows to what the report says: curves, ablations, the frontier, the recommended cut.

Pure: no files, no figures. Every number of the report is computed here or in `settings`, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from leadspan.study.report.settings import FULL, build_settings
from leadspan.study.report.wording import say_estimate, say_lsp, say_sections
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
FAMILY = ["sections", "extra"]
"""What the settings of one curve share."""
WORDS = ["at", "scored", "setting", "accuracy_said", "retention_said"]


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Everything the report shows; each table is rows of `settings` with their labels there."""

    results: Results
    settings: pd.DataFrame
    """As `build_settings` makes it, and in words: `at` (lsp 0.5), `scored` (CoT+A, and what else differs
    from the curve), `setting` (all of it), `accuracy_said` and `retention_said` (with their intervals)."""
    curves: tuple[pd.DataFrame, ...]
    """Lead settings over rising lsp; the first is the sweep's own, with the most cuts, the others have at
    least two."""
    sections: pd.DataFrame
    """Section ablation: lead settings at lsp 1.0."""
    halves: pd.DataFrame
    """Lead, middle and tail at lsp 0.5."""
    others: pd.DataFrame
    """Settings that are in none of these."""
    frontier: pd.DataFrame
    """Settings that no other beats in accuracy at the same or a lower cost, in rising cost."""
    cost_name: str | None
    """The cost of the frontier: train_flops, or the first that every setting has."""
    recommended: Any
    """A row of the curve, or None."""
    predictions: pd.DataFrame
    """lsp, cost_name, predicted and measured, both as shares of lsp 1.0: from the plan where there is
    one; else training time as the FLOPs of the formula foretell it."""

    @property
    def curve(self) -> pd.DataFrame:
        """The sweep over lsp, empty where nothing was trained on leads."""
        return self.curves[0] if self.curves else self.settings[:0]

    @property
    def reference(self) -> Any:
        """The curve's point at lsp 1.0, or None."""
        return find_lsp(self.curve, FULL)

    @property
    def pairs(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The settings at lsp 0.5 and at 1.0 of each curve that has both and differs in sections alone."""
        both = [
            (half.Index, full.Index)
            for curve in self.curves
            if (half := find_lsp(curve, HALF)) is not None
            and (full := find_lsp(curve, FULL)) is not None
            and half.extra == self.curve.extra.iloc[0]
        ]
        return (
            self.settings.loc[[half for half, _ in both]],
            self.settings.loc[[full for _, full in both]],
        )

    @property
    def failed(self) -> tuple[Run, ...]:
        """Runs without a result, with their reasons."""
        return tuple(run for run in self.results.runs if not run.is_done)

    def models(self, kind: str) -> tuple[Run, ...]:
        """Finished rows of the untrained students (`base`) or the teachers (`teacher`).

        The one that the runs of the curve begin from, or learn from, comes first.
        """
        part = "student" if kind == "base" else "teacher"
        of_curve = None if self.curve.empty else model_of(self.curve.runs.iloc[0][0], part)
        found = [run for run in self.results.runs if run.row.kind == kind and run.is_done]
        return tuple(sorted(found, key=lambda run: model_of(run, part) != of_curve))

    def accuracy_of(self, kind: str) -> float | None:
        """Of the first untrained student or teacher that was evaluated."""
        return next((r.row.accuracy for r in self.models(kind) if r.row.accuracy is not None), None)


def summarise(results: Results) -> Summary:
    """Everything that follows from a sweep's rows."""
    settings = build_settings([run for run in results.runs if run.row.kind == "train"])
    curves = _curves(settings)
    usual = curves[0].iloc[0] if curves else None
    settings = _in_words(settings, () if usual is None else usual.extra)
    curves = [settings.loc[curve.index] for curve in curves]
    shown_curves = tuple(
        curve for place, curve in enumerate(curves) if place == 0 or len(curve) > 1
    )
    curve = curves[0] if curves else settings[:0]
    sections, halves = _section_ablation(settings, usual), _halves(settings, usual)
    shown = {label for part in (*shown_curves, sections, halves) for label in part.index}
    cost_name = _frontier_cost(settings)
    return Summary(
        results=results,
        settings=settings,
        curves=shown_curves,
        sections=sections,
        halves=halves,
        others=settings[~settings.index.isin(shown)],
        frontier=compute_frontier(settings, cost_name),
        cost_name=cost_name,
        recommended=recommend(curve),
        predictions=_predictions(curve, results.plan),
    )


def model_of(run: Run, part: str) -> str:
    """A run's student or teacher, with its revision behind an @ where it has one."""
    model = run.config.get(part)
    parts = [model.get("path"), model.get("revision")] if isinstance(model, dict) else []
    return "@".join(str(part) for part in parts if part is not None)


def find_lsp(settings: pd.DataFrame, lsp: float) -> Any:
    """The first row with this cut, or None."""
    return next((row for row in settings.itertuples() if abs(row.lsp - lsp) < 1e-9), None)


def recommend(curve: pd.DataFrame) -> Any:
    """The row of the smallest lsp that keeps PAPER_RETENTION of full accuracy, as does every larger one.

    One lucky small cut below a failing larger one is not taken; None where lsp 1.0 itself is unknown.
    """
    falling = curve.sort_values("lsp", ascending=False)
    kept = falling[(falling.retention >= PAPER_RETENTION).cummin()]
    return find_lsp(kept, kept.lsp.min())


def compute_frontier(settings: pd.DataFrame, cost_name: str | None) -> pd.DataFrame:
    """Settings that are not beaten: no other is at most as costly and at least as accurate."""
    if cost_name is None:
        return settings[:0]
    known = settings.dropna(subset=["accuracy", cost_name])
    known = known.sort_values([cost_name, "accuracy"], ascending=[True, False])
    return known[known.accuracy > known.accuracy.cummax().shift(fill_value=-math.inf)]


def _predictions(curve: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    rows = {float(row["lsp"]): row for row in plan.get("rows", ())}
    foretold = dict(PLANNED)
    if plan.get("device") == "cpu":
        del foretold["peak_memory_gib"]  # measured, it is the whole process's
    found = []
    for point in curve[curve.lsp < FULL].itertuples():
        row = rows.get(point.lsp, {}) if plan else {"seconds_ratio": point.train_flops_ratio}
        found += [
            (point.lsp, cost_name, row.get(key), getattr(point, f"{cost_name}_ratio"))
            for cost_name, key in foretold.items()
        ]
    return pd.DataFrame(found, columns=["lsp", "cost_name", "predicted", "measured"]).dropna()


def _frontier_cost(settings: pd.DataFrame) -> str | None:
    names = ("train_flops", "tokens_forwarded", "train_seconds")
    return next((name for name in names if len(settings) and settings[name].notna().all()), None)


def _in_words(settings: pd.DataFrame, usual: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Add the columns of text; `usual` are the other keys of the curve."""
    rows = []
    for row in settings.itertuples():
        at, sections = f"lsp {say_lsp(row.lsp)}", say_sections(row.sections)
        differing = [
            (key.rpartition(".")[2], value) for key, value in row.extra if (key, value) not in usual
        ]
        extra = ", ".join(f"{key}={value}" for key, value in differing)
        parts = (at, sections, "" if row.keep == "lead" else row.keep, extra)
        rows.append(
            {
                "at": at,
                "scored": f"{sections} ({extra})" if extra else sections,
                "setting": ", ".join(filter(None, parts)),
                "accuracy_said": say_estimate(row.accuracy, row.accuracy_low, row.accuracy_high),
                "retention_said": say_estimate(
                    row.retention, row.retention_low, row.retention_high
                ),
            }
        )
    return settings.join(pd.DataFrame(rows, columns=WORDS, index=settings.index))


def _curves(settings: pd.DataFrame) -> list[pd.DataFrame]:
    """Lead series over lsp, the main one first: most cuts, then most runs."""
    lead = settings[settings.keep == "lead"]
    curves = [curve for _, curve in lead.groupby(FAMILY, sort=False)]
    return sorted(curves, key=lambda curve: (-len(curve), -curve.num_seeds.sum()))


def _section_ablation(settings: pd.DataFrame, usual: Any) -> pd.DataFrame:
    """Lead settings at lsp 1.0 that differ from the curve in sections alone."""
    if usual is None:
        return settings[:0]
    full = settings[(settings.lsp == FULL) & (settings.keep == "lead")]
    found = full[full.extra.map(usual.extra.__eq__).astype(bool)]
    return found if len(found) > 1 else found[:0]


def _halves(settings: pd.DataFrame, usual: Any) -> pd.DataFrame:
    """Settings at lsp 0.5 that differ in what is kept; the curve's sections where it has them."""
    half = settings[(settings.lsp - HALF).abs() < 1e-9]
    found = {family: rows for family, rows in half.groupby(FAMILY, sort=False) if len(rows) > 1}
    main = None if usual is None else found.get((usual.sections, usual.extra))
    return next(iter(found.values()), half[:0]) if main is None else main
