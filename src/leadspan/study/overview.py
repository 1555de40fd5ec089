"""What is in run folders, for a person at a terminal: the rows of `leadspan runs`, the facts of `show`.

Reads what training and evaluation have saved; changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import LeadspanError, RunError
from leadspan.pins import value_at
from leadspan.runs import RunFolder, read_json
from leadspan.study.sweep import is_running
from leadspan.traces.cut import Cut

State = Literal["waiting", "running", "stopped", "complete", "failed"]
MARKS = ("environment.json", "point.json")
"""A folder that holds one of them is that of a run, or of a point of a sweep."""


@dataclass(frozen=True, slots=True)
class RunOverview:
    """One run; None is what it does not have, or not yet."""

    name: str
    """Its folder, from where the runs were looked for."""
    path: str
    state: State
    """complete: trained, and evaluated where run.yaml names benchmarks; waiting: a point not yet begun."""
    kind: Literal["train", "base", "teacher"] = "train"
    """Of a sweep's points two kinds are evaluated alone: an untrained student, and a teacher."""
    step: int | None = None
    """The last that was logged."""
    lsp: float | None = None
    """Where it cuts by one: not with rollouts alone."""
    train_loss: float | None = None
    """At the end, or of the last step."""
    val_loss: float | None = None
    """The best."""
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    train_seconds: float | None = None
    train_flops: float | None = None
    peak_memory_gib: float | None = None
    error: str | None = None
    """Why it failed, or what is damaged."""


OF_MANIFEST = ("train_loss", "val_loss", "train_seconds", "train_flops", "peak_memory_gib")
OF_EVALUATION = ("accuracy", "accuracy_low", "accuracy_high")


def read_overviews(folder: Path) -> list[RunOverview]:
    """Every run in a folder, at any depth, by name.

    Raises:
        RunError: The folder is not there.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: must be a folder with runs in it. Give the folder of --output.")
    return [read_overview(path, folder) for path in _run_folders(folder)]


def _run_folders(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        if any(mark in files for mark in MARKS):
            folders.clear()  # there are no runs in a run
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def read_overview(path: Path, within: Path | None = None) -> RunOverview:
    """One run; what is damaged makes it a failed one, with the reason."""
    inside = None if within is None else path.relative_to(within)
    name = str(path) if inside is None or inside == Path() else str(inside)
    try:
        return _read_whole(path, name)
    except LeadspanError as error:
        state: State = "running" if is_running(path) else "failed"
        return RunOverview(name, str(path), state, error=" ".join(str(error).split()))


def _read_whole(path: Path, name: str) -> RunOverview:
    folder = RunFolder(path)
    config = folder.read_config() if folder.config_path.is_file() else {}
    manifest = folder.manifest if folder.is_complete else {}
    evaluation = _read(path / "evaluation" / "evaluation.json")
    failed = _read(path / "failed.json")
    kind = _read(path / "point.json").get("kind", "train")
    is_reference = kind != "train"
    benchmarks = value_at(config, "evaluation.benchmarks")
    is_trained = bool(manifest) or is_reference
    is_evaluated = bool(evaluation) or not (is_reference or benchmarks)
    has_begun = (path / "environment.json").is_file() or (path / "evaluation").is_dir()
    state: State = "complete" if is_trained and is_evaluated else "stopped"
    if is_running(path):
        state = "running"
    elif failed:
        state = "failed"
    elif not has_begun:
        state = "waiting"
    cuts = not is_reference and value_at(config, "rollout.share") != 1.0
    return RunOverview(
        name,
        str(path),
        state,
        kind,
        lsp=value_at(config, "truncation.lsp") if cuts else None,
        **{
            **_logged(folder),
            **{key: manifest[key] for key in OF_MANIFEST if key in manifest},
            **{key: evaluation[key] for key in OF_EVALUATION if key in evaluation},
        },
        error=failed.get("error") if state == "failed" else None,
    )


def _logged(folder: RunFolder) -> dict[str, Any]:
    """What metrics.jsonl says of a run that has no manifest yet."""
    steps: list[dict[str, Any]] = []
    validations: list[dict[str, Any]] = []
    for record in folder.read_metrics():
        (steps if record.get("kind") == "train" else validations).append(record)
    if not steps:
        return {}
    losses = [record["val_loss"] for record in validations]
    return {
        "step": steps[-1]["step"],
        "train_loss": steps[-1]["loss"],
        "val_loss": min(losses, default=None),
        "train_seconds": sum(record["seconds"] for record in steps),
    }


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content


@dataclass(frozen=True, slots=True)
class RunDetails:
    """Everything about one run."""

    overview: RunOverview
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_details(path: Path) -> RunDetails:
    """Read one run.

    Raises:
        RunError: The folder is that of no run, or is damaged.
    """
    if not any((path / mark).is_file() for mark in MARKS):
        raise RunError(
            f"{path}: must be the folder of a run, with environment.json in it. `leadspan runs FOLDER` "
            "lists those in a folder."
        )
    folder = RunFolder(path)
    return RunDetails(
        read_overview(path),
        folder.read_config() if folder.config_path.is_file() else {},
        folder.manifest if folder.is_complete else {},
        _read(path / "evaluation" / "evaluation.json"),
        _read(path / "environment.json"),
    )


def describe(details: RunDetails) -> list[tuple[str, str]]:
    """What a run was: labels and what stands beside them, in the order of the work."""
    overview = details.overview
    lines = [("run", overview.path), ("state", _state(details))]
    if details.config:
        config = validate(RunConfig, details.config, f"{overview.path}/run.yaml")
        lines += (
            _settings(config) if overview.kind == "train" else _reference(config, overview.kind)
        )
    lines += _outcome(details)
    lines.append(("made with", _made_with(details.environment)))
    if details.manifest:
        lines.append(("student in", str(RunFolder(Path(overview.path)).student_path)))
    lines.append(("next", _next(details)))
    return [(label, text) for label, text in lines if text]


def _state(details: RunDetails) -> str:
    overview = details.overview
    steps = "" if overview.step is None else f", step {overview.step:,}"
    return f"{overview.state}{steps}" + (f": {overview.error}" if overview.error else "")


def _reference(config: RunConfig, kind: str) -> list[tuple[str, str]]:
    model = config.teacher if kind == "teacher" and config.teacher is not None else config.student
    return [("model", f"{model.path}, evaluated as it is")]


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    lora, loss, training, rollout = (
        config.student.lora,
        config.loss,
        config.training,
        config.rollout,
    )
    teachers = ", ".join(
        teacher.path
        + (f" from cache {teacher.cache}" if teacher.cache else "")
        + (f" at {teacher.endpoint.base_url}" if teacher.endpoint else "")
        for teacher in config.all_teachers
    )
    length = {"epochs": training.epochs, "steps": training.steps}
    said = next((f"{value:g} {name}" for name, value in length.items() if value), "a budget")
    settings = [
        ("student", config.student.path + (f", LoRA of rank {lora.rank}" if lora else "")),
        ("teacher", teachers or "none"),
        ("traces", config.traces.path),
    ]
    if rollout is not None:
        settings.append(
            ("rollouts", f"{rollout.share:.0%} of each step, horizon {rollout.horizon}")
        )
    if not config.takes_prompts:
        settings.append(("trained on", str(Cut(config.truncation))))
    return [
        *settings,
        ("scored", ", ".join(config.supervision.sections)),
        (
            "loss",
            f"{1 - loss.kd_ratio:g} cross-entropy + {loss.kd_ratio:g} {loss.divergence}"
            if loss.kd_ratio
            else "cross-entropy",
        ),
        (
            "training",
            f"{said}, {training.batch_size} sequences a step, learning rate "
            f"{training.learning_rate:g}, seed {config.seed}",
        ),
    ]


def _outcome(details: RunDetails) -> list[tuple[str, str]]:
    overview, manifest = details.overview, details.manifest
    losses = [
        f"{name} {value:.4f}"
        for name, value in (("training", overview.train_loss), ("validation", overview.val_loss))
        if value is not None
    ]
    if manifest.get("best_step") is not None:
        losses[-1] += f" (step {manifest['best_step']:,})"
    used = [
        f"{manifest['num_train']:,} trained on" if "num_train" in manifest else "",
        f"{manifest['num_validation']:,} held out" if "num_validation" in manifest else "",
        *(f"{count} {reason}" for reason, count in (manifest.get("refused") or {}).items()),
    ]
    scores = [
        f"{entry['name']} {entry['accuracy']:.3f} [{entry['accuracy_low']:.3f}, "
        f"{entry['accuracy_high']:.3f}], {entry['problems']} problems, closed "
        f"{entry['closed_fraction']:.2f}"
        for entry in details.evaluation.get("benchmarks") or ()
    ]
    return [
        ("sequences", ", ".join(filter(None, used))),
        ("losses", ", ".join(losses)),
        ("cost", ", ".join(_costs(overview, manifest))),
        *(("accuracy" if place == 0 else "", score) for place, score in enumerate(scores)),
    ]


def _costs(overview: RunOverview, manifest: Mapping[str, Any]) -> Iterator[str]:
    if overview.train_seconds is not None:
        yield say_seconds(overview.train_seconds)
    if overview.train_flops is not None:
        yield f"{overview.train_flops:.3g} FLOPs"
    if overview.peak_memory_gib is not None:
        yield f"{overview.peak_memory_gib:.2f} GiB at the peak"
    if "tokens_forwarded" in manifest:
        yield f"{manifest['tokens_forwarded']:,} tokens, {manifest['tokens_scored']:,} scored"


def say_seconds(seconds: float) -> str:
    """`42 s`, `3.1 min`, `5.2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _made_with(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages") or {}
    shown = [
        f"{name} {packages[name]}"
        for name in ("leadspan", "torch", "transformers")
        if packages.get(name)
    ]
    commit = environment.get("git_commit")
    card = environment.get("gpu") or (f"{environment['machine']} CPU" if shown else "")
    return ", ".join(
        [*shown, *([f"commit {commit[:10]}"] if commit else []), *([card] if card else [])]
    )


def _next(details: RunDetails) -> str:
    path, state = details.overview.path, details.overview.state
    if state != "complete" and (Path(path) / "point.json").is_file():
        return "leadspan sweep, with the command that this is a point of"
    if state in ("stopped", "failed") and details.config:
        return f"leadspan train {path}/run.yaml --output {path}"
    if state == "complete" and details.manifest and not details.evaluation:
        return f"leadspan evaluate {path} --benchmark gsm8k"
    return ""
