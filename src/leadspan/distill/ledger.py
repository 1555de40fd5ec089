"""What a run has cost so far: tokens, FLOPs, seconds. Outlives a kill inside the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from typing import Any, NamedTuple

from leadspan.config import RunConfig
from leadspan.distill.batches import num_forwarded_tokens
from leadspan.flops import Attention, ModelShape, forward_flops, model_shape, training_flops
from leadspan.records import Example


@dataclass
class Totals:
    """What adds up over a run and outlives a kill."""

    step: int = 0
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    tokens_forwarded: int = 0
    tokens_scored: int = 0
    student_flops: int = 0
    teacher_flops: int = 0
    useful_flops: int = 0
    """Without recomputation: what MFU counts."""
    teacher_tokens_forwarded: int = 0
    tail_loss: float = 0.0
    tail_tokens: int = 0
    best_val_loss: float | None = None
    best_step: int | None = None


class StepFlops(NamedTuple):
    """FLOPs of one optimiser step over all ranks."""

    student: int
    teacher: int
    useful: int
    """Both, without recomputation."""


class FlopsMeter:
    """FLOPs of student and live teacher on some examples, from the models' configs.

    `knows_student` is False for an architecture whose FLOPs are not known; it then counts zero.
    `knows_all` says the same of the live teacher too, where there is one.
    """

    def __init__(self, config: RunConfig, student_config: Any, teacher_config: Any | None) -> None:
        self._student = _shape_or_none(student_config)
        self._teacher = _shape_or_none(teacher_config)
        self._recomputes = config.training.gradient_checkpointing
        self._lora_rank = config.student.lora.rank if config.student.lora else None
        self.attention: Attention = "full" if config.student.attention == "eager" else "causal"
        """Eager attention computes every pair of tokens, the others only those looking back."""
        self.knows_student = self._student is not None
        self.knows_all = self.knows_student and (
            teacher_config is None or self._teacher is not None
        )

    def compute(self, chosen: SequenceABC[Example]) -> StepFlops:
        """One pass over `chosen`, padding apart."""
        lengths = [num_forwarded_tokens(example) for example in chosen]
        num_scored = sum(example.num_scored_tokens for example in chosen)
        student = once = teacher = 0
        if self._student is not None:
            student, once = (
                training_flops(
                    self._student,
                    lengths,
                    num_scored,
                    gradient_checkpointing=recomputes,
                    attention=self.attention,
                    lora_rank=self._lora_rank,
                )
                for recomputes in (self._recomputes, False)
            )
        if self._teacher is not None:
            teacher = forward_flops(self._teacher, lengths, num_scored, attention=self.attention)
        return StepFlops(student, teacher, once + teacher)


def _shape_or_none(model_config: Any) -> ModelShape | None:
    """The sizes that decide FLOPs, or None for an architecture whose FLOPs are not known."""
    try:
        return None if model_config is None else model_shape(model_config)
    except ValueError:
        return None
