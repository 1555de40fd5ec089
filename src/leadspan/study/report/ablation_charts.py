"""Figures that compare settings side by side: sections, halves, the prompt scored or not. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.groups import (
    Group,
)
from leadspan.study.report.summary import Summary
from leadspan.study.report.wording import (
    say_count,
    say_estimate,
    say_lsp,
    say_number,
    say_sections,
)


def sections_chart(summary: Summary) -> Chart:
    """Accuracy of each section setting."""
    groups = [group for group in summary.sections if group.accuracy is not None]
    labels = [say_sections(group.setting.sections) for group in groups]
    return Chart(
        "sections",
        "Accuracy by scored sections",
        "Accuracy when the loss is taken on the named sections alone, everything in context (lsp 1.0). "
        "P prompt, CoT chain of thought, A answer.",
        "scored sections",
        "accuracy",
        (_bars("accuracy", labels, groups, 0),) if groups else (),
        _base_level(summary),
    )


def prompt_chart(summary: Summary) -> Chart:
    """The paper's P+CoT+A beside the sweep's own sections, at lsp 0.5 and 1.0."""
    series = []
    for colour, (half, full) in enumerate(summary.pairs):
        pair = [group for group in (half, full) if group.accuracy is not None]
        names = [f"lsp {say_lsp(group.lsp)}" for group in pair]
        if pair:
            series.append(_bars(say_sections(half.setting.sections), names, pair, colour))
    return Chart(
        "prompt",
        "Scoring the prompt too",
        "Accuracy at half and at full length, with the prompt scored (P+CoT+A, the paper's own setting) "
        "and without.",
        "",
        "accuracy",
        tuple(series) if len(series) > 1 else (),
        _base_level(summary),
    )


def halves_chart(summary: Summary) -> Chart:
    """Accuracy of lead, middle and tail half."""
    groups = [group for group in summary.halves if group.accuracy is not None]
    return Chart(
        "halves",
        "Accuracy by kept half",
        "Accuracy when the lead, middle or tail half of each sequence is kept (lsp 0.5).",
        "kept half",
        "accuracy",
        (_bars("accuracy", [g.setting.keep for g in groups], groups, 0),) if groups else (),
        _base_level(summary),
    )


def halves_loss_chart(summary: Summary) -> Chart:
    """Training and validation loss of the three halves."""
    series = []
    for colour, (name, label) in enumerate(
        (("train_loss", "training loss"), ("val_loss", "validation loss"))
    ):
        groups = [group for group in summary.halves if getattr(group, name) is not None]
        if groups:
            values = tuple(float(getattr(group, name)) for group in groups)
            keeps = tuple(group.setting.keep for group in groups)
            hover = tuple(
                f"{k}: {label} {say_number(v, 4)}" for k, v in zip(keeps, values, strict=True)
            )
            series.append(Series(label, keeps, values, hover=hover, colour=colour, mark="bars"))
    return Chart(
        "halves-loss",
        "Loss of each half",
        "Training loss (last part of the training) and best validation loss of the kept half, each on "
        "its own tokens.",
        "kept half",
        "loss, nats per scored token",
        tuple(series),
    )


def _bars(label: str, names: Sequence[str], groups: Sequence[Group], colour: int) -> Series:
    estimates = [group.accuracy for group in groups if group.accuracy is not None]
    hover = tuple(
        f"{name}: {say_estimate(estimate)}, {say_count(group.num_seeds, 'seed')}"
        for name, estimate, group in zip(names, estimates, groups, strict=True)
    )
    return Series(
        label,
        tuple(names),
        tuple(estimate.value for estimate in estimates),
        tuple(estimate.low for estimate in estimates),
        tuple(estimate.high for estimate in estimates),
        hover,
        colour,
        "bars",
    )


def _base_level(summary: Summary) -> tuple[tuple[str, float], ...]:
    found = [run.row.accuracy for run in summary.models("base") if run.row.accuracy is not None]
    return (("untrained student", found[0]),) if found else ()
