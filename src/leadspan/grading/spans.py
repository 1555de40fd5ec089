r"""Find the formulas of a text: `$..$`, `$$..$$`, `\(..\)`, `\[..\]` and display environments.

One pass over the delimiters, so linear in the text. Knows nothing about answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DELIMITER = re.compile(
    r"\\\\|\\\$|\$\$|\$|\\\[|\\\]|\\\(|\\\)"
    r"|\\(begin|end)\{((?:align|equation|gather|multline|displaymath|math)\*?)\}|\n[ \t]*\n"
)
CLOSERS = {"$": "$", "$$": "$$", "\\[": "\\]", "\\(": "\\)"}
MAX_SPAN_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula and where it stands, delimiters included."""

    text: str
    start: int
    end: int
    is_display: bool


def find_formulas(text: str) -> list[Formula]:
    """All formulas in order; a dollar sign in front of a price opens none."""
    found: list[Formula] = []
    opened: re.Match[str] | None = None
    for mark in DELIMITER.finditer(text):
        token = mark[0]
        if opened is None:
            opened = mark if _opens(mark) else None
            continue
        if _closes(opened, mark, text):
            inner = text[opened.end() : mark.start()]
            if inner.strip() and len(inner) <= MAX_SPAN_CHARS:
                found.append(Formula(inner.strip(), opened.start(), mark.end(), opened[0] != "$"))
            opened = None
        elif token[0] == "\n" or (opened[0] == "$" and _opens(mark)):
            opened = (
                None if token[0] == "\n" and opened[0] == "$" else mark if _opens(mark) else opened
            )
    return found


def _opens(mark: re.Match[str]) -> bool:
    return mark[0] in CLOSERS or mark[1] == "begin"


def _closes(opened: re.Match[str], mark: re.Match[str], text: str) -> bool:
    if mark[1] == "end":
        return mark[2] == opened[2]
    if mark[0] != CLOSERS.get(opened[0]):
        return False
    if mark[0] != "$":
        return True
    is_price = text[mark.end() : mark.end() + 1].isdigit() or (
        text[opened.end() : opened.end() + 1].isdigit() and text[mark.start() - 1].isspace()
    )
    return not is_price
