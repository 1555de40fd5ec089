"""The report as words: two sentences and the names at the top, then Markdown with its tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leadspan.study.report.chart import Chart
from leadspan.study.report.on_policy import families_of
from leadspan.study.report.summary import (
    FULL,
    HALF,
    PAPER_RETENTION,
    Summary,
    find_lsp,
    is_known,
    say_count,
    say_lsp,
    say_number,
    say_percent,
    say_percent_range,
)
from leadspan.study.report.tables import Table
from leadspan.study.results import Run

MOST_NAMED = 3
"""Teachers, students or data sets that are named at the top."""


def headline(summary: Summary) -> str:
    """Two sentences: the outcome, then what it means."""
    return f"{outcome(summary)} {meaning(summary)}".rstrip()


def title_of(summary: Summary) -> str:
    """What the sweep asks, or the run's name."""
    if not summary.results.is_sweep:
        return f"Run {summary.results.path.resolve().name}"
    is_about_cuts = not summary.curve.empty or summary.settings.empty
    return "What truncation cost" if is_about_cuts else "What on-policy training reached"


def outcome(summary: Summary) -> str:
    """The result in one sentence."""
    return f"{_outcome(summary) if summary.results.is_sweep else _outcome_of_one(summary)}."


def meaning(summary: Summary) -> str:
    """What it means, and what has no result, in one sentence; empty for a run alone."""
    return f"{_meaning(summary)}." if summary.results.is_sweep else ""


def _outcome_of_one(summary: Summary) -> str:
    run = next(iter(summary.results.runs), None)
    if run is None:
        return "The run has not finished"
    if not run.is_done:
        return f"The run failed: {(run.error or '').rstrip('.')}"
    setting = next(summary.settings.itertuples())
    if not is_known(setting.accuracy):
        return (
            f"Trained at {setting.at}, the student reached a validation loss of "
            f"{say_number(setting.val_loss, 4)}; it was not evaluated"
        )
    return f"Trained at {setting.at}, the student reached an accuracy of {setting.accuracy_said}"


def _outcome(summary: Summary) -> str:
    settings = summary.settings
    if settings.empty:
        return (
            f"No training run has a result: {len(summary.failed)} failed, "
            f"{len(summary.results.unfinished)} unfinished"
        )
    scored = settings.dropna(subset="accuracy")
    if scored.empty:
        return f"{say_count(len(settings), 'setting')} trained, but none was evaluated"
    half = find_lsp(summary.curve, HALF)
    shown, reference = half if half is not None else _most_cut(summary), summary.reference
    if shown is None or not is_known(shown.retention) or reference is None:
        best = next(scored.nlargest(1, "accuracy").itertuples())
        return (
            f"The best of {say_count(len(scored), 'setting')} is {best.setting}, accuracy "
            f"{best.accuracy_said} ({say_count(best.num_seeds, 'seed')})"
        )
    details = [f"{shown.accuracy:.2f} against {reference.accuracy:.2f}"]
    details.append(say_count(shown.num_seeds, "seed"))
    if is_known(shown.retention_low):
        interval = say_percent_range(shown.retention_low, shown.retention_high)
        details.insert(0, f"95 % interval {interval}")
    return (
        f"At lsp {say_lsp(shown.lsp)} the student kept {say_percent(shown.retention)} of the accuracy of "
        f"full sequences{_at_costs(shown)} ({'; '.join(details)})"
    )


def _most_cut(summary: Summary) -> Any:
    """What the headline is about where there is no lsp 0.5: the recommended cut or the largest."""
    if summary.recommended is not None and summary.recommended.lsp < FULL:
        return summary.recommended
    cut = summary.curve[summary.curve.lsp < FULL].dropna(subset="retention")
    return None if cut.empty else list(cut.itertuples())[-1]


def _at_costs(setting: Any) -> str:
    shares = {"training time": setting.train_seconds_ratio, "FLOPs": setting.train_flops_ratio}
    parts = [
        f"{say_percent(share)} of the {name}" for name, share in shares.items() if is_known(share)
    ]
    return f" at {' and '.join(parts)}" if parts else ""


def _meaning(summary: Summary) -> str:
    families = families_of(summary)
    parts = [] if families is not None and summary.curve.empty else [_advice(summary)]
    if families is not None:
        parts.append(families.sentence)
    if not summary.settings.empty:
        counts = {"failed": len(summary.failed), "unfinished": len(summary.results.unfinished)}
        parts += [f"{say_count(count, 'run')} {what}" for what, count in counts.items() if count]
    return "; ".join(parts)


def _advice(summary: Summary) -> str:
    if summary.settings.empty:
        reasons = [run.error for run in summary.failed if run.error]
        return f"The first reason: {reasons[0].rstrip('.')}" if reasons else "Run it to the end"
    reference, chosen = summary.reference, summary.recommended
    if reference is None or not is_known(reference.accuracy):
        return "Without a result at lsp 1.0 nothing can be said about what a cut costs"
    if reference.accuracy == 0:
        return "At lsp 1.0 no answer was correct, so there is nothing that a cut could keep"
    base, teacher = (summary.accuracy_of(kind) for kind in ("base", "teacher"))
    if base is not None and reference.accuracy <= base:
        return (
            f"Training on full sequences did not beat the untrained student ({base:.2f}), "
            "so retention says little here"
        )
    if len(summary.curve) == 1:
        return "Only lsp 1.0 has a result, so nothing can be said about what a cut costs"
    if chosen is None or chosen.lsp >= FULL:
        return f"No smaller cut kept at least {say_percent(PAPER_RETENTION)} of full accuracy"
    scores = {"untrained student": base, "teacher": teacher}
    known = [f"{name} {score:.2f}" for name, score in scores.items() if score is not None]
    beside = f" ({', '.join(known)})" if known else ""
    return (
        f"The smallest cut that kept at least {say_percent(PAPER_RETENTION)} of full accuracy is "
        f"lsp {say_lsp(chosen.lsp)}{beside}"
    )


def build_facts(summary: Summary) -> list[tuple[str, str]]:
    """What the report is about: teacher, student, data, runs, date, machine, and the sweep's labels."""
    runs = [run for run in summary.results.runs if run.row.kind == "train"]
    done = sum(run.is_done for run in summary.results.runs)
    facts = [
        ("Teacher", [name for run in runs for name in teachers_of(run.config)]),
        ("Student", [say_path(run.config, "student") for run in runs]),
        ("Data", [say_path(run.config, "traces") for run in runs]),
        ("Runs", [say_count(done, "run") + " with a result"] if summary.results.is_sweep else []),
        ("Date", _days(runs)),
        ("Machine", [say_machine(run.environment) for run in runs]),
        *(
            (key.replace("_", " ").capitalize(), [str(value)])
            for key, value in summary.results.tags.items()
        ),
    ]
    distinct = [(name, list(dict.fromkeys(filter(None, values)))) for name, values in facts]
    return [(name, say_list(values)) for name, values in distinct if values]


def teachers_of(config: Mapping[str, Any]) -> list[str]:
    """The teachers of a run, several in the order of its config."""
    several = config.get("teachers") or ()
    return [say_path({"teacher": each}, "teacher") for each in several or [config.get("teacher")]]


def say_path(config: Mapping[str, Any], part: str) -> str:
    """A hub id as it is, a local path by its last two names; empty where there is none."""
    path = (config.get(part) or {}).get("path")
    return "/".join(Path(str(path)).parts[-2:]) if path else ""


def say_list(values: Sequence[str]) -> str:
    """Up to MOST_NAMED, then how many more."""
    shown, more = values[:MOST_NAMED], len(values) - MOST_NAMED
    return ", ".join([*shown, *([f"{more} more"] if more > 0 else [])])


def _days(runs: Sequence[Run]) -> list[str]:
    """The first and the last day on which a run began, which is also the day of its prompts."""
    days = sorted(str(day) for run in runs if (day := (run.config.get("render") or {}).get("date")))
    return [" to ".join(dict.fromkeys((days[0], days[-1])))] if days else []


def say_machine(environment: Mapping[str, Any]) -> str:
    """The card, or the CPU's kind and threads; empty where not recorded."""
    if environment.get("gpu"):
        return str(environment["gpu"])
    if not environment.get("machine"):
        return ""
    threads = environment.get("num_threads")
    kind = f"CPU ({environment['machine']}"
    return kind + (f", {say_count(threads, 'thread')})" if threads else ")")


def write_markdown(
    summary: Summary,
    tables: Mapping[str, Table],
    charts: Mapping[str, Chart],
    figures: Mapping[str, Path],
) -> str:
    """The text of report.md."""
    facts = [f"{name}: {value}" for name, value in build_facts(summary)]
    parts = [f"# {escape(title_of(summary))}", escape(headline(summary)), escape("; ".join(facts))]
    for table in tables.values():
        parts.append(f"## {escape(table.title)}")
        captions = {name: c.caption for name, c in charts.items() if c.table == table.name}
        if table.name == "tradeoff":
            captions = {"tradeoff": "Accuracy, retention, cost."}
        for name, caption in captions.items():
            if name in figures:
                parts.append(f"![{escape(caption)}](figures/{figures[name].name})")
        parts.append(write_table(table.cells))
        if table.note:
            parts.append(escape(table.note))
    parts.append("Every number of every run: [results.csv](results.csv).")
    return "\n\n".join(parts) + "\n"


def write_table(cells: pd.DataFrame) -> str:
    """One pipe table."""
    lines = [cells.columns, ["---"] * len(cells.columns), *cells.itertuples(index=False)]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that cannot break out of its line, cell or paragraph, nor become HTML."""
    for mark in ("\\", "|", "<", ">", "*", "`", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
