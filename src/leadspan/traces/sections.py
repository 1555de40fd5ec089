"""Split a completion at its think markers. Knows nothing about files, rows or tokenizers.

The rules, in order:

1. The family of markers that occurs first is the one that counts.
2. The CoT starts after the opening marker, which may only be preceded by white space; a
   completion that holds only a closing marker starts in the CoT (its template opened the block).
   Opening markers in a row count as one.
3. The CoT ends at the first closing marker, as inference servers read it, be it in a code block or
   not. No closing marker after an opening one: the CoT is unclosed and there is no answer.
4. Newlines that touch a marker belong to the format and are dropped; everything else is kept.
5. What would need a guess is refused: no marker at all, text before the opening marker, a marker
   of the family behind the first closing one, text around a marked answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markers:
    """One family of think markers."""

    name: str
    open: str
    close: str
    answer_open: str = ""
    """Opens the answer, where the family marks it too."""
    answer_close: str = ""
    """Ends the answer."""
    lead_in: str = ""
    """Control text that may stand before an opening marker."""
    open_optional: bool = True
    """Whether the closing marker alone is a split."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """A completion as its two sections."""

    cot: str
    answer: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row or a completion is not used, and where it stood."""

    reason: str
    where: str = ""


THINK = Markers("think", "<think>", "</think>")
FAMILIES = (
    THINK,
    Markers("thinking", "<thinking>", "</thinking>"),
    Markers("reasoning", "<reasoning>", "</reasoning>"),
    Markers(
        "thought",
        "<|begin_of_thought|>",
        "<|end_of_thought|>",
        "<|begin_of_solution|>",
        "<|end_of_solution|>",
    ),
    Markers("bracket", "[THINK]", "[/THINK]"),
    Markers("kimi", "◁think▷", "◁/think▷"),
    Markers(
        "channels",
        "<|channel|>analysis<|message|>",
        "<|end|>",
        "<|channel|>final<|message|>",
        "<|return|>",
        lead_in="<|start|>assistant",
        open_optional=False,
    ),
)
WORDS = "s1"
"""Name of the family that is written as plain words, `think\\n...\\nanswer\\n`."""

_WORDS_OPEN = re.compile(r"\s*(?:<\|im_start\|>)?think\n")
_WORDS_CLOSE = re.compile(r"\n(?:<\|im_start\|>)?answer\n")


def family_names() -> tuple[str, ...]:
    """The names that `traces.markers` may hold besides `auto`."""
    return (*(family.name for family in FAMILIES), WORDS)


def split_completion(
    text: str, markers: tuple[Markers, ...] = FAMILIES, words: bool = True
) -> Segmented | Refusal:
    """Split `text` at its think markers.

    Args:
        text: The whole completion.
        markers: The families that are looked for.
        words: Also take s1's `think`, `answer` lines, where none of those families occurs, the text
            starts with the one and holds the other.

    Returns:
        The sections, or why there are none: `no_marker`, `text_before_marker`, `repeated_marker`,
        `answer_marker_in_cot`, `text_around_answer`, `empty_cot`.
    """
    found = [(place, family) for family in markers if (place := _first(text, family)) >= 0]
    if found:
        split = _split(text, min(found, key=lambda entry: entry[0])[1])
    elif words:
        split = _split_words(text)
    else:
        split = Refusal("no_marker")
    if isinstance(split, Segmented) and not split.cot.strip():
        return Refusal("empty_cot")
    return split


def _first(text: str, family: Markers) -> int:
    """Where the first marker that can start a split stands; -1 for nowhere."""
    place = text.find(family.open)
    close = text.find(family.close) if family.open_optional else -1
    return min((found for found in (place, close) if found >= 0), default=-1)


def _split(text: str, family: Markers) -> Segmented | Refusal:
    head, opened, body = text.partition(family.open)
    if opened and (family.close not in head or not family.open_optional):
        if head.replace(family.lead_in, "").strip():
            return Refusal("text_before_marker")
        while body.lstrip().startswith(family.open):
            body = body.lstrip().removeprefix(family.open)
    else:
        body = text
    cot, closed, rest = body.partition(family.close)
    if family.open in rest or family.close in rest:
        return Refusal("repeated_marker")
    if family.answer_open and family.answer_open in cot:
        return Refusal("answer_marker_in_cot")
    answer = _answer(rest, family)
    if isinstance(answer, Refusal):
        return answer
    return Segmented(cot.strip("\n"), answer, bool(closed))


def _answer(rest: str, family: Markers) -> str | Refusal:
    """The answer in what follows the closing marker; without answer markers it is all of that."""
    if not family.answer_open or family.answer_open not in rest:
        return rest.strip("\n") if family.answer_open else rest.lstrip("\n")
    before, _, rest = rest.partition(family.answer_open)
    answer, _, after = rest.partition(family.answer_close)
    if before.replace(family.lead_in, "").strip() or after.strip():
        return Refusal("text_around_answer")
    return answer.strip("\n")


def _split_words(text: str) -> Segmented | Refusal:
    opened = _WORDS_OPEN.match(text)
    closes = list(_WORDS_CLOSE.finditer(text))
    if not opened or not closes:
        return Refusal("no_marker")
    if len(closes) > 1:
        return Refusal("repeated_marker")
    cot = text[opened.end() : max(opened.end(), closes[0].start())]
    return Segmented(cot.strip("\n"), text[closes[0].end() :].lstrip("\n"), True)
