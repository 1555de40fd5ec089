"""What a sweep's report says beside its runs: where its traces derive their answers, the advice, the plan.

Joins the analysis of traces with a sweep folder. Knows nothing about training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from leadspan.analysis.advise import advise
from leadspan.analysis.analyze import STATUSES, analyze, summarise
from leadspan.analysis.cost import fit_speed, measurement_of
from leadspan.analysis.plan import plan_run
from leadspan.config import RenderConfig, RunConfig, TracesConfig
from leadspan.errors import LeadspanError
from leadspan.models import load_tokenizer
from leadspan.progress import say
from leadspan.runs import RunFolder, write_json_atomic
from leadspan.study.cut_points import annotator_of
from leadspan.study.planning import settings_of
from leadspan.study.sweep import Point, is_finished

LIMIT = 500
"""Usable traces of a data set that are read, its first; a share among so many is within 4.5 points."""
COUNTS = ("traces", *STATUSES)
SUFFIXES = (".gz", ".zst", ".jsonl", ".json", ".parquet", ".csv")


def datasets_of(points: Sequence[Point]) -> dict[str, TracesConfig]:
    """What a sweep trains on, by short names that tell the data sets apart."""
    found = {point.config.traces.model_dump_json(): point.config.traces for point in points}
    names: dict[str, TracesConfig] = {}
    for traces in found.values():
        name = _short_name(traces.path)
        same = sum(_short_name(other.path) == name for other in found.values()) > 1
        if same:
            changed = traces.model_dump(mode="json", exclude_defaults=True)
            name = ", ".join(f"{key} {value}" for key, value in changed.items())
        names[name] = traces
    return names


def _short_name(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name if name.strip("*") else path


def write_analysis(
    sweep_folder: Path, points: Sequence[Point], datasets: Mapping[str, TracesConfig]
) -> dict[str, list[str]]:
    """Analyse data sets, plan a sweep's runs, and write `analysis.json` for the report.

    A data set that cannot be read, and a plan of what has no known cost, is left out, which is said:
    the runs stand without it.

    Args:
        sweep_folder: The sweep's folder.
        points: Its points, run or not.
        datasets: Name in the report -> traces; the first `LIMIT` usable ones of each are read.

    Returns:
        The advice by data set: its reasons, then its order.
    """
    trained = [point for point in points if point.kind == "train"]
    entries: list[dict[str, Any]] = []
    content: dict[str, Any] = {"datasets": entries}
    run = trained[0].config
    with _going_on(f"{sweep_folder}: not analysed"):
        tokenizer = _tokenizer_of(run)
        for name, traces in datasets.items():
            with _going_on(f"{sweep_folder}: {name} is not analysed"):
                entries.append({"name": name, **_analyse(traces, tokenizer, run.render)})
    with _going_on(f"{sweep_folder}: no plan"):
        content["plan"] = _plan(sweep_folder, trained)
    write_json_atomic(sweep_folder / "analysis.json", content)
    advices = {entry["name"]: entry["advice"] for entry in entries}
    return {name: [*advice["reasons"], advice["order"]] for name, advice in advices.items()}


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    try:
        yield
    except LeadspanError as error:
        say(f"warning: {what}: {error}")


def _analyse(traces: TracesConfig, tokenizer: Any, render: RenderConfig) -> dict[str, Any]:
    analysis = analyze(traces, tokenizer, render, LIMIT)
    summary = summarise(analysis)
    return {
        "fractions": [r.fraction for r in analysis.derived if r.fraction is not None],
        "survival": summary["survival"],
        "survival_interval": summary["survival_interval"],
        "counts": {key: summary[key] for key in COUNTS},
        "advice": advise(analysis).to_json(),
    }


def _plan(sweep_folder: Path, trained: Sequence[Point]) -> dict[str, Any]:
    """What `leadspan plan` says of the setting with the most cuts, with the speed of its own runs.

    The shortest and the longest that are finished calibrate it, so that what lies between is foretold.
    """
    members = max(settings_of(trained), key=lambda group: len(_by_lsp(group)))
    finished = _by_lsp([point for point in members if is_finished(point, sweep_folder)])
    chosen = [finished[lsp] for lsp in sorted({min(finished), max(finished)})] if finished else []
    manifests = [RunFolder(point.folder(sweep_folder)).manifest for point in chosen]
    speed, device, num_ranks = None, "cuda", 1
    if manifests:
        num_ranks = manifests[0].get("num_ranks", 1)
        device = "cpu" if manifests[0]["device"] == "cpu" else "cuda"
        if all(manifest["train_flops"] for manifest in manifests):
            source = "this sweep's runs " + " and ".join(point.name for point in chosen)
            speed = replace(fit_speed([measurement_of(each) for each in manifests]), source=source)
    run = members[0].config
    return plan_run(
        run,
        _tokenizer_of(run),
        speed,
        device,
        num_ranks,
        lsps=sorted({*_by_lsp(members), 1.0}),
        annotate=annotator_of(run.truncation),
        limit=LIMIT,
    ).to_json()


def _by_lsp(points: Sequence[Point]) -> dict[float, Point]:
    """The first point of each lsp."""
    return {point.config.truncation.lsp: point for point in reversed(points)}


def _tokenizer_of(run: RunConfig) -> Any:
    return load_tokenizer(run.student.path, run.student.revision, run.render.chat_template)
