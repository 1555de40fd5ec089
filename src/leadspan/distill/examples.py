"""The examples of a run, cut and supervised as its config says at a moment of training."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceABC

from leadspan.records import Example, Sequence
from leadspan.traces.cut import Cut


class ExampleSource:
    """Examples by index. Sequences of which no token is ever scored are dropped, and counted.

    A fixed cut is made once; one that moves over the training when asked for.
    """

    def __init__(self, cut: Cut, sequences: SequenceABC[Sequence]) -> None:
        self._cut = cut
        self._sequences = [sequence for sequence in sequences if cut.ever_scores(sequence)]
        self._fixed = None if cut.moves else [cut.example(sequence) for sequence in self._sequences]
        self.num_dropped = len(sequences) - len(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def at_step(self, step: int, num_steps: int, indices: Iterable[int]) -> list[Example]:
        """The examples at `indices` in 0-based `step`: the last step is cut as `lsp_end` says."""
        return self.at(step / max(1, num_steps - 1), indices)

    def at(self, progress: float, indices: Iterable[int] | None = None) -> list[Example]:
        """The examples at `indices` (all by default) when `progress` in [0, 1] of training is done."""
        chosen = range(len(self)) if indices is None else indices
        if self._fixed is not None:
            return [self._fixed[index] for index in chosen]
        return [self._cut.example(self._sequences[index], progress) for index in chosen]
