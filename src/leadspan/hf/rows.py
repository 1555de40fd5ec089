"""Rows that `lead_span` prepared, as examples and as the inputs of a Trainer's step.

Knows nothing about models, losses or the Trainer.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceABC
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from leadspan.errors import ConfigError
from leadspan.hf.dataset import FEATURES
from leadspan.progress import say
from leadspan.records import Example, Sequence, Span
from leadspan.teachers.live import TeacherVocabulary
from leadspan.traces.batches import PAD_ID, collate
from leadspan.traces.prepare import IGNORED, labels_of

COLUMNS = tuple(FEATURES)
"""Of a prepared row."""


def is_prepared(dataset: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether the rows of a data set have all columns of prepared rows; False where they are raw.

    Raises:
        ConfigError: They are tokens without the other columns.
    """
    columns = getattr(dataset, "column_names", None)
    if columns is None:
        columns = next(iter(dataset), {}).keys()
    missing = [column for column in COLUMNS if column not in columns]
    if missing and "input_ids" in columns:
        raise ConfigError(
            f"LeadSpanTrainer: {name} must have the columns {', '.join(COLUMNS)}; it lacks "
            f"{', '.join(missing)}. Prepare its raw rows with leadspan.lead_span, or give them as they are."
        )
    return not missing


def example_of(row: Mapping[str, Any]) -> Example:
    """The example that a prepared row holds."""
    ids_T = np.asarray(row["input_ids"], dtype=np.int32)
    prompt, cot, answer = (Span(int(start), int(end)) for start, end in row["spans"])
    num_full_tokens = int(row["num_full_tokens"])
    sequence = Sequence(
        trace_id=row["trace_id"],
        input_ids_T=ids_T,
        prompt=prompt,
        cot=cot,
        answer=answer,
        was_cut=len(ids_T) < num_full_tokens,
        num_full_tokens=num_full_tokens,
    )
    return Example(sequence, np.asarray(row["labels"]) != IGNORED)


def inputs_of(examples: SequenceABC[Example]) -> dict[str, Any]:
    """What a forward pass gets: `batch` for the objective, and the plain tensors that Trainer counts."""
    width = max((len(example.sequence) for example in examples), default=1)
    ids_BT = np.full((len(examples), width), PAD_ID, dtype=np.int64)
    labels_BT = np.full((len(examples), width), IGNORED, dtype=np.int64)
    for row, example in enumerate(examples):
        ids_T = example.sequence.input_ids_T
        ids_BT[row, : len(ids_T)] = ids_T
        labels_BT[row, : len(ids_T)] = labels_of(example)
    return {
        "input_ids": torch.from_numpy(ids_BT),
        "labels": torch.from_numpy(labels_BT),
        "batch": collate(examples),
    }


class Collator:
    """Prepared rows to inputs; what the teacher does not have in its vocabulary is not scored.

    Args:
        vocabulary: What the teacher shares with the student; None without a teacher.
    """

    def __init__(self, vocabulary: TeacherVocabulary | None) -> None:
        self._vocabulary = vocabulary
        self._has_warned = False

    def __call__(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The inputs of one forward pass."""
        return inputs_of([self._taught(example_of(row)) for row in rows])

    def _taught(self, example: Example) -> Example:
        """The example with those labels that the teacher has; with none where it cannot read the row."""
        if self._vocabulary is None:
            return example
        sequence = example.sequence
        is_taught_T = sequence.input_ids_T < self._vocabulary.size
        if not self._vocabulary.reads(sequence):
            is_taught_T = np.zeros_like(is_taught_T)
            if not self._has_warned:
                say(
                    f"LeadSpanTrainer: {sequence.trace_id} and perhaps other rows hold tokens that the "
                    f"teacher cannot read ({self._vocabulary.described}); they are not scored."
                )
                self._has_warned = True
        return replace(example, supervised_T=example.supervised_T & is_taught_T)
