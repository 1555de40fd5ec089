"""The problems of the embedded world and their reasoning traces, as text. Pure: a seed gives the rows.

A problem gives consecutive letters a digit each, `d9e8f2g5h9?`; the answer is the sum modulo 10,
written as a two-digit code that stands nowhere else. A trace restates the problem, derives the
answer step by step, and then recaps what it found, as real traces do. In the late variant the
recaps come before the derivation, as a plan, so that the first half of a trace holds none of it.
Knows nothing about tokens or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LETTERS = "abcdefghij"
CODES = ("22", "29", "36", "43", "50", "57", "64", "71", "78", "85")
"""How each answer is written. No other number of a trace has two digits."""
ALPHABET = "0123456789" + LETTERS + "klmnopqrstuvwxyz" + " ?.+=,"
"""Every character that occurs in a world."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`len(digits) - 1` additions modulo 10."""

    start: int
    """Index of the first letter in `LETTERS`; the letters go on cyclically from there."""
    digits: tuple[int, ...]

    @property
    def num_additions(self) -> int:
        """The problem's size."""
        return len(self.digits) - 1

    @property
    def letters(self) -> list[str]:
        """The letter of each digit."""
        return [LETTERS[(self.start + place) % 10] for place in range(len(self.digits))]

    @property
    def text(self) -> str:
        """What the student is asked."""
        return self._join(self.digits) + "?"

    @property
    def gold(self) -> str:
        """The right answer's code."""
        return CODES[sum(self.digits) % 10]

    def _join(self, values: Sequence[int]) -> str:
        return "".join(
            f"{letter}{value}" for letter, value in zip(self.letters, values, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """A reasoning trace of one problem."""

    cot: str
    answer: str
    derivation_start: int
    """Offset in `cot` of the first character of the first derivation."""
    derivation_end: int
    """Offset in `cot` just after the first derivation's answer."""


def draw_problems(rng: np.random.Generator, count: int, sizes: Sequence[int]) -> list[Problem]:
    """Draw problems with their number of additions uniform over `sizes`."""
    chosen = rng.integers(len(sizes), size=count)
    starts = rng.integers(10, size=count)
    digits = rng.integers(10, size=(count, max(sizes) + 1))
    return [
        Problem(int(start), tuple(int(digit) for digit in row[: sizes[size] + 1]))
        for size, start, row in zip(chosen, starts, digits, strict=True)
    ]


def draw_gap(rng: np.random.Generator, per_value: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Choose the additions that the base student never learns: `gap[value, digit]`, shape [10, 10].

    `per_value` digits for every running value.
    """
    gap = np.zeros((10, 10), dtype=bool)
    for value in range(10):
        gap[value, rng.permutation(10)[:per_value]] = True
    return gap


def solve(
    problem: Problem,
    late: bool = False,
    gap: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
    rng: np.random.Generator | None = None,
) -> Solution:
    """Write the trace of a problem.

    Args:
        problem: What is asked.
        late: Recap before the derivation instead of after it.
        gap: Additions whose result is drawn at random: the trace of someone who does not know them.
        rng: Draws those results.
    """
    values = [problem.digits[0]]
    for digit in problem.digits[1:]:
        if gap is not None and rng is not None and gap[values[-1], digit]:
            values.append(int(rng.integers(10)))
        else:
            values.append((values[-1] + digit) % 10)
    letters = problem.letters
    steps = [
        f"{letter}{digit}+{before}={after}."
        for letter, before, digit, after in zip(
            letters[1:], values[:-1], problem.digits[1:], values[1:], strict=True
        )
    ]
    answer = f"o {CODES[values[-1]]}"
    restated = problem.text.replace("?", ".")
    derivation = f"{letters[0]}{values[0]}.{''.join(steps)}{answer}."
    if late:
        opening = restated + "".join(
            _recap(cue, letters, problem.digits) for cue in ("plan", "first", "hm")
        )
        closing = ""
    else:
        opening = restated
        closing = "".join(_recap(cue, letters, problem.digits) for cue in ("wait", "check"))
    start = len(opening)
    return Solution(opening + derivation + closing, answer, start, start + len(derivation))


def _recap(cue: str, letters: Sequence[str], values: Sequence[int]) -> str:
    listed = ",".join(f"{letter}{value} ok" for letter, value in zip(letters, values, strict=True))
    return f"{cue} {listed}."
