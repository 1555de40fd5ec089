"""From rows to what the report says: curves, ablations, the frontier, the recommended cut.

Runs that differ in nothing but the seed are one row. Pure: no files, no figures. Every number of the
report is computed here, once; in frames, what is not known is NaN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from leadspan.config import RolloutConfig
from leadspan.statistics import Floats, Interval, mean_interval, ratio_interval
from leadspan.study.results import Results, Run

MISSING = "–"
FULL, HALF = 1.0, 0.5
PAPER_RETENTION = 0.91
"""Share of full accuracy that the paper kept at lsp 0.5, mean of 30 settings (arXiv 2512.21002 v2);
also the share that the recommended point must keep."""
SHORT_SECTIONS = {"prompt": "P", "cot": "CoT", "answer": "A"}
COST_LABELS = {
    "train_seconds": "training time",
    "peak_memory_gib": "peak memory",
    "peak_step_memory_gib": "memory of the step alone",
    "train_flops": "training FLOPs",
    "tokens_forwarded": "tokens forwarded",
    "tokens_scored": "tokens scored",
}
MEANS = ["closed_fraction", "train_loss", "val_loss", *COST_LABELS]
"""Columns of results.csv that are averaged over seeds."""
PLANNED = {
    "train_seconds": "seconds_ratio",
    "peak_memory_gib": "memory_ratio",
    "train_flops": "flops_ratio",
}
"""Measured costs and the plan's keys for them."""
UNCUT = {"policy": "span", "lsp_end": FULL, "max_tokens": None}
"""What the other truncation keys hold, if anything, where lsp 1.0 keeps everything."""
OUTSIDE_SETTING = {"seed", "truncation.lsp", "truncation.keep", "supervision.sections"}
"""Keys that have a column of their own, or that are averaged over."""
SETTING = ["extra", "sections", "keep", "lsp"]
FAMILY = ["sections", "extra"]
"""What the settings of one curve share."""
KEEPS = {"lead": 0, "middle": 1, "tail": 2}
COMMIT = re.compile(r"^([0-9a-f]{8})[0-9a-f]{32}$")
UNKNOWN = Interval(math.nan, math.nan, math.nan)


KEY_OF_ROLLOUTS = "rollout."
ROLLOUT_DEFAULTS = {name: str(value) for name, value in RolloutConfig().model_dump().items()}
LONGEST_VALUE = 40
"""Characters of a setting's value that its name holds."""
SAID_OF_ROLLOUTS = {"horizon", "horizon_start", "schedule", "share"}
"""Keys of `rollout` with words of their own."""


def is_known(value: float | None) -> bool:
    """False for None and NaN."""
    return value is not None and not math.isnan(value)


def say_number(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals, or a dash; an interval without an upper end has infinity."""
    if value is None or math.isnan(value):
        return MISSING
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def say_large(value: float | None) -> str:
    """Counts and FLOPs: thousands in groups, from ten million on three significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"


def say_range(low: float | None, high: float | None) -> str:
    """An interval, `[0.90, 0.96]`, or a dash."""
    is_whole = is_known(low) and is_known(high)
    return f"[{say_number(low)}, {say_number(high)}]" if is_whole else MISSING


def say_estimate(value: float | None, low: float | None, high: float | None) -> str:
    """`0.93 [0.90, 0.96]`, the value alone where the interval is not known."""
    return f"{say_number(value)} {say_range(low, high)}".removesuffix(f" {MISSING}")


def say_percent(share: float | None) -> str:
    """`46 %`; below ten two digits, `4.6 %`."""
    if share is None or not math.isfinite(share):
        return say_number(share)
    percent = 100 * share
    return f"{percent:.0f} %" if abs(percent) >= 9.95 or not percent else f"{percent:.2g} %"


def say_percent_range(low: float | None, high: float | None) -> str:
    """An interval of shares, `90 to 96 %`; `at least 90 %` without an upper end."""
    if high is not None and math.isinf(high):
        return f"at least {say_percent(low)}"
    return f"{say_percent(low).removesuffix(' %')} to {say_percent(high)}"


def say_sections(sections: str | None) -> str:
    """`prompt+cot+answer` as the paper writes it, P+CoT+A."""
    return "+".join(SHORT_SECTIONS.get(name, name) for name in (sections or MISSING).split("+"))


def say_lsp(lsp: float | None) -> str:
    """The cut as one writes it: 0.5, 0.75, 1.0."""
    if lsp is None:
        return MISSING
    return f"{lsp:.1f}" if round(lsp, 1) == lsp else f"{lsp:g}"


def say_count(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def name_of(dataset: Mapping[str, Any]) -> str:
    """What a dataset is called."""
    return str(dataset.get("name", "traces"))


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def model_of(run: Run, part: str) -> str:
    """A run's student or teacher, with its revision behind an @ where it has one, a commit in short."""
    model = run.config.get(part)
    parts = [model.get("path"), model.get("revision")] if isinstance(model, dict) else []
    shown = [str(part) for part in parts if part is not None]
    return "@".join([*shown[:1], *(COMMIT.sub(r"\1", revision) for revision in shown[1:])])


def mean_of(values: Iterable[float | None]) -> float:
    """Mean of the values that are known, NaN where none is."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else math.nan


def build_settings(runs: Sequence[Run]) -> pd.DataFrame:
    """One row for each setting of the finished runs, measured against its uncut one where there is one.

    Returns:
        SETTING (`extra`: the other keys in which the runs differ, with their values), `runs`, `num_seeds`,
        `is_on_policy`, `writes_all` (no trace is trained on, so that no cut shortens anything), `is_uncut`,
        MEANS over the seeds, `accuracy` and `retention` (the share of the accuracy at lsp
        1.0 with the same sections) with their ends such as `accuracy_low`, and costs as shares of those
        at lsp 1.0, such as `train_flops_ratio`.
    """
    flats = [flatten(run.config) for run in runs if run.config]
    keys = sorted({key for flat in flats for key in flat} - OUTSIDE_SETTING)
    varying = [
        key
        for key in keys
        if len({str(flat.get(key)) for flat in flats}) > 1 and not _goes_with_path(key, flats)
    ]
    rows = [_cells_of(run, varying) for run in runs if run.is_done]
    frame = pd.DataFrame(rows, columns=[*SETTING, "runs", *MEANS])
    frame = frame.astype(dict.fromkeys(("lsp", *MEANS), float))
    how = {"runs": tuple} | dict.fromkeys(MEANS, "mean")
    settings = frame.groupby(SETTING, sort=False, as_index=False).agg(how)
    settings["num_seeds"] = settings.runs.map(len)
    settings["is_on_policy"] = np.array([bool(rollout_of(r)) for r in settings.itertuples()], bool)
    settings["writes_all"] = np.array(
        [rollout_of(r).get("share") == FULL for r in settings.itertuples()], bool
    )
    settings["is_uncut"] = np.array([_is_uncut(row) for row in settings.itertuples()], bool)
    settings = _with_estimates(settings, "accuracy", map(estimate_mean, settings.runs))
    return _order(_with_references(settings))


def _goes_with_path(key: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    """True for the revision of a model or data set that is the same in all runs on that path."""
    place, _, name = key.rpartition(".")
    found = {(str(flat.get(f"{place}.path")), str(flat.get(key))) for flat in flats}
    return name == "revision" and len(found) == len({path for path, _ in found})


def _cells_of(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    row, flat = run.row, flatten(run.config)
    return {
        **asdict(row),
        "extra": tuple((key, str(flat.get(key))) for key in keys),
        "sections": row.sections or "",
        "keep": row.keep or "lead",
        "lsp": flat.get("truncation.lsp", FULL) if row.lsp is None else row.lsp,
        "runs": run,
    }


def rollout_of(setting: Any) -> Mapping[str, Any]:
    """The rollout part of a setting's config, empty where it is off-policy."""
    return setting.runs[0].config.get("rollout") or {}


def _is_uncut(setting: Any) -> bool:
    """True where whole traces were trained on, so that cuts are measured against it."""
    cut = flatten(setting.runs[0].config.get("truncation") or {})
    others = all(cut.get(key, value) in (value, None) for key, value in UNCUT.items())
    return bool(
        setting.lsp == FULL and setting.keep == "lead" and others and not setting.writes_all
    )


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
    full = full[["runs", *COST_LABELS]].reindex(settings.pop("beside"))
    for name in COST_LABELS:
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
    """Mean accuracy of runs that differ in the seed alone; ends NaN without grades of single problems."""
    value, scores = mean_of(run.row.accuracy for run in runs), _scores(runs)
    interval = mean_interval(*scores) if scores and is_known(value) else UNKNOWN
    return Interval(value, interval.low, interval.high)


def estimate_ratio(runs: Sequence[Run], reference: Sequence[Run]) -> Interval:
    """Mean accuracy of `runs` as a share of that of `reference`; NaN where that is 0 or unknown.

    Paired problem by problem, and seed by seed where the seeds are the same.
    """
    above, below = (mean_of(run.row.accuracy for run in side) for side in (runs, reference))
    if not (above >= 0 and below > 0):
        return UNKNOWN
    if runs == reference:
        return Interval(1.0, 1.0, 1.0)
    scores = _scores(runs, reference)
    interval = (ratio_interval(*scores) if scores else None) or UNKNOWN
    return Interval(above / below, interval.low, interval.high)


def _scores(*sides: Sequence[Run]) -> list[list[Floats]]:
    """For each side, scores [S, P] of each benchmark, the seeds in rising order.

    Empty where the runs did not all answer the same problems, which are `benchmark/problem`.
    """
    runs = [run for side in sides for run in side]
    problems = sorted(runs[0].by_problem) if runs else []
    if not problems or any(sorted(run.by_problem) != problems for run in runs):
        return []
    benchmarks = [list(found) for _, found in groupby(problems, lambda key: key.partition("/")[0])]
    ordered = [sorted(side, key=lambda run: run.row.seed or 0) for side in sides]
    return [
        [np.array([[run.by_problem[p] for p in found] for run in side]) for found in benchmarks]
        for side in ordered
    ]


WORDS = ["at", "point", "scored", "setting", "seeds_said", "accuracy_said", "retention_said"]


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Everything the report shows; each table is rows of `settings` with their labels there."""

    results: Results
    settings: pd.DataFrame
    """As `build_settings` makes it, and in words: `at` (lsp 0.5, or horizon 0.5 where there are no traces),
    `point` (`at`, and what else differs from the curve), `scored` (CoT+A, and what else differs
    from the curve), `setting` (all of it), `seeds_said`, and with their intervals `accuracy_said` and
    `retention_said`."""
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
    one; else training time as the formula's FLOPs predict it."""

    @property
    def curve(self) -> pd.DataFrame:
        """The sweep over lsp, empty where nothing was trained on leads."""
        return self.curves[0] if self.curves else self.settings[:0]

    @property
    def reference(self) -> Any:
        """The curve's point at lsp 1.0, or None."""
        return find_lsp(self.curve, FULL)

    @property
    def pairs(self) -> list[pd.DataFrame]:
        """Lsp 0.5 and 1.0 of each curve that has both and differs in sections alone, if there are two."""
        pairs = [curve[curve.lsp.isin([HALF, FULL])] for curve in self.curves]
        pairs = [p for p in pairs if len(p) == 2 and p.extra.iloc[0] == self.curve.extra.iloc[0]]
        return pairs if len(pairs) > 1 else []

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
    settings = _in_words(settings, usual)
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


def find_lsp(settings: pd.DataFrame, lsp: float) -> Any:
    """The first row with this cut, or None."""
    return next(settings[settings.lsp == lsp].itertuples(), None)


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
    planned = dict(PLANNED)
    if plan.get("device") == "cpu":
        del planned["peak_memory_gib"]  # measured, it is the whole process's
    found = []
    for point in curve[curve.lsp < FULL].itertuples():
        row = rows.get(point.lsp, {}) if plan else {"seconds_ratio": point.train_flops_ratio}
        found += [
            (point.lsp, cost_name, row.get(key), getattr(point, f"{cost_name}_ratio"))
            for cost_name, key in planned.items()
        ]
    return pd.DataFrame(found, columns=["lsp", "cost_name", "predicted", "measured"]).dropna()


def _frontier_cost(settings: pd.DataFrame) -> str | None:
    names = ("train_flops", "tokens_forwarded", "train_seconds")
    return next((name for name in names if len(settings) and settings[name].notna().all()), None)


def _in_words(settings: pd.DataFrame, usual: Any) -> pd.DataFrame:
    """Add the columns of text; `usual` is a setting of the curve, or None."""
    rows = []
    for row in settings.itertuples():
        at, sections = f"lsp {say_lsp(row.lsp)}", say_sections(row.sections)
        extra = ", ".join(_say_extra(row, usual))
        scored = sections
        if row.writes_all:
            at, scored = say_horizon(rollout_of(row)), "what it wrote"
            if row.lsp < FULL:  # which cuts the traces that it is validated on
                at += f" (validated at lsp {say_lsp(row.lsp)})"
            if usual is None or row.sections == usual.sections:
                sections = ""
        parts = (at, sections, "" if row.keep == "lead" else row.keep, extra)
        rows.append(
            {
                "at": at,
                "point": ", ".join(filter(None, (at, extra))),
                "scored": f"{scored} ({extra})" if extra else scored,
                "setting": ", ".join(filter(None, parts)),
                "seeds_said": say_count(row.num_seeds, "seed"),
                "accuracy_said": say_estimate(row.accuracy, row.accuracy_low, row.accuracy_high),
                "retention_said": say_retention(row),
            }
        )
    return settings.join(pd.DataFrame(rows, columns=WORDS, index=settings.index))


def say_retention(setting: Any) -> str:
    """`98 % (95 to 101 %)`, the value alone where the interval is not known or nothing is compared."""
    value, low, high = setting.retention, setting.retention_low, setting.retention_high
    if not (is_known(low) and is_known(high)) or low == high:
        return say_percent(value)
    return f"{say_percent(value)} ({say_percent_range(low, high)})"


def say_value(name: str, value: str) -> str:
    """`kd_ratio=1.0`; of a long path its end, of a long list that it is another."""
    if value.startswith(("[", "{")) and len(value) > LONGEST_VALUE:
        return f"other {name}"
    return f"{name}={value if len(value) <= LONGEST_VALUE else '…' + value[-LONGEST_VALUE:]}"


def say_horizon(rollout: Mapping[str, Any]) -> str:
    """`horizon 0.5`, `horizon 64 tokens`, `horizon 0.1 to 0.5 (linear)`."""
    horizon, start = rollout.get("horizon"), rollout.get("horizon_start")
    ends = [str(end) if isinstance(end, int) else say_lsp(end) for end in (start, horizon)]
    said = ends[1] if start is None else f"{ends[0]} to {ends[1]}"
    said += " tokens" if isinstance(horizon, int) else ""
    return f"horizon {said}" + ("" if start is None else f" ({rollout.get('schedule')})")


def _say_extra(row: Any, usual: Any) -> list[str]:
    """What else a setting has that the curve has not: keys of rollouts only where they are no default."""
    known = () if usual is None else usual.extra
    differing = {key: value for key, value in row.extra if (key, value) not in known}
    of_rollouts = {key for key in differing if key.startswith(KEY_OF_ROLLOUTS)}
    if row.writes_all:
        differing.pop("loss.kd_ratio", None)  # it must be 1
    said = []
    if row.is_on_policy and not row.writes_all and of_rollouts:
        share = rollout_of(row).get("share")
        said += [say_horizon(rollout_of(row)), f"share {say_lsp(share)} on-policy"]
    elif of_rollouts and not row.is_on_policy and usual is not None and usual.is_on_policy:
        said.append("off-policy")
    for key, value in differing.items():
        name = key.rpartition(".")[2]
        if key not in of_rollouts or (
            row.is_on_policy
            and name not in SAID_OF_ROLLOUTS
            and value != ROLLOUT_DEFAULTS.get(key.removeprefix(KEY_OF_ROLLOUTS))
        ):
            said.append(say_value(name, value))
    return said


def _curves(settings: pd.DataFrame) -> list[pd.DataFrame]:
    """Lead series over lsp, the main one first: most cuts, then most runs."""
    lead = settings[(settings.keep == "lead") & ~settings.writes_all]
    curves = [curve for _, curve in lead.groupby(FAMILY, sort=False)]
    return sorted(curves, key=lambda curve: (-len(curve), -curve.num_seeds.sum()))


def _section_ablation(settings: pd.DataFrame, usual: Any) -> pd.DataFrame:
    """Lead settings at lsp 1.0 that differ from the curve in sections alone."""
    if usual is None:
        return settings[:0]
    full = settings[(settings.lsp == FULL) & (settings.keep == "lead") & ~settings.writes_all]
    found = full[full.extra.map(usual.extra.__eq__).astype(bool)]
    return found if len(found) > 1 else found[:0]


def _halves(settings: pd.DataFrame, usual: Any) -> pd.DataFrame:
    """Settings at lsp 0.5 that differ in what is kept; the curve's sections where it has them."""
    half = settings[(settings.lsp == HALF) & ~settings.writes_all].groupby(FAMILY, sort=False)
    found = {family: rows for family, rows in half if len(rows) > 1}
    main = None if usual is None else found.get((usual.sections, usual.extra))
    return next(iter(found.values()), settings[:0]) if main is None else main
