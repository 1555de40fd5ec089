"""Where the teacher's distributions come from: the live model, or a cache written once.

Both give rows for the scored positions of a batch. Knows nothing about the student.

Shape suffixes: B rows of the batch, T tokens, N scored tokens, H the teacher's hidden size.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from leadspan.distill.batches import Batch
from leadspan.distill.heads import head_of
from leadspan.distill.teachers import DenseTeacher, SparseTeacher
from leadspan.models import backbone_of


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

    @torch.no_grad()
    def rows(self, batch: Batch) -> DenseTeacher:
        """Hidden states [N, H] with the teacher's head."""
        device_type = batch.input_ids_BT.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self._bf16):
            hidden_BTH = backbone_of(self._model)(
                input_ids=batch.input_ids_BT, use_cache=False
            ).last_hidden_state
        return DenseTeacher(hidden_BTH.flatten(0, 1)[batch.rows_N], head_of(self._model))
