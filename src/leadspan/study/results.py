"""A finished (or half-finished) sweep folder, or one run, as typed rows, and those rows as results.csv.

Reads what training and evaluation left behind; knows nothing about statistics, figures or pages. A
file that is missing or damaged makes its run a failed one with a reason, never an error of the
whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from leadspan.config_io import read_yaml
from leadspan.errors import DamagedError, LeadspanError, RunError
from leadspan.evaluation.samples import EvaluationFolder, iter_samples
from leadspan.runs import DECILES, RunFolder, read_json

Kind = Literal["base", "teacher", "train"]
Status = Literal["done", "failed"]
Losses = tuple[tuple[int, float], ...]
KINDS: tuple[Kind, ...] = ("base", "teacher", "train")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of results.csv: its fields are the columns, in order; None is an empty cell."""

    run: str
    kind: Kind
    status: Status
    world_seed: str | int | float | None = None
    lsp: float | None = None
    sections: str | None = None
    """Joined by +."""
    keep: str | None = None
    seed: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    closed_fraction: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    train_seconds: float | None = None
    peak_memory_gib: float | None = None
    peak_step_memory_gib: float | None = None
    train_flops: float | None = None
    tokens_forwarded: int | None = None
    tokens_scored: int | None = None


COLUMNS = tuple(column.name for column in fields(Row))
OF_MANIFEST = COLUMNS[COLUMNS.index("train_loss") :]
MEANS_BY_DECILE = ("kd_by_decile", "entropy_by_decile")
"""Of a step of an on-policy run, in metrics.jsonl."""
OF_EVALUATION = ("accuracy", "accuracy_low", "accuracy_high", "closed_fraction")


@dataclass(frozen=True, slots=True)
class Run:
    """One point of the sweep: its row, and what the report shows beyond it."""

    row: Row
    path: Path
    error: str | None = None
    """Why it failed, in one line."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved run.yaml."""
    config_hash: str = ""
    by_benchmark: Mapping[str, float] = field(default_factory=dict)
    """Accuracy on each benchmark."""
    by_problem: Mapping[str, float] = field(default_factory=dict)
    """Share of correct answers for each problem, `benchmark/problem`, forced answers left out; empty
    where not recorded."""

    rollout_steps: tuple[Mapping[str, Any], ...] = ()
    """Of an on-policy run, in order: for each step its number, `step`, and what metrics.jsonl has of
    `kd_by_decile` and `entropy_by_decile`."""
    losses: Losses = ()
    """Step and training loss, in order."""
    val_losses: Losses = ()
    """Step and validation loss, in order."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What the run's environment.json says of the machine."""

    @property
    def is_done(self) -> bool:
        """True where there is a result."""
        return self.row.status == "done"


@dataclass(frozen=True, slots=True)
class Results:
    """All of one sweep."""

    path: Path
    tags: Mapping[str, str | int | float]
    runs: tuple[Run, ...]
    unfinished: tuple[str, ...] = ()
    """Points that neither finished nor failed yet."""
    datasets: tuple[Mapping[str, Any], ...] = ()
    """What the analysis found out about the traces, a mapping a dataset."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What the runs were predicted to cost, as `leadspan plan --json` prints it; may be empty."""
    is_sweep: bool = True
    """False where it is one run alone, so that nothing is compared."""


def read_results(sweep: Path) -> Results:
    """Read every point of a sweep folder, or one run from its own folder.

    Raises:
        RunError: The folder is neither.
    """
    if (sweep / "run.yaml").is_file():
        run = read_run(sweep, {}, is_alone=True)
        unfinished_here = () if run else (sweep.resolve().name,)
        return Results(sweep, {}, (run,) if run else (), unfinished_here, is_sweep=False)
    if not (sweep / "points").is_dir():
        raise RunError(
            f"{sweep}: must be the folder of a sweep, with points/ in it, or of a run, with run.yaml in it. "
            "Give the --output of `leadspan sweep`, `leadspan demo` or `leadspan train`."
        )
    tags = _read_tags(sweep / "sweep.yaml")
    runs, unfinished = [], []
    for point in sorted((sweep / "points").iterdir(), key=lambda path: path.name):
        if not point.is_dir() or point.name.startswith("."):
            continue
        run = read_run(point, tags)
        if run is None:
            unfinished.append(point.name)
        else:
            runs.append(run)
    runs.sort(key=_order)
    analysis = _mapping(sweep / "analysis.json")
    datasets = tuple(entry for entry in analysis.get("datasets", []) if isinstance(entry, dict))
    return Results(
        sweep, tags, tuple(runs), tuple(unfinished), datasets, analysis.get("plan") or {}
    )


def read_run(point: Path, tags: Mapping[str, Any], is_alone: bool = False) -> Run | None:
    """Read one point, or return None where it has neither finished nor failed.

    Args:
        point: The run's folder.
        tags: Of the sweep.
        is_alone: The run is no point of a sweep: nothing waits for its evaluation.
    """
    try:
        return _read_whole_run(point, tags, is_alone)
    except LeadspanError as error:
        row = Row(point.resolve().name, _kind_of(point), "failed", tags.get("world_seed"))
        return Run(row, point, error=" ".join(str(error).split()))


def _read_whole_run(point: Path, tags: Mapping[str, Any], is_alone: bool) -> Run | None:
    about = _mapping(point / "point.json", required=not is_alone)
    failed = _mapping(point / "failed.json")
    manifest = _mapping(point / "manifest.json")
    evaluation = _mapping(point / "evaluation" / "evaluation.json")
    if evaluation:
        EvaluationFolder(point / "evaluation").read_summary()
    config = RunFolder(point).read_config() if (point / "run.yaml").is_file() else {}
    wants_evaluation = bool(_at(config, "evaluation", "benchmarks")) and not is_alone
    kind = about.get("kind", "train")
    if kind not in KINDS:
        raise RunError(f"{point}: kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    is_trained = kind != "train" or bool(manifest)
    is_evaluated = bool(evaluation) or (kind == "train" and not wants_evaluation)
    if not failed and not (is_trained and is_evaluated):
        return None
    cells: dict[str, Any] = {name: _number(manifest.get(name)) for name in OF_MANIFEST}
    cells |= _evaluation_cells(evaluation)
    if kind == "train":
        cells |= _setting_cells(config)
    row = Row(
        about.get("name", point.resolve().name),
        kind,
        "failed" if failed else "done",
        tags.get("world_seed"),
        **cells,
    )
    metrics = RunFolder(point).read_metrics() if kind == "train" else []
    return Run(
        row,
        point,
        str(failed.get("error", "no reason was recorded")) if failed else None,
        about.get("overrides", {}),
        config,
        about.get("config_hash", ""),
        _by_benchmark(evaluation),
        _read_by_problem(point / "evaluation" / "samples.jsonl"),
        _rollout_steps(point, metrics) if config.get("rollout") else (),
        _losses(metrics, "loss"),
        _losses(metrics, "val_loss"),
        _mapping(point / "environment.json"),
    )


def _losses(metrics: Sequence[Mapping[str, Any]], key: str) -> Losses:
    """Of the lines that have it; a loss that is no finite number is not drawn."""
    found = [(_number(line.get("step")), _number(line.get(key))) for line in metrics]
    return tuple((step, loss) for step, loss in found if step is not None and loss is not None)


def _rollout_steps(
    point: Path, metrics: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    steps = []
    for record in metrics:
        means = {name: record[name] for name in MEANS_BY_DECILE if name in record}
        for name, values in means.items():
            if not _are_deciles(values) or _number(record.get("step")) is None:
                raise DamagedError(
                    f"{point / 'metrics.jsonl'}: {name} must be {DECILES} numbers of a step; got {values!r} "
                    f"of step {record.get('step')!r}. Delete the file: the report does without it."
                )
        if means:
            steps.append({"step": record["step"], **means})
    return tuple(steps)


def _are_deciles(values: Any) -> bool:
    is_list = isinstance(values, list) and len(values) == DECILES
    return is_list and all(_number(value) is not None for value in values)


def _setting_cells(config: Mapping[str, Any]) -> dict[str, Any]:
    sections = _at(config, "supervision", "sections")
    has_traces = _at(config, "rollout", "share") != 1.0
    return {
        "lsp": _number(_at(config, "truncation", "lsp")) if has_traces else None,
        "sections": "+".join(sections) if sections else None,
        "keep": _at(config, "truncation", "keep"),
        "seed": config.get("seed"),
    }


def _evaluation_cells(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _number(evaluation.get(name)) for name in OF_EVALUATION}


def _by_benchmark(evaluation: Mapping[str, Any]) -> dict[str, float]:
    entries = [entry for entry in evaluation.get("benchmarks") or () if isinstance(entry, dict)]
    found = {str(entry.get("name")): _number(entry.get("accuracy")) for entry in entries}
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def outcome_of(sample: Mapping[str, Any]) -> str:
    """correct, wrong, unparsed, timeout, or ungraded."""
    return str(sample.get("outcome") or "ungraded")


def _read_by_problem(path: Path) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for sample in iter_samples(path):
        if sample.get("forced"):
            continue
        key = f"{sample.get('benchmark', '')}/{sample.get('problem_id', '')}"
        scores.setdefault(key, []).append(float(outcome_of(sample) == "correct"))
    return {key: sum(found) / len(found) for key, found in scores.items()}


def write_csv(results: Results) -> str:
    """The text of results.csv: a line a run, cells that do not apply left empty."""
    rows = [asdict(run.row) for run in results.runs]
    # As objects: a column of whole numbers with an empty cell would become one of floats.
    text: str = pd.DataFrame(rows, columns=COLUMNS, dtype=object).to_csv(
        index=False, lineterminator="\n"
    )
    return text


def _read_tags(path: Path) -> dict[str, str | int | float]:
    content = read_yaml(path) if path.is_file() else {}
    tags = content.get("tags") or {}
    return dict(tags) if isinstance(tags, dict) else {}


def _mapping(path: Path, required: bool = False) -> dict[str, Any]:
    """A JSON object, empty where the file is missing and need not be there."""
    if not path.is_file() and not required:
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise RunError(f"{path}: must hold a JSON object; got {type(content).__name__}.")
    return content


def _kind_of(point: Path) -> Kind:
    """The kind of a point that cannot be read; `base` and `base_Qwen3-4B` are reference models."""
    return next((kind for kind in KINDS if point.name.partition("_")[0] == kind), "train")


def _order(run: Run) -> tuple[Any, ...]:
    row = run.row
    return (KINDS.index(row.kind), row.sections or "", row.keep or "", row.lsp or 0, row.run)


def _at(content: Mapping[str, Any], *names: str) -> Any:
    found: Any = content
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(value: Any) -> Any:
    """`value` where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
