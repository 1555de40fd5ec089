"""A teacher for the training loop that is read from a cache; no teacher model is loaded.

Knows nothing about the student. Shape suffixes: N scored tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leadspan.config import LossConfig, TeacherConfig
from leadspan.distill.batches import Batch
from leadspan.distill.teacher_cache import Query, TeacherCache
from leadspan.distill.teacher_source import TeacherVocabulary
from leadspan.distill.teachers import DenseTeacher, SparseTeacher
from leadspan.errors import ConfigError
from leadspan.records import Sequence


def load_cached_teacher(teacher: TeacherConfig, loss: LossConfig, tokenizer: Any) -> CachedTeacher:
    """Open `teacher.cache` and check that it serves this teacher, this vocabulary and this loss.

    Raises:
        CacheError: It is not complete, or belongs to another teacher or tokenizer.
        ConfigError: Its mode does not hold the distribution that the loss asks for.
    """
    assert teacher.cache is not None
    cache = TeacherCache(teacher.cache)
    cache.check_fits(teacher, tokenizer)
    made = cache.identity
    if made.mode == "sampled" and (loss.divergence, loss.kd_temperature) != ("forward_kl", 1.0):
        raise ConfigError(
            f"{cache.path}: mode sampled serves divergence forward_kl at kd_temperature 1; got "
            f"{loss.divergence} at {loss.kd_temperature:g}. Capture with --mode topk or hidden."
        )
    softened = loss.kd_temperature != 1.0 and loss.sparse_target == "tail"
    if made.mode == "topk" and made.k < made.vocab_size and softened:
        raise ConfigError(
            f"{cache.path}: loss.kd_temperature must be 1 with a top-k cache and its tail; got "
            f"{loss.kd_temperature:g}. Capture with --mode hidden, or set loss.sparse_target to "
            "renormalised."
        )
    return CachedTeacher(cache)


class CachedTeacher:
    """Rows of a `TeacherCache` for the scored tokens of a batch."""

    model_config: Any = None
    """No model is run."""

    def __init__(self, cache: TeacherCache) -> None:
        self.cache = cache

    def vocabulary(self) -> TeacherVocabulary:
        """The ids that were captured; capture left out the sequences that the teacher could not read."""
        size = self.cache.identity.vocab_size

        def reads(sequence: Sequence) -> bool:
            return bool(sequence.input_ids_T.max(initial=0) < size) or self.cache.holds(sequence)

        return TeacherVocabulary(
            size, reads, f"{self.cache.path} holds the first {size:,} token ids"
        )

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
        return self.cache.rows_of(queries, batch.input_ids_BT.device)
