"""Where the teacher's distributions come from: the live model, or a cache written once.

Both give rows for the scored positions of a batch. Knows nothing about the student.

Shape suffixes: B rows of the batch, T tokens, N scored tokens, H the teacher's hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceABC
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from leadspan.config import TeacherConfig
from leadspan.errors import DataError
from leadspan.losses.heads import DenseTeacher, Teacher, check_head, evaluating, head_of
from leadspan.models import (
    SharedVocabulary,
    causal_lm_of,
    check_head_width,
    check_same_vocabulary,
    compute_hidden,
    load_causal_lm,
    load_tokenizer,
    real_vocab_size,
)
from leadspan.precision import bf16_products
from leadspan.records import Sequence
from leadspan.traces.batches import Batch, collate
from leadspan.traces.taught import as_teacher_reads, teacher_of


class TeacherSource(Protocol):
    """What the training loop asks of a teacher."""

    model_config: Any
    """The config of the model that is run, for its FLOPs; None where nothing is run."""

    def prepare(self, batches: SequenceABC[Batch], keep: bool = False) -> None:
        """Called with all batches of a pass before the rows of the first are asked for.

        Args:
            batches: Of the pass.
            keep: They will come again.

        Raises:
            RunError: The teacher does not answer now.
        """
        ...

    def rows(self, batch: Batch) -> Teacher:
        """The teacher's distributions for `batch.labels_N`, in that order."""
        ...


class LiveTeacher:
    """The teacher model itself; only hidden states of scored positions are kept.

    Args:
        model: A causal language model, with adapters around it where `without_adapter`.
        bf16: Compute in bfloat16.
        without_adapter: The model is the student in training, and teaches as it was before it.
    """

    def __init__(self, model: Any, bf16: bool, without_adapter: bool = False) -> None:
        self.model_config = model.config
        self._model = model
        self._bf16 = bf16
        self._without_adapter = without_adapter

    def prepare(self, batches: SequenceABC[Batch], keep: bool = False) -> None:
        """Nothing: each batch is forwarded when its rows are asked for, or they would not fit."""

    def rows(self, batch: Batch) -> DenseTeacher:
        """Hidden states [N, H] with the teacher's head, behind the teacher's own prompt where it has one."""
        read = [as_teacher_reads(example) for example in batch.examples]
        if any(mine is not theirs for mine, theirs in zip(read, batch.examples, strict=True)):
            is_packed = batch.positions_BT is not None
            batch = collate(read, is_packed).to(batch.input_ids_BT.device)
        with self._as_it_was():
            hidden_BTH = compute_teacher_hidden(
                self._model, batch.input_ids_BT, self._bf16, batch.positions_BT
            )
        head = head_of(causal_lm_of(self._model))
        return DenseTeacher(hidden_BTH.flatten(0, 1)[batch.rows_N], head)

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        if not self._without_adapter:
            yield
            return
        with self._model.disable_adapter(), evaluating(self._model):
            yield


def compute_teacher_hidden(
    model: Any, input_ids_BT: torch.Tensor, bf16: bool, positions_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """Final hidden states [B, T, H], without gradient, live and captured alike."""
    with torch.no_grad(), bf16_products(input_ids_BT.device, bf16):
        return compute_hidden(model, input_ids_BT, positions_BT)


@dataclass(frozen=True, slots=True)
class TeacherVocabulary:
    """Which ids a teacher shares with the student, and which sequences it can be run on."""

    size: int
    """Labels and distributions are of the first `size` ids."""
    reads: Callable[[Sequence], bool]
    """Whether each token of a sequence means the same to the teacher, or is at least only unknown to it."""
    described: str


def vocabulary_read(shared: SharedVocabulary, num_ids: int) -> TeacherVocabulary:
    """Of a teacher that takes the first `num_ids` ids: an id must be one, and have no other meaning there."""
    misread = sorted(shared.misread_ids)

    def reads(sequence: Sequence) -> bool:
        ids_T = sequence.input_ids_T
        return bool(ids_T.max(initial=0) < num_ids) and not np.isin(ids_T, misread).any()

    return TeacherVocabulary(shared.size, reads, str(shared))


def live_vocabulary(shared: SharedVocabulary, model: Any) -> TeacherVocabulary:
    """Of a teacher that is run: it takes every id that has a row in its embedding."""
    return vocabulary_read(shared, model.get_input_embeddings().weight.shape[0])


def check_given_teacher(model: Any, tokenizer: Any, name: str) -> TeacherVocabulary:
    """Check a teacher in memory, which reads the student's token ids.

    Raises:
        DataError: Its head is narrower than the vocabulary, or cannot be taken apart.
    """
    shared = SharedVocabulary(real_vocab_size(tokenizer))
    check_head_width(model, shared.size, name)
    check_head(model, name)
    return live_vocabulary(shared, model)


def joint_vocabulary(each: SequenceABC[TeacherVocabulary]) -> TeacherVocabulary | None:
    """Of all teachers of a run, each of which reads the sequences that it teaches; None without any.

    Raises:
        DataError: They share different parts of the student's vocabulary.
    """
    if len(each) < 2:
        return each[0] if each else None
    sizes = [one.size for one in each]
    if len(set(sizes)) > 1:
        raise DataError(
            f"teachers: must share the same token ids with the student; got the first {sizes} ids. Take "
            "teachers of one tokenizer."
        )
    return TeacherVocabulary(
        sizes[0], lambda sequence: each[teacher_of(sequence)].reads(sequence), each[0].described
    )


def own_vocabulary(tokenizer: Any) -> TeacherVocabulary:
    """Of a student that teaches itself."""
    size = real_vocab_size(tokenizer)
    return TeacherVocabulary(size, lambda sequence: True, f"the student's own {size:,} ids")


def read_shared_vocabulary(
    teacher: TeacherConfig, tokenizer: Any, student_path: str
) -> TeacherVocabulary:
    """What a served teacher shares with the student: tokens that only the student has cannot be sent.

    Raises:
        DataError: The vocabularies are of two families.
    """
    shared = check_same_vocabulary(tokenizer, load_tokenizer(teacher), student_path, teacher.path)
    return vocabulary_read(shared, shared.size)


def load_teacher(
    teacher: TeacherConfig, tokenizer: Any, student_path: str, device: str
) -> tuple[Any, Any, TeacherVocabulary]:
    """Load the teacher, its tokenizer and what that shares with the student's.

    Raises:
        DataError: The vocabularies are of two families, or the head cannot be taken apart.
    """
    theirs = load_tokenizer(teacher)
    shared = check_same_vocabulary(tokenizer, theirs, student_path, teacher.path)
    model = load_causal_lm(teacher, device)
    check_head_width(model, shared.size, teacher.path)
    if device != "meta":
        check_head(model, teacher.path)
    return model, theirs, live_vocabulary(shared, model)
