"""A teacher for the training loop that is read from a cache; no teacher model is loaded.

Knows nothing about the student. Shape suffixes: N scored tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leadspan.distill.batches import Batch
from leadspan.distill.teacher_cache import Query, TeacherCache
from leadspan.distill.teachers import DenseTeacher, SparseTeacher


class CachedTeacher:
    """Rows of a `TeacherCache` for the scored tokens of a batch."""

    model_config: Any = None
    """No model is run."""

    def __init__(self, cache: TeacherCache) -> None:
        self._cache = cache

    def rows(self, batch: Batch) -> DenseTeacher | SparseTeacher:
        """The teacher's distributions for `batch.labels_N`, in that order, on the batch's device.

        Raises:
            CacheError: A sequence of the batch was not captured.
        """
        queries = [
            Query(
                example.sequence.input_ids_T,
                np.flatnonzero(example.supervised_T) - 1,
                example.sequence.trace_id,
            )
            for example in batch.examples
        ]
        return self._cache.rows_of(queries, batch.input_ids_BT.device)
