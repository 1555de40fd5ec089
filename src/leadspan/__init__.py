"""leadspan: distil reasoning on truncated, section-supervised traces, and measure what the cut cost.

Importing this module imports nothing heavy; each public name is loaded when it is first used.

- Traces: `load_traces`, `render`, `truncate`, `supervise`, `Cut`
- Training and evaluation: `distill`, `evaluate`, `compare_runs`, `Grader`, `RunFolder`
- In a Hugging Face script: `lead_span`, `LeadSpanTrainer`
- Before training: `analyze`, `advise`
- For a training loop of your own: the functions of `leadspan.losses`
- Plain data: `Trace`, `Message`, `Sequence`, `Span`, `Example`
- What these return: `LoadedTraces`, `TrainedRun`, `EvaluationResult`, `BenchmarkResult`, `RunComparison`,
  `Analysis`, `Advice`
- run.yaml: `load_run_config`, `RunConfig` and its parts
- What a user can put right is a `LeadspanError`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from leadspan import losses as losses
    from leadspan.analysis.advise import Advice as Advice
    from leadspan.analysis.advise import advise as advise
    from leadspan.analysis.analyze import Analysis as Analysis
    from leadspan.analysis.analyze import analyze as analyze
    from leadspan.config import EvaluationConfig as EvaluationConfig
    from leadspan.config import LossConfig as LossConfig
    from leadspan.config import RenderConfig as RenderConfig
    from leadspan.config import RolloutConfig as RolloutConfig
    from leadspan.config import RunConfig as RunConfig
    from leadspan.config import SupervisionConfig as SupervisionConfig
    from leadspan.config import TracesConfig as TracesConfig
    from leadspan.config import TrainingConfig as TrainingConfig
    from leadspan.config import TruncationConfig as TruncationConfig
    from leadspan.config_io import load_run_config as load_run_config
    from leadspan.errors import LeadspanError as LeadspanError
    from leadspan.evaluation.compare import RunComparison as RunComparison
    from leadspan.evaluation.compare import compare_runs as compare_runs
    from leadspan.evaluation.evaluate import evaluate as evaluate
    from leadspan.evaluation.summary import BenchmarkResult as BenchmarkResult
    from leadspan.evaluation.summary import EvaluationResult as EvaluationResult
    from leadspan.grading import Grader as Grader
    from leadspan.hf.dataset import lead_span as lead_span
    from leadspan.hf.trainer import LeadSpanTrainer as LeadSpanTrainer
    from leadspan.records import Example as Example
    from leadspan.records import Message as Message
    from leadspan.records import Sequence as Sequence
    from leadspan.records import Span as Span
    from leadspan.records import Trace as Trace
    from leadspan.runs import RunFolder as RunFolder
    from leadspan.traces.cut import Cut as Cut
    from leadspan.traces.cut import supervise as supervise
    from leadspan.traces.cut import truncate as truncate
    from leadspan.traces.render import render as render
    from leadspan.traces.sources import LoadedTraces as LoadedTraces
    from leadspan.traces.sources import load_traces as load_traces
    from leadspan.training.distill import distill as distill
    from leadspan.training.run import TrainedRun as TrainedRun

_NAMES = {
    "leadspan.analysis.advise": ("Advice", "advise"),
    "leadspan.analysis.analyze": ("Analysis", "analyze"),
    "leadspan.config": (
        "EvaluationConfig",
        "LossConfig",
        "RenderConfig",
        "RolloutConfig",
        "RunConfig",
        "SupervisionConfig",
        "TracesConfig",
        "TrainingConfig",
        "TruncationConfig",
    ),
    "leadspan.config_io": ("load_run_config",),
    "leadspan.errors": ("LeadspanError",),
    "leadspan.evaluation.compare": ("RunComparison", "compare_runs"),
    "leadspan.evaluation.evaluate": ("evaluate",),
    "leadspan.evaluation.summary": ("BenchmarkResult", "EvaluationResult"),
    "leadspan.grading": ("Grader",),
    "leadspan.hf.dataset": ("lead_span",),
    "leadspan.hf.trainer": ("LeadSpanTrainer",),
    "leadspan.records": ("Example", "Message", "Sequence", "Span", "Trace"),
    "leadspan.runs": ("RunFolder",),
    "leadspan.traces.cut": ("Cut", "supervise", "truncate"),
    "leadspan.traces.render": ("render",),
    "leadspan.traces.sources": ("LoadedTraces", "load_traces"),
    "leadspan.training.distill": ("distill",),
    "leadspan.training.run": ("TrainedRun",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = ("losses",)

__all__ = ["__version__", *_HOMES, *_MODULES]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"leadspan.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'leadspan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
