r"""Find one text in another whatever their spacing and their way of writing the same mark.

`\left( 3,\; \frac{\pi}{2} \right)` stands in `(3, \dfrac{π}{2})`. Linear in the text, whatever the
text; knows nothing about values.
"""

from __future__ import annotations

import re
import unicodedata

_PIECE = re.compile(r"\\(?:[A-Za-z]++|.)|\s++|.", re.DOTALL)
_SILENT = frozenset(
    ("\\left", "\\right", "\\displaystyle", "\\quad", "\\,", "\\!", "\\;", "\\:", "\\ ", "$")
)
_SAME = {
    **{"\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\le": "\\leq", "\\ge": "\\geq", "\\ne": "\\neq"},
    **{"π": "\\pi", "±": "\\pm", "√": "\\sqrt", "∞": "\\infty", "∪": "\\cup", "∩": "\\cap"},
    **{"≤": "\\leq", "≥": "\\geq", "≠": "\\neq", "·": "\\cdot", "×": "\\times", "°": "\\circ"},
    **{"−": "-", "²": "^2", "³": "^3", "θ": "\\theta", "α": "\\alpha", "β": "\\beta"},
}


def plain(text: str) -> str:
    """The text without accents and wide forms, character by character, so that offsets stay."""
    if text.isascii():
        return text
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    return unicodedata.normalize("NFD", unicodedata.normalize("NFKC", character)[0])[0]


def find_words(text: str, words: str) -> list[tuple[int, int]]:
    """Where a name stands, whatever its accents, spacing and case, as half-open ranges."""
    # Names and symbols of one or two letters mean nothing in another case.
    flags = 0 if len(words) <= 2 else re.IGNORECASE
    pattern = r"\s++".join(re.escape(word) for word in plain(words).split())
    found = re.finditer(rf"(?<!\w){pattern}(?!\w)", plain(text), flags)
    return [match.span() for match in found]


def find_spelled(text: str, wanted: str) -> list[tuple[int, int]]:
    """Where a formula stands, whatever its spacing and spelling, as half-open ranges."""
    needle = "".join(piece for piece, _, _ in _pieces(wanted))
    if not needle:
        return []
    pieces = _pieces(text)
    begins = [start for piece, start, _ in pieces for _ in piece]
    ends = [end for piece, _, end in pieces for _ in piece]
    whole = "".join(piece for piece, _, _ in pieces)
    found, at = [], whole.find(needle)
    while at >= 0:
        after = at + len(needle)
        start, end = begins[at], ends[after - 1]
        if not (_goes_on(text, start) or _goes_on(text, end)):
            found.append((start, end))
        at = whole.find(needle, after)
    return found


def _pieces(text: str) -> list[tuple[str, int, int]]:
    """Marks in their one spelling, with where each stands."""
    found = []
    for match in _PIECE.finditer(text):
        piece = _SAME.get(match[0], match[0])
        if piece not in _SILENT and not piece.isspace():
            found.append((piece, match.start(), match.end()))
    return found


def _goes_on(text: str, edge: int) -> bool:
    """Whether an edge lies within a number or a word."""
    pair = text[max(0, edge - 1) : edge + 1]
    return len(pair) == 2 and (pair.isdigit() or pair.isalpha())
