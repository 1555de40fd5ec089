"""The module that is trained: student and loss in one, so that one forward call gives the loss.

Knows nothing about optimisers, files or where the teacher's rows come from.

Shape suffixes: B rows, T tokens, N scored tokens, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch

from leadspan.config import LossConfig
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import Teacher, head_of
from leadspan.models import causal_lm_of, compute_hidden
from leadspan.traces.batches import Batch


class Objective(torch.nn.Module):
    """Summed loss of the scored tokens of a batch, from hidden states of those tokens alone."""

    def __init__(self, student: Any, loss: LossConfig, vocab_size: int) -> None:
        super().__init__()
        self.student = student
        self._loss = loss
        self._rollout_loss = loss.model_copy(update={"kd_ratio": 1.0})
        self.vocab_size = vocab_size

    @property
    def causal_lm(self) -> Any:
        """The student without adapters around it: what generates."""
        return causal_lm_of(self.student)

    def forward(
        self,
        batch: Batch,
        teacher: Teacher | None,
        is_rollout: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Score a batch.

        Args:
            batch: What is forwarded and which rows are scored.
            teacher: Rows for the scored tokens; None where `kd_ratio` is 0.
            is_rollout: The student wrote the labels, so that only the teacher's term counts.

        Returns:
            The sum over scored tokens (differentiable); per token, detached, float32, in nats,
            cross-entropy [N] and divergence [N]; and with a sparse teacher the mass that teacher and
            student have on the kept ids, [N, 2].
        """
        hidden_BTH = compute_hidden(self.student, batch.input_ids_BT, batch.positions_BT)
        result = fused_loss(
            hidden_BTH.flatten(0, 1)[batch.rows_N],
            head_of(self.causal_lm),
            batch.labels_N,
            teacher,
            self._rollout_loss if is_rollout else self._loss,
            self.vocab_size,
        )
        kept_N2 = None
        if result.teacher_kept_N is not None and result.student_kept_N is not None:
            kept_N2 = torch.stack([result.teacher_kept_N, result.student_kept_N], dim=1)
        return result.total, result.ce_N, result.kd_N, kept_N2
