"""From a sweep to its points: resolve, name, deduplicate, run what is missing, keep what failed.

A sweep folder holds `sweep.yaml` and one folder a point under `points/`; a point is finished when its
own manifest or evaluation is there, whoever wrote it. Knows nothing about how points are shown.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from leadspan.config import ModelConfig, RenderConfig, RunConfig, SweepConfig
from leadspan.config_io import (
    config_hash,
    is_sweep,
    load_run_config,
    read_yaml,
    set_key,
    validate,
    whole_key,
)
from leadspan.errors import (
    ConfigError,
    DamagedError,
    FolderHeldError,
    LeadspanError,
    RunStopped,
)
from leadspan.identity import effective
from leadspan.pins import with_revisions
from leadspan.runs import RunFolder, is_held, read_json, write_json_atomic, write_text_atomic

Kind = Literal["base", "teacher", "train"]
CACHE = "teacher_cache"
"""Name of the shared cache in a sweep folder; that of a second teacher begins so too."""
COMMITS_FILE = "commits.json"
"""In a sweep folder: the commits of hub ids that name no revision."""
RUNNING_ELSEWHERE = "running elsewhere: another process is writing here"


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep."""

    name: str
    kind: Kind
    overrides: Mapping[str, Any]
    """Dotted keys and their values, what tells this point from the others."""
    config: RunConfig

    def folder(self, sweep_folder: Path) -> Path:
        """Where its run lies."""
        return sweep_folder / "points" / self.name


def load_sweep(path: Path) -> SweepConfig:
    """Read a sweep file; `base: {file: run.yaml}` is read from beside it.

    Raises:
        ConfigError: The file or one of its points is not a valid run; all problems together.
    """
    content = read_yaml(path)
    if not is_sweep(content) and content.keys() & RunConfig.model_fields.keys():
        raise ConfigError(
            f"{path}: must be a sweep.yaml, with base and grids; got a run.yaml. Give it to `leadspan "
            f"train`, or write a sweep: base: {{file: {path.name}}} and grids: [{{lsp: [0.5, 1.0]}}]."
        )
    base = content.get("base")
    if isinstance(base, dict) and set(base) == {"file"}:
        content["base"] = read_yaml(path.parent / str(base["file"]))
    return validate(SweepConfig, content, str(path))


def expand(sweep: SweepConfig, folder: Path) -> list[Point]:
    """All points, reference models first, each config once.

    Raises:
        ConfigError: A point is not a valid run; the problems of all points together.
    """
    points: dict[str, Point] = {}
    problems: list[str] = []
    cache = str(folder.resolve() / CACHE)
    base = dict(_dated(sweep, folder).base)
    if sweep.capture is not None and isinstance(base.get("teacher"), dict):
        base["teacher"] = {key: base["teacher"][key] for key in base["teacher"] if key != "cache"}
    for grid in sweep.grids:
        for values in itertools.product(*grid.values()):
            overrides = dict(zip(map(whole_key, grid), values, strict=True))
            name = name_point(overrides)
            try:
                content: dict[str, Any] = dict(base)
                for key, value in overrides.items():
                    plain = list(value) if isinstance(value, tuple) else value
                    content = set_key(content, key, plain)
                if sweep.capture is not None and _can_be_cached(content):
                    content["teacher"] = {"cache": cache, **content["teacher"]}
                config = validate(RunConfig, content, f"sweep point {name}")
            except ConfigError as error:
                problems.append(str(error))
                continue
            points.setdefault(
                config_hash(effective(config)), Point(name, "train", overrides, config)
            )
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    trained = _with_caches(list(points.values()), cache)
    return (_reference_points(trained) if sweep.reference_models else []) + trained


def _can_be_cached(content: Mapping[str, Any]) -> bool:
    """The point learns from traces alone, by a teacher that reads them as they are."""
    teacher = content.get("teacher")
    if not isinstance(teacher, dict) or content.get("rollout") is not None:
        return False
    return not any(teacher.get(key) for key in ("endpoint", "system_prompt"))


def _dated(sweep: SweepConfig, folder: Path) -> SweepConfig:
    """The sweep with one day for the prompts of all points: its own, the folder's, today's."""
    if (sweep.base.get("render") or {}).get("date"):
        return sweep
    path = folder / "sweep.yaml"
    kept = (read_yaml(path)["base"].get("render") or {}).get("date") if path.is_file() else None
    date = str(RenderConfig().dated(kept and str(kept)).date)
    return sweep.model_copy(update={"base": set_key(dict(sweep.base), "render.date", date)})


def _with_revisions(points: Sequence[Point], folder: Path) -> list[Point]:
    """The points, each hub id at one commit in all of them, whenever they joined the sweep."""
    path = folder / COMMITS_FILE
    commits = read_json(path) if path.is_file() else {}
    pinned = [
        replace(point, config=with_revisions(point.config, point.folder(folder), commits))
        for point in points
    ]
    if commits:
        write_json_atomic(path, commits)
    return pinned


def _with_caches(points: list[Point], shared: str) -> list[Point]:
    """The points, each with the cache of its own teacher: `shared` for the first, others beside it."""
    caches: dict[str, str] = {}
    placed = []
    for point in points:
        teacher = point.config.teacher
        if teacher is not None and teacher.cache == shared:
            of_teacher = {
                key: value
                for key, value in point.overrides.items()
                if key.startswith("teacher") or key == "training.bf16"
            }
            name = f"{shared}_{name_point(of_teacher)}" if of_teacher else shared
            cache = caches.setdefault(_teacher_identity(point.config), name)
            teacher = teacher.model_copy(update={"cache": cache})
            point = replace(point, config=point.config.model_copy(update={"teacher": teacher}))
        placed.append(point)
    return placed


def _teacher_identity(config: RunConfig) -> str:
    """What tells the distributions of one teacher from those of another, before anything is loaded."""
    assert config.teacher is not None
    teacher = config.teacher.model_dump(include={"path", "revision", "dtype", "quantization"})
    return json.dumps([teacher, config.training.bf16])


def _reference_points(trained: Sequence[Point]) -> list[Point]:
    """Every untrained student and every teacher of the points, once for each way it is evaluated."""
    kinds: tuple[Kind, ...] = ("base", "teacher")
    references: list[Point] = []
    for kind in kinds:
        found: dict[str, Point] = {}
        for point in trained:
            model = reference_model(kind, point.config)
            if model is None:
                continue
            config = point.config
            asked = [config.evaluation.model_dump_json(), config.render.model_dump_json()]
            key = json.dumps([model.path, model.revision, *asked])
            if key not in found:
                name = _reference_name(kind, model, {other.name for other in found.values()})
                part = "student" if kind == "base" else "teacher"
                overrides = {f"{part}.path": model.path, f"{part}.revision": model.revision}
                found[key] = Point(name, kind, overrides, config)
        references += found.values()
    return references


def reference_model(kind: Kind, config: RunConfig) -> ModelConfig | None:
    """The model that a point evaluates as it is: the teacher, or the student before training."""
    return config.teacher if kind == "teacher" else config.student


def _reference_name(kind: Kind, model: ModelConfig, taken: Collection[str]) -> str:
    """The kind for the first, whatever joins it later; then with the model's name and revision."""
    if not taken:
        return kind
    name = f"{kind}_{model.path.rstrip('/').rpartition('/')[2]}"
    if model.revision is not None:
        name += f"@{model.revision.replace('/', '.')}"
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def name_point(overrides: Mapping[str, Any]) -> str:
    """A folder name that says what is special about a point, such as `lsp-0.5_seed-1`."""
    parts = []
    for key, value in sorted(overrides.items()):
        short = key.rpartition(".")[2]
        parts.append(f"{short}-{_shown(value)}".replace("/", "."))
    return "_".join(parts) or "run"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    if isinstance(value, dict) and "path" in value:
        return str(value["path"]).rstrip("/").rpartition("/")[2]
    return str(value)


def prepare_sweep(sweep: SweepConfig, folder: Path) -> list[Point]:
    """Write `sweep.yaml` and a `point.json` for each point.

    Points of an earlier call with other grids stay.

    Raises:
        ConfigError: The folder holds a sweep over another base.
        RunError: A point's name is taken by another config.
    """
    sweep = _dated(sweep, folder)
    points = _with_revisions(expand(sweep, folder), folder)
    content = sweep.model_dump(mode="json")
    sweep_path = folder / "sweep.yaml"
    if sweep_path.is_file() and read_yaml(sweep_path).get("base") != content["base"]:
        raise ConfigError(
            f"{folder}: holds a sweep over another base config. Give another --output or delete it."
        )
    write_text_atomic(sweep_path, yaml.safe_dump(content, sort_keys=False))
    for point in points:
        _follow_cache(point, folder)
        RunFolder(point.folder(folder)).claim_config(point.config)
        write_json_atomic(
            point.folder(folder) / "point.json",
            {
                "name": point.name,
                "kind": point.kind,
                "overrides": dict(point.overrides),
                "config_hash": config_hash(point.config),
            },
        )
    return points


def _follow_cache(point: Point, folder: Path) -> None:
    """Let the run.yaml of a sweep that was moved, or begun under another path, name the cache of today."""
    path = point.folder(folder) / "run.yaml"
    cache = point.config.teacher.cache if point.config.teacher is not None else None
    if cache is None or Path(cache).parent != folder.resolve() or not path.is_file():
        return
    content = read_yaml(path)
    earlier = content["teacher"].get("cache") if isinstance(content.get("teacher"), dict) else None
    if earlier and earlier != cache and Path(earlier).name == Path(cache).name:
        moved = set_key(content, "teacher.cache", cache)
        write_text_atomic(path, yaml.safe_dump(moved, sort_keys=False))


def capture_teacher(sweep: SweepConfig, points: list[Point], folder: Path) -> None:
    """Run the teachers over whatever the unfinished points need and the shared caches lack."""
    if sweep.capture is None:
        return
    import torch

    from leadspan.teachers.capture import CaptureSettings, capture_run, without_lead_cut

    settings = CaptureSettings(mode=sweep.capture.mode, k=sweep.capture.k)
    needed: dict[str, RunConfig] = {}
    for point in points:
        if needs_capture(point, folder):
            config = without_lead_cut(point.config)
            needed.setdefault(_what_the_teacher_reads(config), config)
    for config in needed.values():
        assert config.teacher is not None
        assert config.teacher.cache is not None
        capture_run(config, Path(config.teacher.cache), settings)
    torch.cuda.empty_cache()  # what the teacher took is the points' now


def needs_capture(point: Point, folder: Path) -> bool:
    """True for an unfinished point that learns from a cache of its sweep."""
    config = point.config
    if point.kind != "train" or config.loss.kd_ratio == 0 or is_finished(point, folder):
        return False
    cache = config.teacher.cache if config.teacher is not None else None
    return cache is not None and Path(cache).parent == folder.resolve()


def _what_the_teacher_reads(config: RunConfig) -> str:
    """The teacher, and everything that decides which tokens it reads; the training's seed is not in it."""
    apart = {"num_processes", "validation_fraction"}
    if config.traces.sample is None and config.traces.sample_fraction == 1.0:
        apart.add("seed")
    return json.dumps(
        {
            "teacher": _teacher_identity(config),
            "tokenizer": [config.student.path, config.student.revision],
            "traces": config.traces.model_dump(mode="json", exclude=apart),
            "render": config.render.model_dump(mode="json"),
            "truncation": config.truncation.model_dump(mode="json"),
        },
        sort_keys=True,
    )


def capture_and_record(folder: Path) -> None:
    """Capture for the sweep of a folder, as a job of its own; where it fails, leave the reason there."""
    with _recording_failure(folder):
        sweep = load_sweep(folder / "sweep.yaml")
        capture_teacher(sweep, _with_revisions(expand(sweep, folder), folder), folder)


def is_finished(point: Point, sweep_folder: Path) -> bool:
    """True once everything the point was to leave behind is there."""
    folder = point.folder(sweep_folder)
    evaluated = (
        not point.config.evaluation.benchmarks
        or (folder / "evaluation" / "evaluation.json").is_file()
    )
    trained = point.kind != "train" or RunFolder(folder).is_complete
    return evaluated and trained


def run_point(point_folder: Path) -> None:
    """Run one point from its `point.json` and `run.yaml`, in this process."""
    from leadspan.evaluation.evaluate import evaluate
    from leadspan.study.run import is_first_rank, run

    about = read_json(point_folder / "point.json")
    kind, config = about["kind"], load_run_config(point_folder / "run.yaml")
    if about["config_hash"] != config_hash(config):
        raise DamagedError(
            f"{point_folder / 'run.yaml'}: is not the config of this point: its hash is not the one in "
            "point.json. Delete the point's folder and run the sweep again."
        )
    if kind == "train":
        run(config, point_folder)
        return
    reference = reference_model(kind, config)
    assert reference is not None
    if config.evaluation.benchmarks and is_first_rank():
        evaluate(
            reference.path,
            config.evaluation,
            point_folder / "evaluation",
            config.render,
            revision=reference.revision,
        )


def run_and_record(point_folder: Path) -> None:
    """Run one point; where it fails, not where it is stopped or held, leave the reason beside it."""
    with _recording_failure(point_folder):
        run_point(point_folder)


@contextmanager
def _recording_failure(folder: Path) -> Iterator[None]:
    (folder / "failed.json").unlink(missing_ok=True)
    try:
        yield
    except (RunStopped, FolderHeldError):
        raise
    except Exception as error:
        record_failure(folder, error)
        raise


def is_running(point_folder: Path) -> bool:
    """True while some process trains or evaluates the point."""
    return is_held(point_folder) or is_held(point_folder / "evaluation")


def record_failure(point_folder: Path, error: BaseException) -> None:
    """Leave the reason of a failed point beside it."""
    reason = str(error) if isinstance(error, LeadspanError) else f"{type(error).__name__}: {error}"
    write_json_atomic(point_folder / "failed.json", {"error": " ".join(reason.split())[:500]})


def read_failure(point_folder: Path) -> str:
    """Why a point has no result: as it was recorded; a killed one records nothing."""
    if is_running(point_folder):
        return RUNNING_ELSEWHERE
    path = point_folder / "failed.json"
    return str(read_json(path)["error"]) if path.is_file() else "ended without a word"
