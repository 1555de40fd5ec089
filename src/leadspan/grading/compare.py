r"""Decide what plain text and plain numbers can decide, without a computer algebra system.

Every function is linear in its (short) input and evaluates nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 200
FLOAT_ROUNDING = 6
"""Decimals agree when they agree to this many places, as in math-verify."""

SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|~|\\left\b|\\right\b|\\displaystyle\b|\\,")
TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|textit|mathbf|operatorname)\s*\{([^{}]*)\}")
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\circ\b|°|\\degree\b")
CURRENCY = re.compile(r"\\?\$|[€£¥₹]|\\(?:pounds|euro)\b")
ASSIGNED = re.compile(r"^\s*[A-Za-z](?:_\{?\w+\}?)?\s*=\s*(?=[-+.\d\\])")
NUMBER = re.compile(
    r"""^(?P<sign>[-+]?)
    (?:(?P<whole>\d{1,3}(?:,\d{3})+|\d+)?(?P<point>\.\d*)?
       (?:\s*/\s*(?P<below>\d+))?
      |(?P<mixed>\d+)?\s*\\[dt]?frac\s*\{?\s*(?P<msign>-?)(?P<above>\d+)\s*\}?\s*
       (?:\{\s*(?P<under>\d+)\s*\}|(?P<digit>\d)))
    \s*(?P<percent>\\?%|percent\b)?
    \s*(?P<unit>[A-Za-z][A-Za-z .,'/\-]*(?:\^\{?\d\}?)?)?\s*\.?$""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    is_percent: bool
    is_decimal: bool


def read_number(text: str) -> Number | None:
    r"""Read an integer, decimal, fraction or mixed number, with currency, percent sign or unit.

    None for anything else, such as `2x`, `\sqrt{2}` or `10^5`.
    """
    text = SPACING.sub(" ", text.replace("{,}", ",").replace("−", "-")).strip().strip("*")
    text = DEGREES.sub(" ", CURRENCY.sub("", TEXT.sub(r" \1 ", text)))
    text = ASSIGNED.sub("", text).strip()
    if len(text) > MAX_DIGITS:
        return None
    match = NUMBER.match(text)
    if match is None:
        return None
    unit = match["unit"]
    # A single letter glued to digits is a variable, `2x`, not a unit; `e5` is an exponent.
    if unit and text[match.start("unit") - 1].isdigit() and len(unit.strip()) == 1:
        return None
    value = _value(match)
    if value is None:
        return None
    return Number(value, match["percent"] is not None, match["point"] not in (None, "."))


def _value(match: re.Match[str]) -> Fraction | None:
    sign = -1 if match["sign"] == "-" else 1
    if match["above"] is not None:
        below = int(match["under"] or match["digit"])
        if below == 0:
            return None
        part = Fraction(int(match["above"]), below) * (-1 if match["msign"] else 1)
        return sign * (int(match["mixed"] or 0) + part)
    whole, point = (match["whole"] or "").replace(",", ""), match["point"] or ""
    if not whole and len(point) < 2:
        return None
    value = Fraction(f"{whole or 0}{point.rstrip('.') if len(point) > 1 else ''}")
    if match["below"] is not None:
        if int(match["below"]) == 0:
            return None
        value /= int(match["below"])
    return sign * value


def same_number(left: Number, right: Number, tolerance: float = 0.0) -> bool:
    """Compare two numbers; `50%` equals both 50 and 0.5.

    Args:
        left: One number.
        right: The other.
        tolerance: Allowed difference relative to the larger magnitude; 0 asks for equality, of
            decimals to FLOAT_ROUNDING places.
    """
    lefts, rights = [left.value], [right.value]
    if left.is_percent != right.is_percent:
        (lefts if left.is_percent else rights).append(
            (left if left.is_percent else right).value / 100
        )
    return any(
        _close(a, b, left.is_decimal or right.is_decimal, tolerance) for a in lefts for b in rights
    )


def _close(left: Fraction, right: Fraction, is_decimal: bool, tolerance: float) -> bool:
    if left == right:
        return True
    if tolerance:
        return abs(left - right) <= Fraction(tolerance) * max(abs(left), abs(right))
    return is_decimal and round(left, FLOAT_ROUNDING) == round(right, FLOAT_ROUNDING)


def normalise(text: str) -> str:
    r"""Text without the marks that carry no meaning: case, spaces, dollar signs, `\text`."""
    text = TEXT.sub(r"\1", SPACING.sub(" ", text.replace("{,}", ",")))
    text = re.sub(r"\\[dt]frac\b", r"\\frac", text)
    text = re.sub(r"\s+", "", text.replace("$", "").replace("*", ""))
    return text.strip(".").casefold()


def same_text(left: str, right: str) -> bool:
    """Equal after `normalise`; empty is equal to nothing."""
    left, right = normalise(left), normalise(right)
    return bool(left) and left == right


def split_tuple(text: str) -> list[str]:
    """Members of `(a, b)`, `{a, b}` or `a, b`, split at commas outside any bracket."""
    text = text.strip().removeprefix("\\left").removesuffix("\\right").strip()
    members, depth, start = [], 0, 0
    pairs = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
    if text[:1] in "([{" and text[-1:] in ")]}":
        text = text[1:-1]
    for index, mark in enumerate(text):
        depth += pairs.get(mark, 0)
        if depth == 0 and (mark in ",;"):
            members.append(text[start:index])
            start = index + 1
    members.append(text[start:])
    return [member.strip() for member in members if member.strip()]


def same_member(left: str, right: str) -> bool:
    """Equal as numbers if both are numbers, else as text."""
    a, b = read_number(left), read_number(right)
    if a is not None and b is not None:
        return same_number(a, b)
    return same_text(left, right)


def answer_key(text: str) -> str:
    """A text that is the same for answers that read the same: the number, else the bare text."""
    number = read_number(text)
    return normalise(text) if number is None else str(number.value)
