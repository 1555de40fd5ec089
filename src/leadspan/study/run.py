"""One run as run.yaml says it: derivations found where the cut asks for them, train, evaluate.

Joins what rooms of the floor below must not know of one another. Knows nothing about sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadspan.analysis.derivation import find_derivation
from leadspan.config import DERIVATION_COLUMN, RunConfig
from leadspan.distill.run import TrainedRun, train
from leadspan.evaluation.evaluate import evaluate
from leadspan.evaluation.summary import EvaluationResult
from leadspan.records import Trace


def run(config: RunConfig, output: Path) -> tuple[TrainedRun, EvaluationResult | None]:
    """Train as the config says, then evaluate where it names benchmarks; whole parts are kept."""
    annotate = annotate_derivation if config.truncation.policy == "derivation" else None
    trained = train(config, output, annotate)
    if not config.evaluation.benchmarks:
        return trained, None
    result = evaluate(trained.student_path, config.evaluation, output / "evaluation", config.render)
    return trained, result


def annotate_derivation(trace: Trace) -> Mapping[str, Any]:
    """Where the trace may be cut, for `truncation.policy: derivation`.

    Nothing where no derivation was found, or where the gold stands in the prompt, so that a mention
    proves nothing: those traces are cut by `truncation.lsp`.
    """
    derivation = find_derivation(trace)
    return {DERIVATION_COLUMN: derivation.end} if derivation.status == "derived" else {}
