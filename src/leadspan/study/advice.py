"""What a sweep's report says beside its runs: where its traces derive their answers, the advice, the plan.

Joins the analysis of traces with a sweep folder. Knows nothing about training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leadspan.analysis.advise import advise
from leadspan.analysis.analyze import analyze, summarise
from leadspan.analysis.cost import SecondsModel, fit_speed, measurement_of
from leadspan.analysis.plan import plan_run
from leadspan.config import TracesConfig
from leadspan.errors import LeadspanError
from leadspan.models import load_tokenizer
from leadspan.progress import say
from leadspan.runs import RunFolder, write_json_atomic
from leadspan.study.sweep import Point, is_finished

SAMPLE = 500
"""Traces of a data set that are read; a share among so many is within 4.5 points (95 %)."""
COUNTS = ("traces", "derived", "not_found", "gold_in_prompt", "no_gold")


def datasets_of(points: Sequence[Point]) -> dict[str, TracesConfig]:
    """What a sweep trains on, by a file's name without its ending, or the path where two share one."""
    found = {point.config.traces.path: point.config.traces for point in points}
    names = Counter(Path(path).stem for path in found)
    return {
        Path(path).stem if names[Path(path).stem] == 1 else path: traces
        for path, traces in found.items()
    }


def write_analysis(
    sweep_folder: Path, points: Sequence[Point], datasets: Mapping[str, TracesConfig]
) -> dict[str, list[str]]:
    """Analyse data sets, plan a sweep's runs, and write `analysis.json` for the report.

    What cannot be read, and a model whose cost is not known, is left out, which is said: the runs
    stand without it.

    Args:
        sweep_folder: The sweep's folder.
        points: Its points, run or not.
        datasets: Name in the report -> traces; at most `SAMPLE` of each are read.

    Returns:
        The reasons of the advice, by data set.
    """
    trained = [point for point in points if point.kind == "train"]
    base = trained[0].config
    tokenizer = load_tokenizer(base.student.path, base.student.revision, base.render.chat_template)
    entries: list[dict[str, Any]] = []
    content: dict[str, Any] = {"datasets": entries}
    try:
        for name, traces in datasets.items():
            analysis = analyze(_sample(traces), tokenizer, base.render)
            summary = summarise(analysis)
            entries.append(
                {
                    "name": name,
                    "fractions": [r.fraction for r in analysis.derived if r.fraction is not None],
                    "survival": summary["survival"],
                    "counts": {key: summary[key] for key in COUNTS},
                    "advice": advise(analysis).to_json(),
                }
            )
        content["plan"] = _plan(sweep_folder, trained, tokenizer)
    except LeadspanError as error:
        say(f"warning: {sweep_folder}: not analysed in full; {error}")
    write_json_atomic(sweep_folder / "analysis.json", content)
    return {entry["name"]: list(entry["advice"]["reasons"]) for entry in entries}


def _plan(sweep_folder: Path, trained: Sequence[Point], tokenizer: Any) -> dict[str, Any]:
    """What `leadspan plan` says of these runs, calibrated on the shortest and longest that is done."""
    base = trained[0].config
    base = base.model_copy(update={"traces": _sample(base.traces)})
    lsps = sorted({point.config.truncation.lsp for point in trained} | {1.0})
    ends = {
        point.config.truncation.lsp: point
        for point in reversed(trained)
        if point.overrides.keys() <= {"truncation.lsp", "seed"} and is_finished(point, sweep_folder)
    }
    speed: SecondsModel | None = None
    device = "cuda"
    if ends:
        chosen = [ends[lsp] for lsp in sorted({min(ends), max(ends)})]
        manifests = [RunFolder(point.folder(sweep_folder)).manifest for point in chosen]
        source = "this sweep's runs " + " and ".join(point.name for point in chosen)
        speed = replace(fit_speed([measurement_of(each) for each in manifests]), source=source)
        device = "cpu" if manifests[0]["device"] == "cpu" else "cuda"
    return plan_run(base, tokenizer, speed, device, lsps=lsps).to_json()


def _sample(traces: TracesConfig) -> TracesConfig:
    fewer = SAMPLE if traces.sample is None else min(traces.sample, SAMPLE)
    return traces.model_copy(update={"sample": fewer})
