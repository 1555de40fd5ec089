"""A whole run.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from leadspan.config.cuts import SupervisionConfig, TruncationConfig
from leadspan.config.evaluation import EvaluationConfig
from leadspan.config.models import PACKING, StudentConfig, TeacherConfig
from leadspan.config.part import Part
from leadspan.config.traces import RenderConfig, TracesConfig
from leadspan.config.training import LossConfig, TrainingConfig


class TrackingConfig(Part):
    """An experiment tracker beside metrics.jsonl (extra `track`)."""

    tracker: Literal["trackio", "wandb", "tensorboard"] | None = None
    """Which one; keys and addresses come from its own environment variables."""
    project: str = "leadspan"
    """Project in trackio and wandb."""


class RunConfig(Part):
    """One run: train a student on traces, then evaluate it."""

    teacher: TeacherConfig | None = None
    """Needed unless loss.kd_ratio is 0."""
    student: StudentConfig
    """The model to train."""
    traces: TracesConfig
    """The data."""
    render: RenderConfig = RenderConfig()
    """Text to tokens."""
    truncation: TruncationConfig = TruncationConfig()
    """Which tokens go through the model."""
    supervision: SupervisionConfig = SupervisionConfig()
    """Which tokens are scored."""
    loss: LossConfig = LossConfig()
    """The objective."""
    training: TrainingConfig
    """The optimisation."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The test."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the metrics go besides."""
    seed: int = 0
    """Seeds data order and every random choice of training."""

    @model_validator(mode="after")
    def _teacher(self) -> RunConfig:
        if self.training.budget is not None and self.truncation.lsp_end is not None:
            raise ValueError("truncation.lsp_end needs training.steps or epochs; got a budget")
        if self.loss.kd_ratio > 0 and self.teacher is None:
            raise ValueError(
                "teacher is required when loss.kd_ratio > 0; set loss.kd_ratio to 0 for SFT"
            )
        live = self.teacher is not None and self.teacher.cache is None and self.loss.kd_ratio > 0
        if live and self.student.attention in PACKING:
            assert self.teacher is not None
            if self.teacher.attention not in PACKING:
                raise ValueError(
                    f"teacher.attention must be {' or '.join(PACKING)} beside a student whose "
                    f"{self.student.attention} packs sequences; got {self.teacher.attention!r}"
                )
        return self
