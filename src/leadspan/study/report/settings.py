"""Runs that differ in nothing but the seed, as one row of a table: means, retention, cost ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd

from leadspan.statistics import Floats, Interval, mean_interval, ratio_interval
from leadspan.study.results import Run, mean_of

FULL = 1.0
UNCUT = {"policy": "span", "lsp_end": FULL, "max_tokens": None}
"""What the other truncation keys hold, if anything, where lsp 1.0 keeps everything."""
OUTSIDE_SETTING = {"seed", "truncation.lsp", "truncation.keep", "supervision.sections"}
"""Keys that have a column of their own, or that are averaged over."""
COSTS = [
    "train_seconds",
    "peak_memory_gib",
    "peak_step_memory_gib",
    "train_flops",
    "tokens_forwarded",
    "tokens_scored",
]
MEANS = ["closed_fraction", "train_loss", "val_loss", *COSTS]
"""Columns of results.csv that are averaged over seeds."""
SETTING = ["extra", "sections", "keep", "lsp"]
KEEPS = {"lead": 0, "middle": 1, "tail": 2}
UNKNOWN = Interval(math.nan, math.nan, math.nan)


def build_settings(runs: Sequence[Run]) -> pd.DataFrame:
    """One row for each setting of the finished runs, measured against its uncut one where there is one.

    Returns:
        SETTING (`extra`: the other keys in which the runs differ, with their values), `runs`, `num_seeds`,
        `is_uncut`, MEANS over the seeds, `accuracy` and `retention` (the share of the accuracy at lsp
        1.0 with the same sections) with their ends such as `accuracy_low`, and COSTS as shares of those
        at lsp 1.0, such as `train_flops_ratio`. What is not known is NaN.
    """
    keys = _varying_keys(runs)
    rows = [_cells_of(run, keys) for run in runs if run.is_done]
    frame = pd.DataFrame(rows, columns=[*SETTING, "runs", *MEANS])
    frame = frame.astype(dict.fromkeys(("lsp", *MEANS), float))
    how = {"runs": tuple} | dict.fromkeys(MEANS, "mean")
    settings = frame.groupby(SETTING, sort=False, as_index=False).agg(how)
    settings["num_seeds"] = settings.runs.map(len)
    settings["is_uncut"] = np.array([_is_uncut(row) for row in settings.itertuples()], bool)
    return _order(
        _with_references(_with_estimates(settings, "accuracy", map(estimate_mean, settings.runs)))
    )


def _cells_of(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    row, flat = run.row, flatten(run.config)
    return {
        "extra": tuple((key, str(flat.get(key))) for key in keys),
        "sections": row.sections or "",
        "keep": row.keep or "lead",
        "lsp": FULL if row.lsp is None else row.lsp,
        "runs": run,
        **{name: getattr(row, name) for name in MEANS},
    }


def _varying_keys(runs: Sequence[Run]) -> list[str]:
    """Keys in which the runs' configs differ, beyond those that have a column of their own."""
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


def _is_uncut(setting: Any) -> bool:
    """True where whole sequences were trained on, so that cuts are measured against it."""
    cut = flatten(setting.runs[0].config.get("truncation") or {})
    others = all(cut.get(key, value) in (value, None) for key, value in UNCUT.items())
    return bool(setting.lsp == FULL and setting.keep == "lead" and others)


def _with_estimates(settings: pd.DataFrame, name: str, estimates: Any) -> pd.DataFrame:
    columns = [name, f"{name}_low", f"{name}_high"]
    found = pd.DataFrame(map(astuple, estimates), columns=columns, index=settings.index)
    return settings.join(found.astype(float))


def _with_references(settings: pd.DataFrame) -> pd.DataFrame:
    """Add retention and ratios against uncut runs with the same sections and other keys."""
    # As text: pandas takes an index of tuples for one of many levels.
    settings["beside"] = [
        str([row.sections, *(pair for pair in row.extra if not pair[0].startswith("truncation."))])
        for row in settings.itertuples()
    ]
    full = settings[settings.is_uncut].drop_duplicates("beside", keep="last").set_index("beside")
    full = full[["runs", *COSTS]].reindex(settings.pop("beside"))
    for name in COSTS:
        settings[f"{name}_ratio"] = settings[name] / full[name].replace(0, math.nan).to_numpy()
    retention = [
        estimate_ratio(runs, reference) if isinstance(reference, tuple) else UNKNOWN
        for runs, reference in zip(settings.runs, full.runs, strict=True)
    ]
    return _with_estimates(settings, "retention", retention)


def _order(settings: pd.DataFrame) -> pd.DataFrame:
    """Sections as the paper lists them, those without the CoT first."""
    keys = [
        (
            row.extra,
            "cot" in row.sections,
            row.sections.count("+"),
            row.sections,
            KEEPS.get(row.keep, 3),
            row.lsp,
        )
        for row in settings.itertuples()
    ]
    return settings.loc[sorted(settings.index, key=keys.__getitem__)].reset_index(drop=True)


def estimate_mean(runs: Sequence[Run]) -> Interval:
    """Mean accuracy of runs that differ in the seed alone.

    Without grades of single problems its ends are NaN; without any accuracy all of it.
    """
    value = mean_of(run.row.accuracy for run in runs)
    problems = _common_problems(runs)
    return _estimate(value, mean_interval(_scores(runs, problems)) if problems else None)


def estimate_ratio(runs: Sequence[Run], reference: Sequence[Run]) -> Interval:
    """Mean accuracy of `runs` as a share of that of `reference`; NaN where that is 0 or unknown.

    Paired problem by problem, and seed by seed where the seeds are the same.
    """
    above, below = (mean_of(run.row.accuracy for run in side) for side in (runs, reference))
    if above is None or not below:
        return UNKNOWN
    if runs == reference:
        return Interval(1.0, 1.0, 1.0)
    problems = _common_problems([*runs, *reference])
    scores = [_scores(side, problems) for side in (runs, reference)]
    return _estimate(above / below, ratio_interval(*scores) if problems else None)


def _estimate(value: float | None, interval: Interval | None) -> Interval:
    if value is None:
        return UNKNOWN
    return (
        Interval(value, interval.low, interval.high)
        if interval
        else Interval(value, math.nan, math.nan)
    )


def _common_problems(runs: Sequence[Run]) -> list[str]:
    """The problems, `benchmark/problem`, where every run answered the same; else none."""
    first = runs[0].by_problem if runs else {}
    return sorted(first) if all(run.by_problem.keys() == first.keys() for run in runs) else []


def _scores(runs: Sequence[Run], problems: Sequence[str]) -> list[Floats]:
    """Scores [S, P] of each benchmark, the seeds in rising order."""
    runs = sorted(runs, key=lambda run: run.row.seed or 0)
    by_benchmark: dict[str, list[str]] = {}
    for problem in problems:
        by_benchmark.setdefault(problem.partition("/")[0], []).append(problem)
    return [
        np.array([[run.by_problem[problem] for problem in found] for run in runs])
        for found in by_benchmark.values()
    ]
