"""The examples of a run, cut and supervised as its config says at a moment of training."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceABC

from leadspan.config import RunConfig
from leadspan.records import Example, Sequence
from leadspan.traces.supervise import supervise
from leadspan.traces.truncate import build_policy


class ExampleSource:
    """Examples by index. Sequences of which no token is ever scored are dropped, and counted.

    A fixed cut is made once; one that moves over the training (`truncation.lsp_end`) when asked for.
    """

    def __init__(self, config: RunConfig, sequences: SequenceABC[Sequence]) -> None:
        self._config = config
        self._moves = config.truncation.lsp_end is not None
        ends = (0.0, 1.0) if self._moves else (0.0,)
        cuts = [[self._cut(sequence, end) for end in ends] for sequence in sequences]
        scored = [any(example.num_scored_tokens for example in cut) for cut in cuts]
        self._sequences = [s for s, kept in zip(sequences, scored, strict=True) if kept]
        self._fixed = [cut[0] for cut, kept in zip(cuts, scored, strict=True) if kept]
        self.num_dropped = len(sequences) - len(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def at(self, progress: float, indices: Iterable[int] | None = None) -> list[Example]:
        """The examples at `indices` (all by default) when `progress` in [0, 1] of training is done."""
        chosen = range(len(self)) if indices is None else indices
        if self._moves:
            return [self._cut(self._sequences[index], progress) for index in chosen]
        return [self._fixed[index] for index in chosen]

    def _cut(self, sequence: Sequence, progress: float) -> Example:
        policy = build_policy(self._config.truncation, progress)
        return supervise(policy.cut(sequence), self._config.supervision)
