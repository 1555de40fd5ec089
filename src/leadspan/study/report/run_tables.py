"""Tables of single runs and models. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from leadspan.study.report.summary import Summary, model_of
from leadspan.study.report.table import Table, say_range
from leadspan.study.report.wording import (
    say_count,
    say_large,
    say_lsp,
    say_number,
    say_sections,
)
from leadspan.study.results import Run, mean_of


def models_table(summary: Summary) -> Table:
    """The untrained students and the teachers."""
    rows = tuple(
        (
            label,
            say_number(run.row.accuracy),
            say_range(run.row.accuracy_low, run.row.accuracy_high),
            say_number(run.row.closed_fraction),
        )
        for label, run in _models(summary)
    )
    return Table(
        "models",
        "Where the student starts and what it learns from",
        ("model", "accuracy", "95 % interval", "closed"),
        rows,
        "The interval is over problems.",
    )


def _models(summary: Summary) -> list[tuple[str, Run]]:
    """Every reference model with what it is, and its name where there are several of a kind."""
    labelled = []
    for kind, label in (("base", "untrained student"), ("teacher", "teacher")):
        runs = summary.models(kind)
        for run in runs:
            name = model_of(run, "student" if kind == "base" else "teacher")
            labelled.append((f"{label} {name}" if len(runs) > 1 else label, run))
    return labelled


def benchmarks_table(summary: Summary) -> Table:
    """Accuracy on each benchmark, where there are several."""
    groups = [(say_lsp(group.lsp), group.runs) for group in summary.curve]
    models = [(label, (run,)) for label, run in _models(summary)]
    everyone = [*groups, *models]
    names = sorted({name for _, runs in everyone for run in runs for name in run.by_benchmark})
    rows = tuple(
        (label, *(say_number(mean_of(r.by_benchmark.get(name) for r in runs)) for name in names))
        for label, runs in everyone
        if runs
    )
    return Table(
        "benchmarks",
        "Accuracy on each benchmark",
        ("lsp", *names),
        rows if len(names) > 1 else (),
        "Means over seeds. Accuracy elsewhere is the mean over these.",
    )


RUN_COLUMNS = (
    "run",
    "kind",
    "status",
    "lsp",
    "scored",
    "kept",
    "seed",
    "accuracy",
    "95 % interval",
    "closed",
    "train loss",
    "val loss",
    "seconds",
    "memory GiB",
    "step GiB",
    "FLOPs",
    "tokens forwarded",
    "tokens scored",
)


def runs_table(runs: Iterable[Run]) -> Table:
    """Every run, a row each."""
    return Table("runs", "Every run", RUN_COLUMNS, tuple(run_cells(run) for run in runs))


def run_cells(run: Run) -> tuple[str, ...]:
    """One run's cells under RUN_COLUMNS."""
    row = run.row
    is_trained = row.kind == "train"
    return (
        row.run,
        row.kind,
        row.status,
        say_lsp(row.lsp),
        say_sections(row.sections) if row.sections else say_number(None),
        row.keep if row.keep else say_number(None),
        str(row.seed) if is_trained and row.seed is not None else say_number(None),
        say_number(row.accuracy, 3),
        say_range(row.accuracy_low, row.accuracy_high),
        say_number(row.closed_fraction),
        say_number(row.train_loss, 4),
        say_number(row.val_loss, 4),
        say_number(row.train_seconds, 1),
        say_number(row.peak_memory_gib, 3),
        say_number(row.peak_step_memory_gib, 3),
        say_large(row.train_flops),
        say_large(row.tokens_forwarded),
        say_large(row.tokens_scored),
    )


def failed_table(summary: Summary) -> Table:
    """What failed and why, and what has not finished."""
    rows = [(run.row.run, "failed", run.error or "") for run in summary.failed]
    rows += [(name, "unfinished", "neither finished nor failed yet") for name in summary.unfinished]
    return Table(
        "failed",
        "Without a result",
        ("run", "status", "reason"),
        tuple(rows),
        f"{say_count(len(rows), 'run')} of {len(summary.runs) + len(summary.unfinished)}. "
        "They are in no mean above.",
    )
