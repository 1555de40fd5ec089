"""What a sweep's report says beside its runs: where its traces derive their answers, the advice, the plan.

Trains nothing and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leadspan.analysis.advise import advise
from leadspan.analysis.analyze import STATUSES, analyze, summarise
from leadspan.analysis.plan import Plan, plan_run, planned_lsps
from leadspan.analysis.speed import fit_speed, measurement_of
from leadspan.config import RenderConfig, RunConfig, TracesConfig
from leadspan.config_io import config_hash
from leadspan.errors import LeadspanError
from leadspan.models import load_tokenizer
from leadspan.progress import warn
from leadspan.runs import RunFolder, write_json_atomic
from leadspan.study.run import annotator_of
from leadspan.study.sweep import Point, is_finished, name_point

OF_A_RUN = ("truncation.lsp", "seed")
"""Keys that tell the runs of one setting apart."""


@dataclass(frozen=True, slots=True)
class PlannedSetting:
    """One setting of a sweep: what its runs share, lsp and seed apart."""

    name: str
    plan: Plan
    lsps: tuple[float, ...]
    """Of its runs, one entry a run."""


def settings_of(points: Sequence[Point]) -> list[list[Point]]:
    """Training points that share everything but lsp and seed, together."""
    settings: dict[str, list[Point]] = {}
    for point in points:
        if point.kind == "train":
            whole = point.config.truncation.model_copy(update={"lsp": 1.0})
            same = point.config.model_copy(update={"truncation": whole, "seed": 0})
            settings.setdefault(config_hash(same), []).append(point)
    return list(settings.values())


def plan_sweep(
    points: Sequence[Point], plan_one: Callable[[RunConfig, Sequence[float]], Plan]
) -> list[PlannedSetting]:
    """Plan each setting of a sweep once, whatever its lsps and seeds.

    Args:
        points: From `expand`.
        plan_one: Plans a run at some lsps, the last of which is 1.0.
    """
    planned = []
    for members in settings_of(points):
        lsps = tuple(point.config.truncation.lsp for point in members)
        shared = {k: v for k, v in members[0].overrides.items() if k not in OF_A_RUN}
        run = members[0].config
        plan = plan_one(run, sorted({*planned_lsps(run), *lsps}))
        planned.append(PlannedSetting(name_point(shared), plan, lsps))
    return planned


def sum_up(settings: Sequence[PlannedSetting], num_ranks: int = 1) -> dict[str, Any]:
    """Plain data: every setting's plan, and the cost of all runs together, captures apart.

    `seconds` is the clock's, one run after the other; a device hour is an hour of one device.
    """
    content, num_runs, flops = [], 0, 0
    seconds: float | None = 0.0
    for setting in settings:
        by_lsp = {point.lsp: point for point in setting.plan.points}
        runs = [by_lsp[lsp] for lsp in setting.lsps]
        num_runs += len(runs)
        flops += sum(run.flops for run in runs)
        for run in runs:
            seconds = None if seconds is None or run.seconds is None else seconds + run.seconds
        content.append({"name": setting.name, "runs": len(runs), **setting.plan.to_json()})
    return {
        "settings": content,
        "runs": num_runs,
        "flops": flops,
        "seconds": seconds,
        "device_hours": None if seconds is None else seconds * num_ranks / 3600,
    }


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
        warn(f"{what}: {error}")


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
    return load_tokenizer(run.student, run.render)
