"""The face of grading: split a generation at its think marker, grade what it says.

Knows nothing about models, benchmarks or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leadspan.grading import Grade, Grader, check_kind


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text as its two sections."""

    cot: str
    answer: str
    closed: bool
    """True where the think block was closed, or where there was none and the answer ended."""


def split_generation(
    text: str, think_open: str, think_close: str, opened: bool, ended: bool
) -> Generation:
    """Split at the first closing marker, as inference servers do.

    Args:
        text: What the model wrote, special tokens kept.
        think_open: The opening marker.
        think_close: The closing marker.
        opened: The prompt already ends in the opening marker.
        ended: The model ended its turn, rather than being cut off.
    """
    cot, marker, answer = text.partition(think_close)
    if marker:
        return Generation(cot.lstrip().removeprefix(think_open), answer, True)
    if opened or text.lstrip().startswith(think_open):
        return Generation(text.lstrip().removeprefix(think_open), "", False)
    return Generation("", text, ended)


def grade(completion: str, gold: str | Sequence[str], kind: str = "math") -> Grade:
    """Grade one completion. For many, keep one `Grader` open: it starts its workers once.

    Args:
        completion: The text that holds the answer; a CoT before it does no harm to `math`, which
            reads the last answer.
        gold: The accepted answer, or several of which any counts.
        kind: math, numeric, choice, exact, set or `module:function`.
    """
    with Grader(workers=1) as grader:
        return grader.grade(completion, gold, check_kind(kind))
