"""Split a completion at its think markers. Knows nothing about files, rows or tokenizers.

The rules, in order:

1. The CoT starts after the opening marker, which may only be preceded by white space; a
   completion that holds only a closing marker starts in the CoT (its template opened the block).
2. The CoT ends at the first closing marker, as inference servers read it. No closing marker
   after an opening one: the CoT is unclosed and there is no answer.
3. Newlines that touch a marker belong to the format and are dropped; everything else is kept.
4. What would need a guess is refused: no marker at all, text before the opening marker, a second
   block behind the first one.
"""

from __future__ import annotations

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


FAMILIES = (
    Markers("think", "<think>", "</think>"),
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
)


def split_completion(text: str, markers: tuple[Markers, ...] = FAMILIES) -> Segmented | Refusal:
    """Split `text` with the first family of which it holds a marker.

    Returns:
        The sections, or the reason why there are none: `no_marker`, `text_before_marker`,
        `repeated_marker`, `empty_cot`.
    """
    found = [(_first(text, family), order, family) for order, family in enumerate(markers)]
    present = [entry for entry in found if entry[0] >= 0]
    if not present:
        return Refusal("no_marker")
    return _split(text, min(present)[2])


def _first(text: str, family: Markers) -> int:
    places = [place for marker in (family.open, family.close) if (place := text.find(marker)) >= 0]
    return min(places, default=-1)


def _split(text: str, family: Markers) -> Segmented | Refusal:
    head, opened, body = text.partition(family.open)
    if not opened or family.close in head:
        head, body = "", text
    if head.strip():
        return Refusal("text_before_marker")
    cot, closed, rest = body.partition(family.close)
    if family.open in rest or family.close in rest:
        return Refusal("repeated_marker")
    if not cot.strip():
        return Refusal("empty_cot")
    return Segmented(cot.strip("\n"), _answer(rest, family), bool(closed))


def _answer(rest: str, family: Markers) -> str:
    if family.answer_open and family.answer_open in rest:
        rest = rest.partition(family.answer_open)[2]
        return rest.partition(family.answer_close)[0].strip("\n")
    return rest.lstrip("\n")
