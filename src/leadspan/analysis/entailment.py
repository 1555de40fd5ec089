"""Does the CoT hold what the prompt asks and what the answer says? An offline measure by coverage.

The paper asks an LLM judge (`judge`); this counts the numbers and content words of one text that
stand in another. It says nothing about meaning, costs nothing, and is the same every time.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadspan.analysis.wording import numbers_in, words_of

ENTAILED_FROM = 0.7
"""Coverage from which a text counts as entailed; the same for prompt and answer."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a text's numbers and content words another text holds, 0 to 1 each."""

    numbers: float
    words: float

    @property
    def score(self) -> float:
        """The mean of both."""
        return (self.numbers + self.words) / 2

    @property
    def entailed(self) -> bool:
        """`score` is at least ENTAILED_FROM."""
        return self.score >= ENTAILED_FROM


def measure_coverage(text: str, by: str) -> Coverage:
    """How much of `text` stands in `by`; a text without numbers or words has nothing missing."""
    return Coverage(
        numbers=_share(frozenset(numbers_in(text)), frozenset(numbers_in(by))),
        words=_share(words_of(text), words_of(by)),
    )


def _share(wanted: frozenset[float] | frozenset[str], there: frozenset[object]) -> float:
    return len(wanted & there) / len(wanted) if wanted else 1.0
