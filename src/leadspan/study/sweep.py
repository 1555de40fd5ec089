"""From a sweep to its points: resolve, name, deduplicate, run what is missing, keep what failed.

A sweep folder holds `sweep.yaml` and one folder a point under `points/`; a point is finished when its
own manifest or evaluation is there, whoever wrote it. Knows nothing about how points are shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from leadspan.config import (
    EvaluationConfig,
    LossConfig,
    RunConfig,
    SupervisionConfig,
    SweepConfig,
    TrainingConfig,
)
from leadspan.config_file import (
    config_hash,
    load_run_config,
    read_yaml,
    set_key,
    validate,
)
from leadspan.errors import ConfigError, LeadspanError, RunStopped
from leadspan.identity import effective
from leadspan.runs import RunFolder, read_json, write_json_atomic, write_text_atomic

SHORT_KEYS = {
    "lsp": "truncation.lsp",
    "keep": "truncation.keep",
    "sections": "supervision.sections",
    "kd_ratio": "loss.kd_ratio",
}
Kind = Literal["base", "teacher", "train"]
CACHE = "teacher_cache"
"""Name of the shared cache in a sweep folder."""


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
    base = dict(sweep.base)
    if sweep.capture is not None:
        base = set_key(base, "teacher.cache", str(folder / CACHE))
    for grid in sweep.grids:
        for values in itertools.product(*grid.values()):
            overrides = {
                SHORT_KEYS.get(key, key): value for key, value in zip(grid, values, strict=True)
            }
            content: dict[str, Any] = dict(base)
            for key, value in overrides.items():
                content = set_key(content, key, list(value) if isinstance(value, tuple) else value)
            name = name_point(overrides)
            try:
                config = validate(RunConfig, content, f"sweep point {name}")
            except ConfigError as error:
                problems.append(str(error))
                continue
            points.setdefault(
                config_hash(effective(config)), Point(name, "train", overrides, config)
            )
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    trained = list(points.values())
    return (_reference_points(trained[0].config) if sweep.reference_models else []) + trained


def _reference_points(config: RunConfig) -> list[Point]:
    names: list[Kind] = ["base", "teacher"] if config.teacher is not None else ["base"]
    return [Point(name, name, {}, config) for name in names]


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
    points = expand(sweep, folder)
    content = sweep.model_dump(mode="json")
    sweep_path = folder / "sweep.yaml"
    if sweep_path.is_file() and read_yaml(sweep_path)["base"] != content["base"]:
        raise ConfigError(
            f"{folder}: holds a sweep over another base config. Give another --output or delete it."
        )
    write_text_atomic(sweep_path, yaml.safe_dump(content, sort_keys=False))
    for point in points:
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


def capture_teacher(sweep: SweepConfig, points: list[Point], folder: Path) -> None:
    """Run the teacher over whatever the unfinished points need and the shared cache lacks."""
    from leadspan.distill.capture_run import CaptureSettings, capture_run, without_lead_cut

    if sweep.capture is None:
        return
    settings = CaptureSettings(mode=sweep.capture.mode, k=sweep.capture.k)
    needed: dict[str, RunConfig] = {}
    for point in points:
        if point.kind == "train" and not is_finished(point, folder):
            config = without_lead_cut(point.config)
            needed.setdefault(config_hash(_what_the_teacher_reads(config)), config)
    for config in needed.values():
        capture_run(config, folder / CACHE, settings)


def _what_the_teacher_reads(config: RunConfig) -> RunConfig:
    """The config with everything reset that does not change which sequences are captured."""
    neutral: dict[str, Any] = {
        "supervision": SupervisionConfig(),
        "loss": LossConfig(),
        "training": TrainingConfig(steps=1),
        "evaluation": EvaluationConfig(),
    }
    if config.traces.sample is None:
        neutral["seed"] = 0
    return config.model_copy(update=neutral)


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

    kind = read_json(point_folder / "point.json")["kind"]
    config = load_run_config(point_folder / "run.yaml")
    if kind == "train":
        run(config, point_folder)
        return
    reference = config.teacher if kind == "teacher" else config.student
    assert reference is not None
    if config.evaluation.benchmarks and is_first_rank():
        evaluate(reference.path, config.evaluation, point_folder / "evaluation", config.render)


def run_and_record(point_folder: Path) -> None:
    """Run one point; where it fails, not where it is stopped, leave the reason beside it."""
    (point_folder / "failed.json").unlink(missing_ok=True)
    try:
        run_point(point_folder)
    except RunStopped:
        raise
    except Exception as error:
        record_failure(point_folder, error)
        raise


def record_failure(point_folder: Path, error: BaseException) -> None:
    """Leave the reason of a failed point beside it."""
    reason = str(error) if isinstance(error, LeadspanError) else f"{type(error).__name__}: {error}"
    write_json_atomic(point_folder / "failed.json", {"error": " ".join(reason.split())[:500]})


def read_failure(point_folder: Path) -> str:
    """Why a point failed, as it was recorded; a killed one records nothing."""
    path = point_folder / "failed.json"
    return str(read_json(path)["error"]) if path.is_file() else "ended without a word"
