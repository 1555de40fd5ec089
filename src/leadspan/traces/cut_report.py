"""What a cut keeps of a set of sequences, counted before any training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from leadspan.config import DERIVATION_COLUMN
from leadspan.records import SECTIONS, Example, Sequence
from leadspan.traces.cut import TOKENS_SUFFIX, Cut

DERIVATION_TOKENS = DERIVATION_COLUMN + TOKENS_SUFFIX
"""Key of `Sequence.meta`: where the first derivation ends, in tokens of the uncut sequence."""


@dataclass(slots=True)
class CutReport:
    """Counts over all sequences; shares are of the traces that had the thing in question."""

    sequences: int = 0
    dropped: int = 0
    """Sequences of which no token is scored at any moment of training."""
    full_tokens: int = 0
    kept_tokens: int = 0
    """Of sequences that are not dropped, at the start of the training."""
    scored_tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SECTIONS, 0))
    longest_tokens: int = 0
    """The longest that any sequence is at any moment of training."""
    close_marker_kept: float | None = None
    answer_kept: float | None = None
    """Whole answers, end token included."""
    derivation_kept: float | None = None
    """None where no trace says where its first derivation ends."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class CutCounter:
    """Counts what a cut keeps, a sequence at a time."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._report = CutReport()
        self._closes, self._answers, self._derivations = _Share(), _Share(), _Share()

    def add(self, sequence: Sequence) -> Example:
        """Cut, mask and count an uncut sequence."""
        example = self.cut.example(sequence)
        cut, report = example.sequence, self._report
        report.sequences += 1
        report.full_tokens += len(sequence)
        report.longest_tokens = max(report.longest_tokens, self.cut.longest(sequence))
        if example.num_scored_tokens or self.cut.ever_scores(sequence):
            report.kept_tokens += len(cut)
        else:
            report.dropped += 1
        for section in SECTIONS:
            span = cut.span(section)
            scored = int(example.supervised_T[span.start : span.end].sum())
            report.scored_tokens[section] += scored
        if sequence.closed:
            self._closes.add(cut.closed)
            self._answers.add(len(cut.answer) == len(sequence.answer))
        end = sequence.meta.get(DERIVATION_TOKENS)
        if isinstance(end, int):
            self._derivations.add(self.cut.keeps_lead(sequence, end))
        return example

    def report(self) -> CutReport:
        """The counts so far."""
        return replace(
            self._report,
            close_marker_kept=self._closes.value,
            answer_kept=self._answers.value,
            derivation_kept=self._derivations.value,
        )


def report_cuts(sequences: Iterable[Sequence], cut: Cut) -> CutReport:
    """Cut and mask uncut sequences, and count."""
    counter = CutCounter(cut)
    for sequence in sequences:
        counter.add(sequence)
    return counter.report()


@dataclass(slots=True)
class _Share:
    hits: int = 0
    of: int = 0

    def add(self, hit: bool) -> None:
        self.hits += hit
        self.of += 1

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None
