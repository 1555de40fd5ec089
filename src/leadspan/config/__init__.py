"""The models of run.yaml: frozen, every key known, the docstring under a field its only help text.

Knows nothing about files, torch or tokenizers.
"""

from __future__ import annotations

from leadspan.config.cuts import (
    DERIVATION_COLUMN,
    OF_THE_TRACE,
    SupervisionConfig,
    TruncationConfig,
)
from leadspan.config.evaluation import (
    AnswerForcingConfig,
    BenchmarkConfig,
    EndpointConfig,
    EvaluationConfig,
    SamplingConfig,
)
from leadspan.config.models import PACKING, LoraConfig, ModelConfig, StudentConfig, TeacherConfig
from leadspan.config.part import Part, Share
from leadspan.config.run import RunConfig, TrackingConfig
from leadspan.config.sweep import CaptureConfig, SlurmConfig, SweepConfig
from leadspan.config.traces import PLAIN, MarkersConfig, OverlapConfig, RenderConfig, TracesConfig
from leadspan.config.training import BudgetConfig, Divergence, LossConfig, TrainingConfig

__all__ = [
    "DERIVATION_COLUMN",
    "OF_THE_TRACE",
    "PACKING",
    "PLAIN",
    "AnswerForcingConfig",
    "BenchmarkConfig",
    "BudgetConfig",
    "CaptureConfig",
    "Divergence",
    "EndpointConfig",
    "EvaluationConfig",
    "LoraConfig",
    "LossConfig",
    "MarkersConfig",
    "ModelConfig",
    "OverlapConfig",
    "Part",
    "RenderConfig",
    "RunConfig",
    "SamplingConfig",
    "Share",
    "SlurmConfig",
    "StudentConfig",
    "SupervisionConfig",
    "SweepConfig",
    "TeacherConfig",
    "TracesConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TruncationConfig",
]
