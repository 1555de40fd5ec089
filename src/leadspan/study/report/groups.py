"""Runs that differ in nothing but the seed, as one group: means, retention, cost ratios. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leadspan.study.report.interval import Estimate, estimate_mean, estimate_ratio
from leadspan.study.results import Run, mean_of

FULL = 1.0
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


def build_groups(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Group the finished runs, each group measured against its uncut one where there is one."""
    extra_keys = _varying_keys(runs)
    by_setting: dict[Setting, list[Run]] = {}
    for run in runs:
        if run.is_done:
            by_setting.setdefault(_setting_of(run, extra_keys), []).append(run)
    return _with_references(
        [_summarise_group(setting, tuple(found)) for setting, found in by_setting.items()]
    )


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
    """Sections as the paper lists them, those without the CoT first."""
    setting = group.setting
    keeps = ("lead", "middle", "tail")
    place = keeps.index(setting.keep) if setting.keep in keeps else len(keeps)
    sections = ("cot" in setting.sections, setting.sections.count("+"), setting.sections)
    return (setting.extra, sections, place, group.lsp)
