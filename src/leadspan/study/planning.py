"""The cost of every setting of a sweep before anything is trained.

Joins the points of a sweep with `analysis.plan`. Trains nothing and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leadspan.analysis.plan import PLANNED_LSPS, Plan
from leadspan.config import RunConfig
from leadspan.config_file import config_hash
from leadspan.study.sweep import Point, name_point

OF_A_RUN = ("truncation.lsp", "seed")
"""Keys that tell the runs of one setting apart."""


@dataclass(frozen=True, slots=True)
class PlannedSetting:
    """One setting of a sweep: what its runs share, lsp and seed apart."""

    name: str
    plan: Plan
    lsps: tuple[float, ...]
    """Of its runs, one entry a run."""


def settings_of(points: Sequence[Point]) -> list[list[Point]]:
    """Training points that share everything but lsp and seed, together."""
    settings: dict[str, list[Point]] = {}
    for point in points:
        if point.kind == "train":
            whole = point.config.truncation.model_copy(update={"lsp": 1.0})
            same = point.config.model_copy(update={"truncation": whole, "seed": 0})
            settings.setdefault(config_hash(same), []).append(point)
    return list(settings.values())


def plan_sweep(
    points: Sequence[Point], plan_one: Callable[[RunConfig, Sequence[float]], Plan]
) -> list[PlannedSetting]:
    """Plan each setting of a sweep once, whatever its lsps and seeds.

    Args:
        points: From `expand`.
        plan_one: Plans a run at some lsps, the last of which is 1.0.
    """
    planned = []
    for members in settings_of(points):
        lsps = tuple(point.config.truncation.lsp for point in members)
        shared = {k: v for k, v in members[0].overrides.items() if k not in OF_A_RUN}
        plan = plan_one(members[0].config, sorted({*PLANNED_LSPS, *lsps}))
        planned.append(PlannedSetting(name_point(shared), plan, lsps))
    return planned


def sum_up(settings: Sequence[PlannedSetting], num_ranks: int = 1) -> dict[str, Any]:
    """Plain data: every setting's plan, and the cost of all runs together, captures apart.

    `seconds` is the clock's, one run after the other; a device hour is an hour of one device.
    """
    content, num_runs, flops = [], 0, 0
    seconds: float | None = 0.0
    for setting in settings:
        by_lsp = {point.lsp: point for point in setting.plan.points}
        runs = [by_lsp[lsp] for lsp in setting.lsps]
        num_runs += len(runs)
        flops += sum(run.flops for run in runs)
        for run in runs:
            seconds = None if seconds is None or run.seconds is None else seconds + run.seconds
        content.append({"name": setting.name, "runs": len(runs), **setting.plan.to_json()})
    return {
        "settings": content,
        "runs": num_runs,
        "flops": flops,
        "seconds": seconds,
        "device_hours": None if seconds is None else seconds * num_ranks / 3600,
    }
