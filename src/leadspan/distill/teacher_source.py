"""Where the teacher's distributions come from: the live model, or a cache written once.

Both give rows for the scored positions of a batch. Knows nothing about the student.

Shape suffixes: B rows of the batch, T tokens, N scored tokens, H the teacher's hidden size.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from leadspan.config import TeacherConfig
from leadspan.distill.batches import Batch
from leadspan.distill.heads import check_head, head_of
from leadspan.distill.precision import bf16_products
from leadspan.distill.teachers import DenseTeacher, SparseTeacher
from leadspan.models import (
    check_head_width,
    check_same_vocabulary,
    compute_hidden,
    load_causal_lm,
    load_tokenizer,
)


class TeacherSource(Protocol):
    """What the training loop asks of a teacher."""

    model_config: Any
    """The config of the model that is run, for its FLOPs; None where nothing is run."""

    def rows(self, batch: Batch) -> DenseTeacher | SparseTeacher:
        """The teacher's distributions for `batch.labels_N`, in that order."""
        ...


class LiveTeacher:
    """The teacher model itself; only hidden states of scored positions are kept."""

    def __init__(self, model: Any, bf16: bool) -> None:
        self.model_config = model.config
        self._model = model
        self._bf16 = bf16

    def rows(self, batch: Batch) -> DenseTeacher:
        """Hidden states [N, H] with the teacher's head."""
        hidden_BTH = compute_teacher_hidden(
            self._model, batch.input_ids_BT, self._bf16, batch.positions_BT
        )
        return DenseTeacher(hidden_BTH.flatten(0, 1)[batch.rows_N], head_of(self._model))


def compute_teacher_hidden(
    model: Any, input_ids_BT: torch.Tensor, bf16: bool, positions_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """Final hidden states [B, T, H], without gradient, live and captured alike."""
    with torch.no_grad(), bf16_products(input_ids_BT.device, bf16):
        return compute_hidden(model, input_ids_BT, positions_BT)


def load_teacher(
    teacher: TeacherConfig, tokenizer: Any, student_path: str, device: str
) -> tuple[Any, Any]:
    """Load the teacher and its tokenizer, checked against the student's tokenizer.

    Raises:
        DataError: The vocabularies differ, or the head cannot be taken apart.
    """
    theirs = load_tokenizer(teacher.path, teacher.revision)
    check_same_vocabulary(tokenizer, theirs, student_path, teacher.path)
    model = load_causal_lm(teacher, device)
    check_head_width(model, tokenizer, teacher.path)
    if device != "meta":
        check_head(model, teacher.path)
    return model, theirs
