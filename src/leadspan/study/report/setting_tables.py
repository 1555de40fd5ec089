"""Tables of settings: the tradeoff, the ablations, the frontier, the prediction. Pure."""

from __future__ import annotations

from leadspan.study.report.summary import Summary
from leadspan.study.report.table import Table
from leadspan.study.report.wording import (
    COST_LABELS,
    say_estimate,
    say_large,
    say_lsp,
    say_number,
    say_sections,
    say_series,
    say_setting,
)


def tradeoff_table(summary: Summary) -> Table:
    """Accuracy, retention and cost ratios over lsp, other series below the main one."""
    usual = summary.curve[0] if summary.curve else None
    rows = []
    for curve in (summary.curve, *summary.other_curves):
        for group in curve:
            mark = " ★" if group is summary.recommended else ""
            rows.append(
                (
                    f"{say_lsp(group.lsp)}{mark}",
                    say_series(group, usual),
                    str(group.num_seeds),
                    say_estimate(group.accuracy),
                    say_estimate(group.retention),
                    say_number(group.closed_fraction),
                    say_number(group.train_loss, 4),
                    say_number(group.val_loss, 4),
                    say_number(group.ratios.train_seconds),
                    say_number(group.ratios.peak_memory_gib),
                    say_number(group.ratios.peak_step_memory_gib),
                    say_number(group.ratios.train_flops),
                )
            )
    return Table(
        "tradeoff",
        "What a cut costs and saves",
        (
            "lsp",
            "scored",
            "seeds",
            "accuracy",
            "retention",
            "closed",
            "train loss",
            "val loss",
            "time ×",
            "memory ×",
            "step memory ×",
            "FLOPs ×",
        ),
        tuple(rows),
        "Means over seeds with 95 % intervals over seeds and problems. Retention and × are against "
        "lsp 1.0 of the same scored sections. Closed: share of answers whose think block ended. "
        "★: the recommended cut.",
    )


def sections_table(summary: Summary) -> Table:
    """Section ablation at lsp 1.0."""
    rows = tuple(
        (
            say_sections(group.setting.sections),
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_number(group.closed_fraction),
            say_number(group.train_loss, 4),
            say_number(group.val_loss, 4),
            say_large(group.costs.tokens_scored),
            say_number(group.costs.train_seconds, 1),
        )
        for group in summary.sections
    )
    return Table(
        "sections",
        "Section ablation (lsp 1.0)",
        (
            "scored",
            "seeds",
            "accuracy",
            "closed",
            "train loss",
            "val loss",
            "tokens scored",
            "seconds",
        ),
        rows,
        "All of the sequence is in context; the loss is taken on the named sections alone, so losses of "
        "different sections are means over different tokens.",
    )


def halves_table(summary: Summary) -> Table:
    """Lead, middle and tail half."""
    rows = tuple(
        (
            group.setting.keep,
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_estimate(group.retention),
            say_number(group.closed_fraction),
            say_number(group.train_loss, 4),
            say_number(group.val_loss, 4),
            say_large(group.costs.tokens_forwarded),
        )
        for group in summary.halves
    )
    scored = say_sections(summary.halves[0].setting.sections) if summary.halves else ""
    return Table(
        "halves",
        f"Lead, middle and tail half ({scored} scored)",
        (
            "kept",
            "seeds",
            "accuracy",
            "retention",
            "closed",
            "train loss",
            "val loss",
            "tokens forwarded",
        ),
        rows,
        "Training and validation loss are those of the kept half itself.",
    )


def prompt_table(summary: Summary) -> Table:
    """The paper's own P+CoT+A beside the sweep's sections, at lsp 0.5 and 1.0."""
    rows = [
        (
            say_sections(half.setting.sections),
            f"{half.num_seeds} / {full.num_seeds}",
            say_estimate(half.accuracy),
            say_estimate(full.accuracy),
            say_estimate(half.retention),
            say_number(half.closed_fraction),
            say_number(full.closed_fraction),
        )
        for half, full in summary.pairs
    ]
    return Table(
        "prompt",
        "Scoring the prompt too",
        (
            "scored",
            "seeds 0.5 / 1.0",
            "accuracy 0.5",
            "accuracy 1.0",
            "retention",
            "closed 0.5",
            "closed 1.0",
        ),
        tuple(rows) if len(rows) > 1 else (),
        "P+CoT+A is the setting of the paper's own lsp runs. Where prompts hold what nobody can predict "
        "(random digits, names), scoring them can spend a small student's capacity on noise, and the more "
        "so the shorter the cut, which is why the sweep over lsp scores "
        f"{say_sections(summary.curve[0].setting.sections) if summary.curve else 'the completion'}.",
    )


def others_table(summary: Summary) -> Table:
    """Settings that are in no curve and no ablation."""
    usual = summary.curve[0] if summary.curve else None
    rows = tuple(
        (
            say_setting(group, usual),
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_estimate(group.retention),
            say_number(group.closed_fraction),
            say_number(group.ratios.train_seconds),
            say_number(group.ratios.train_flops),
        )
        for group in summary.others
    )
    return Table(
        "others",
        "Other settings",
        ("setting", "seeds", "accuracy", "retention", "closed", "time ×", "FLOPs ×"),
        rows,
        "Retention and × are against uncut runs of the same scored sections.",
    )


def frontier_table(summary: Summary) -> Table:
    """Settings that no other beats in accuracy at the same or a lower cost."""
    usual = summary.curve[0] if summary.curve else None
    rows = tuple(
        (
            f"{say_lsp(group.lsp)}{' ★' if group is summary.recommended else ''}",
            say_series(group, usual),
            group.setting.keep,
            say_estimate(group.accuracy),
            say_large(getattr(group.costs, summary.cost_name or "train_flops")),
            say_number(getattr(group.ratios, summary.cost_name or "train_flops")),
        )
        for group in summary.frontier
    )
    cost = {"train_flops": "FLOPs", "train_seconds": "seconds"}.get(
        summary.cost_name or "", "tokens forwarded"
    )
    return Table(
        "frontier",
        "Settings on the Pareto frontier",
        ("lsp", "scored", "kept", "accuracy", cost, f"{cost} ×"),
        rows,
        "Settings that no other beats in mean accuracy at the same or a lower cost. "
        "★: the recommended cut.",
    )


def predicted_table(summary: Summary) -> Table:
    """Foretold and measured shares of full cost, and by how much they are apart."""
    rows = tuple(
        (
            say_lsp(found.lsp),
            COST_LABELS[found.cost_name],
            say_number(found.predicted),
            say_number(found.measured),
            f"{found.measured / found.predicted - 1:+.0%}" if found.predicted else say_number(None),
        )
        for found in summary.predictions
    )
    return Table(
        "predicted",
        "Predicted against measured",
        ("lsp", "cost", "predicted ×", "measured ×", "off by"),
        rows,
        "Shares of the cost of lsp 1.0.",
    )
