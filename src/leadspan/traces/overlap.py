"""Which prompts share a run of words with a benchmark. Knows words, not tokens or traces."""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Lower-case words and single signs; spacing and case do not count."""
    return WORD.findall(text.lower())


class OverlapIndex:
    """The word n-grams of all problems of some benchmarks."""

    def __init__(self, problems: Iterable[str], ngram: int) -> None:
        self.ngram = ngram
        self._by_length: dict[int, set[int]] = {}
        for problem in problems:
            words = words_of(problem)
            length = min(ngram, len(words))
            if length:
                grams = self._by_length.setdefault(length, set())
                grams.update(_hashes(words, length))

    def hits(self, prompt: str) -> bool:
        """Whether the prompt holds one of the n-grams, or a shorter problem as a whole."""
        words = words_of(prompt)
        return any(
            gram in grams
            for length, grams in self._by_length.items()
            for gram in _hashes(words, length)
        )


def _hashes(words: list[str], length: int) -> Iterable[int]:
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))
