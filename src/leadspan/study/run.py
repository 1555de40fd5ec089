"""One run as run.yaml says it: derivations where the cut asks for them, training, evaluation, its scores.

Knows nothing about sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadspan.analysis.derivation import find_derivation
from leadspan.config import (
    DERIVATION_COLUMN,
    EvaluationConfig,
    RenderConfig,
    RunConfig,
    TrackingConfig,
    TruncationConfig,
)
from leadspan.config_io import validate
from leadspan.errors import ConfigError, DataError
from leadspan.evaluation.evaluate import evaluate
from leadspan.evaluation.summary import EvaluationResult
from leadspan.pins import settled
from leadspan.progress import LOGGER, warn
from leadspan.records import Trace
from leadspan.runs import RunFolder
from leadspan.study.report.card import write_model_card
from leadspan.traces.dataset import Annotate
from leadspan.traces.doctor import examine
from leadspan.training.run import TrainedRun, train
from leadspan.training.tracking import open_tracker


def annotate_derivation(trace: Trace) -> Mapping[str, Any]:
    """Where the trace may be cut, for `truncation.policy: derivation`.

    Nothing where no derivation was found in the CoT, or where the gold stands in the prompt, so that
    a mention proves nothing: those traces are cut by `truncation.lsp`.
    """
    derivation = find_derivation(trace)
    if derivation.status != "derived" or derivation.end is None:
        return {}
    return {DERIVATION_COLUMN: derivation.end}


def annotator_of(truncation: TruncationConfig) -> Annotate | None:
    """What finds each trace's own cut point, where the cut asks for one."""
    return annotate_derivation if truncation.policy == "derivation" else None


def check(config: RunConfig, output: Path) -> RunConfig:
    """Let the doctor look at a run before a model is loaded, and say what it warns of.

    Returns:
        The config with its day and its commits, as it was looked at.

    Raises:
        DataError: It found what would go wrong; a line each.
    """
    config = settled(config, output)
    findings = examine(config, output, annotator_of(config.truncation))
    for finding in findings:
        if finding.level == "warning":
            LOGGER.warning(str(finding))
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise DataError("\n".join(errors))
    return config


def run(config: RunConfig, output: Path) -> tuple[TrainedRun, EvaluationResult | None]:
    """Train as the config says, then evaluate where it names benchmarks; whole parts are kept.

    Under torchrun all ranks train; the first evaluates alone.
    """
    trained = train(config, output, annotator_of(config.truncation))
    if not is_first_rank():
        return trained, None
    config = settled(config, output)  # as the training has kept it
    if not config.evaluation.benchmarks:
        write_model_card(output)
        return trained, None
    return trained, evaluate_run(output, config.evaluation, config.render)


def evaluate_run(
    run_folder: Path, settings: EvaluationConfig, render: RenderConfig
) -> EvaluationResult:
    """Evaluate a run's student into the run's folder, and put the scores where they are looked for."""
    student = RunFolder(run_folder).student_path
    result = evaluate(student, settings, run_folder / "evaluation", render)
    publish_scores(run_folder, result)
    return result


def publish_scores(run_folder: Path, result: EvaluationResult) -> None:
    """Write a complete run's scores into its model card and its tracker; others have neither."""
    folder = RunFolder(run_folder)
    if not folder.is_complete:
        return
    write_model_card(run_folder)
    config = folder.read_config()
    tracking = validate(TrackingConfig, config.get("tracking") or {}, f"{run_folder}: tracking")
    scores = {"accuracy": result.accuracy} | {
        f"accuracy/{benchmark.name}": benchmark.accuracy for benchmark in result.benchmarks
    }
    numbers = {f"evaluation/{name}": value for name, value in scores.items()}
    try:
        with open_tracker(tracking.tracker, run_folder, tracking.project, config) as log:
            log(numbers, folder.manifest["steps"])
    except ConfigError as error:
        warn(f"{run_folder}: the scores are not in the tracker: {error}")


def is_first_rank() -> bool:
    """True in the process that speaks and writes, torchrun or not."""
    return os.environ.get("RANK", "0") == "0"
