"""How numbers, settings and the outcome are said. Pure; knows nothing about Markdown or HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from leadspan.study.report.groups import FULL, Group
from leadspan.study.report.interval import Estimate
from leadspan.study.report.summary import HALF, PAPER_RETENTION, Summary, find_lsp

MISSING = "–"
SHORT_SECTIONS = {"prompt": "P", "cot": "CoT", "answer": "A"}
COST_LABELS = {
    "train_seconds": "training time",
    "peak_memory_gib": "peak memory",
    "peak_step_memory_gib": "memory of the step alone",
    "train_flops": "training FLOPs",
    "tokens_forwarded": "tokens forwarded",
    "tokens_scored": "tokens scored",
}


def say_number(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals, or a dash; an interval without an upper end has infinity."""
    if value is None:
        return MISSING
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def say_large(value: float | None) -> str:
    """Counts and FLOPs: thousands in groups, from a million on three significant digits."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"


def say_estimate(estimate: Estimate | None, digits: int = 2) -> str:
    """`0.93 [0.90, 0.96]`."""
    if estimate is None:
        return MISSING
    value = say_number(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{say_number(estimate.low, digits)}, {say_number(estimate.high, digits)}]"


def say_sections(sections: str) -> str:
    """`prompt+cot+answer` as the paper writes it, P+CoT+A."""
    return "+".join(SHORT_SECTIONS.get(name, name) for name in sections.split("+"))


def say_lsp(lsp: float | None) -> str:
    """The cut as one writes it: 0.5, 0.75, 1.0."""
    if lsp is None:
        return MISSING
    return f"{lsp:.1f}" if round(lsp, 1) == lsp else f"{lsp:g}"


def say_count(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say_extra(group: Group, usual: Group | None) -> str:
    """The other keys of a group that differ from those of `usual`, `key=value`, or nothing."""
    common = dict(usual.setting.extra) if usual is not None else {}
    return ", ".join(
        f"{key.rpartition('.')[2]}={value}"
        for key, value in group.setting.extra
        if common.get(key) != value
    )


def say_series(group: Group, usual: Group | None) -> str:
    """What a curve has in common: `CoT+A`, or `CoT+A (kd_ratio=0)`."""
    extra = say_extra(group, usual)
    sections = say_sections(group.setting.sections)
    return f"{sections} ({extra})" if extra else sections


def say_setting(group: Group, usual: Group | None = None) -> str:
    """A whole setting in a few words, as hover texts show it."""
    parts = [f"lsp {say_lsp(group.lsp)}", say_sections(group.setting.sections)]
    if group.setting.keep != "lead":
        parts.append(group.setting.keep)
    extra = say_extra(group, usual)
    return ", ".join([*parts, extra] if extra else parts)


def slug(name: str) -> str:
    """A name as it may stand in an anchor or a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def headline(summary: Summary, place: Path | None = None) -> str:
    """Two sentences, true for whatever came out: the outcome, then what it means and where it lies."""
    return f"{_outcome(summary)}. {_meaning(summary, place)}."


def _outcome(summary: Summary) -> str:
    if not summary.groups:
        return (
            f"No training run has a result: {len(summary.failed)} failed, "
            f"{len(summary.unfinished)} unfinished"
        )
    scored = [group for group in summary.groups if group.accuracy is not None]
    if not scored:
        return f"{say_count(len(summary.groups), 'setting')} trained, but none was evaluated"
    shown = find_lsp(summary.curve, HALF) or _most_cut(summary)
    reference = summary.reference
    if shown is None or shown.retention is None or shown.accuracy is None or reference is None:
        return _best_of(scored, summary)
    return (
        f"At lsp {say_lsp(shown.lsp)} the student kept {_retention(shown)} of the accuracy of full "
        f"sequences ({_against(shown, reference)}; {say_count(shown.num_seeds, 'seed')})"
        f"{_for_costs(shown)}"
    )


def _most_cut(summary: Summary) -> Group | None:
    """What the headline is about where there is no lsp 0.5: the recommended cut or the largest."""
    if summary.recommended is not None and summary.recommended.lsp < FULL:
        return summary.recommended
    cut = [group for group in summary.curve if group.lsp < FULL and group.retention is not None]
    return cut[-1] if cut else None


def _retention(group: Group) -> str:
    estimate = group.retention
    assert estimate is not None
    if estimate.low is None or estimate.high is None:
        return say_number(estimate.value)
    low, high = say_number(estimate.low), say_number(estimate.high)
    return f"{estimate.value:.2f} (95 % interval {low} to {high})"


def _against(shown: Group, reference: Group) -> str:
    assert shown.accuracy is not None
    assert reference.accuracy is not None
    return f"{shown.accuracy.value:.2f} against {reference.accuracy.value:.2f}"


def _for_costs(group: Group) -> str:
    parts = [
        f"{value:.2f} of the {COST_LABELS[name].removeprefix('training ') if place else COST_LABELS[name]}"
        for place, name in enumerate(("train_seconds", "train_flops"))
        if (value := getattr(group.ratios, name)) is not None
    ]
    return f" for {' and '.join(parts)}" if parts else ""


def _best_of(scored: Sequence[Group], summary: Summary) -> str:
    best = max(scored, key=lambda group: group.accuracy.value if group.accuracy else 0.0)
    usual = summary.curve[0] if summary.curve else None
    return (
        f"The best of {say_count(len(scored), 'setting')} is {say_setting(best, usual)}, accuracy "
        f"{say_estimate(best.accuracy)} ({say_count(best.num_seeds, 'seed')})"
    )


def _meaning(summary: Summary, place: Path | None) -> str:
    parts = [_advice(summary)]
    if summary.groups and summary.failed:
        parts.append(f"{say_count(len(summary.failed), 'run')} failed")
    if summary.groups and summary.unfinished:
        parts.append(f"{say_count(len(summary.unfinished), 'run')} unfinished")
    if place is not None:
        parts.append(f"the report lies in {place}")
    return "; ".join(parts)


def _advice(summary: Summary) -> str:
    if not summary.groups:
        reasons = [run.error for run in summary.failed if run.error]
        return f"The first reason: {reasons[0].rstrip('.')}" if reasons else "Run it to the end"
    reference, chosen = summary.reference, summary.recommended
    if reference is None or reference.accuracy is None:
        return "Without a result at lsp 1.0 nothing can be said about what a cut costs"
    if reference.accuracy.value == 0:
        return "At lsp 1.0 no answer was correct, so there is nothing that a cut could keep"
    if (base := _accuracy_of(summary, "base")) is not None and reference.accuracy.value <= base:
        return (
            f"Training on full sequences did not beat the untrained student ({base:.2f}), "
            "so retention says little here"
        )
    if len(summary.curve) == 1:
        return "Only lsp 1.0 has a result, so nothing can be said about what a cut costs"
    if chosen is None or chosen.lsp >= FULL:
        return f"No smaller cut kept at least {PAPER_RETENTION} of full accuracy"
    return (
        f"The smallest cut that kept at least {PAPER_RETENTION} of full accuracy is "
        f"lsp {say_lsp(chosen.lsp)}{_beside(summary)}"
    )


def _beside(summary: Summary) -> str:
    parts = [
        f"{name} {score:.2f}"
        for kind, name in (("base", "untrained student"), ("teacher", "teacher"))
        if (score := _accuracy_of(summary, kind)) is not None
    ]
    return f" ({' and '.join(parts)})" if parts else ""


def _accuracy_of(summary: Summary, kind: str) -> float | None:
    found = [run.row.accuracy for run in summary.models(kind) if run.row.accuracy is not None]
    return found[0] if found else None
