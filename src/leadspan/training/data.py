"""The examples of a run at a moment of training, and how many of them a budget pays for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceABC
from dataclasses import replace

import numpy as np

from leadspan.config import TrainingConfig
from leadspan.records import Example, Sequence
from leadspan.teachers.live import TeacherVocabulary
from leadspan.traces.batches import compute_order
from leadspan.traces.cut import Cut, supervise


class ExampleSource:
    """Examples by index, each dropped sequence counted.

    A fixed cut is made once; one that moves over the training when asked for.

    Args:
        cut: Cut and supervision.
        sequences: Uncut, or cut where `cut` keeps everything; an Example stays as it is, cut and labels.
        vocabulary: What the teacher shares with the student: labels outside it are not scored, and
            sequences that the teacher cannot read are left out. None without a teacher.
        takes_prompts: Keep prompts alone, of which no token is scored: the student goes on from them.
    """

    def __init__(
        self,
        cut: Cut,
        sequences: SequenceABC[Sequence | Example],
        vocabulary: TeacherVocabulary | None = None,
        takes_prompts: bool = False,
    ) -> None:
        self._cut, self._vocabulary = cut, vocabulary
        ends = (0.0, 1.0) if cut.moves else (0.0,)
        made = [[self._example(sequence, end) for end in ends] for sequence in sequences]
        scored = [
            any(example.num_scored_tokens for example in examples)
            or (takes_prompts and sequence_of(sequence).is_prompt)
            for sequence, examples in zip(sequences, made, strict=True)
        ]
        read = [
            vocabulary is None or all(vocabulary.reads(example.sequence) for example in examples)
            for examples in made
        ]
        kept = [index for index, both in enumerate(zip(scored, read, strict=True)) if all(both)]
        self._sequences = [sequences[index] for index in kept]
        self._fixed = None if cut.moves else [made[index][0] for index in kept]
        self.num_unread = read.count(False)
        """Sequences with tokens that the teacher reads as others or has no embedding for."""
        self.num_dropped = len(sequences) - len(kept) - self.num_unread
        """Other sequences of which no token is ever scored."""
        self.num_with_unshared_labels = sum(
            any(self._has_unshared_labels(sequences[index], example) for example in made[index])
            for index in kept
        )
        """Kept sequences of which some label is not scored, because the teacher lacks the token."""

    def __len__(self) -> int:
        return len(self._sequences)

    def sequences(self, indices: Iterable[int]) -> list[Sequence]:
        """The sequences at `indices`, uncut where the source was given them so."""
        return [sequence_of(self._sequences[index]) for index in indices]

    def at_step(self, step: int, num_steps: int, indices: Iterable[int]) -> list[Example]:
        """The examples at `indices` in 0-based `step`: the last step is cut as `lsp_end` says."""
        return self.at(step / max(1, num_steps - 1), indices)

    def at(self, progress: float, indices: Iterable[int] | None = None) -> list[Example]:
        """The examples at `indices` (all by default) when `progress` in [0, 1] of training is done."""
        chosen = range(len(self)) if indices is None else indices
        if self._fixed is not None:
            return [self._fixed[index] for index in chosen]
        return [self._example(self._sequences[index], progress) for index in chosen]

    def _example(self, given: Sequence | Example, progress: float) -> Example:
        example = given if isinstance(given, Example) else self._cut.example(given, progress)
        if self._vocabulary is None:
            return example
        is_shared_T = example.sequence.input_ids_T < self._vocabulary.size
        return replace(example, supervised_T=example.supervised_T & is_shared_T)

    def _has_unshared_labels(self, given: Sequence | Example, example: Example) -> bool:
        highest = example.sequence.input_ids_T.max(initial=0)
        if self._vocabulary is None or highest < self._vocabulary.size:
            return False
        asked = given
        if not isinstance(asked, Example):
            asked = supervise(example.sequence, self._cut.supervision)
        return example.num_scored_tokens < asked.num_scored_tokens


def sequence_of(given: Sequence | Example) -> Sequence:
    """The tokens of what a run was given."""
    return given.sequence if isinstance(given, Example) else given


def describe_cut(
    given: Iterable[Sequence | Example], examples: SequenceABC[Example]
) -> dict[str, float | int]:
    """What was really cut, for the manifest.

    Args:
        given: What the run was given.
        examples: What of it is trained on, at the start of the training.

    Returns:
        `kept_fraction`, the examples' tokens over those of the whole sequences, and `num_given_cut`,
        the sequences that were cut before the run, of which its config cannot know.
    """
    kept = sum(len(example.sequence) for example in examples)
    full = sum(example.sequence.num_full_tokens for example in examples)
    return {
        "kept_fraction": kept / max(1, full),
        "num_given_cut": sum(sequence_of(one).was_cut for one in given),
    }


CostOf = Callable[[SequenceABC[int]], float]
"""Tokens or FLOPs of one optimiser step, from the indices of its examples."""


def compute_num_steps(training: TrainingConfig, num_examples: int) -> int:
    """Optimiser steps of a run whose length is given in steps or epochs."""
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    return math.ceil(training.epochs * num_examples / training.batch_size)


def compute_budget_steps(
    training: TrainingConfig, num_examples: int, seed: int, cost_of: CostOf
) -> int:
    """The number of steps whose summed cost is nearest to the budget, at least one.

    Args:
        training: Gives `budget` and `batch_size`.
        num_examples: Of the training share.
        seed: Of the data order: the same steps are counted that will be run.
        cost_of: In the unit of the budget.
    """
    assert training.budget is not None
    budget = training.budget.tokens or training.budget.flops or 0.0
    spent, steps, epochs = 0.0, 0, 1
    size = training.batch_size
    order = compute_order(num_examples, num_examples, seed)
    while True:
        if (steps + 1) * size > len(order):
            epochs *= 2
            order = compute_order(num_examples, epochs * num_examples + size, seed)
        cost = cost_of(np.asarray(order[steps * size : (steps + 1) * size]).tolist())
        if steps and spent + cost - budget > budget - spent:
            return steps
        spent, steps = spent + cost, steps + 1
        if spent >= budget:
            return steps
