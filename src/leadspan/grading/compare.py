r"""Decide what plain text and plain numbers can decide, without a computer algebra system.

Every function is linear in its (short) input and evaluates nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 200
"""A longer text is not read as a number."""
FLOAT_ROUNDING = 6
"""Decimals agree when they agree to this many places, as in math-verify."""

NEGATIVE_SPACE = re.compile(r"\\!|\{\}")
SPACING = re.compile(
    r"\\[,;: ]|\\q?quad\b|~|\\displaystyle\b|\\(?:left|right)\b(?=\s*[\[\](){}|\\.])"
)
TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|textit|mathbf|operatorname|rm)\s*\{([^{}]*)\}")
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\circ\b|°|\\degree\b")
CURRENCY = re.compile(r"\\?\$|[€£¥₹]|\\(?:pounds|euro)\b")
LEAD = re.compile(
    r"^\s*(?:[A-Za-z](?:_\{?\w+\}?)?\s*(?:=|\\approx|≈)|=|\\approx|≈)\s*(?=[-+.\d\\])"
)
CLOCK = re.compile(r"^(\d{1,2}):00\s*(?:[ap]\.?\s?m\.?|o'clock)?$", re.IGNORECASE)
DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:\ \d{3})+|\d+)"
NUMBER = re.compile(
    rf"""^(?P<sign>[-+]?)\s*
    (?:(?P<whole>{DIGITS})\s+(?P<over>\d+)\s*/\s*(?P<beneath>\d+)
      |(?P<integer>{DIGITS})?(?P<point>\.\d*)?(?:[eE](?P<exponent>[-+]?\d{{1,2}})|\s*/\s*(?P<below>{DIGITS}))?
      |(?P<mixed>\d+)?\s*\\[dtc]?frac\s*(?:\{{\s*(?P<inner>-?)\s*(?P<above>{DIGITS})\s*\}}|(?P<a>\d))\s*
       (?:\{{\s*(?P<under>{DIGITS})\s*\}}|(?P<b>\d)))
    (?P<percent>\s*\\?%|\s*percent\b)?
    (?P<gap>\s*)(?P<unit>[A-Za-z][A-Za-z .,'/\-]*(?:\^\{{?\d\}}?)?)?\s*\.?$""",
    re.VERBOSE,
)
SHORT_UNITS = frozenset(
    ["m", "g", "s", "h", "l", "L", "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "in", "lb", "oz",
     "hr", "am", "pm", "AM", "PM", "yd", "mi", "Hz", "GB", "MB"]
)  # fmt: skip
"""Shorter words behind a number are variables, `2x` or `3 ab`, unless they stand here."""
MAGNITUDES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    also: Fraction | None
    """What it may stand for too: 50 % is 50 or 0.5, 3 million is 3 or 3,000,000."""
    is_decimal: bool


def read_number(text: str) -> Number | None:
    r"""Read an integer, decimal, fraction or mixed number, with currency, percent sign or unit.

    None for anything else, such as `2x`, `\sqrt{2}` or `10^5`.
    """
    text = _bare(text)
    clock = CLOCK.match(text)
    if clock is not None:
        return Number(Fraction(clock[1]), None, False)
    match = NUMBER.match(text) if len(text) <= MAX_CHARS else None
    if match is None or not _is_unit(match):
        return None
    value = _value(match)
    if value is None:
        return None
    also = value / 100 if match["percent"] else None
    magnitude = MAGNITUDES.get((match["unit"] or "").split(" ")[0])
    return Number(
        value, value * magnitude if magnitude else also, match["point"] not in (None, ".")
    )


def _bare(text: str) -> str:
    """Without text commands, currency, degrees, `x =` and spacing."""
    text = NEGATIVE_SPACE.sub("", text.replace("{,}", ",")).replace("−", "-")
    text = SPACING.sub(" ", TEXT.sub(r" \1 ", text))
    text = DEGREES.sub(" ", CURRENCY.sub("", text)).strip().strip("*")
    return LEAD.sub("", text).strip()


def _is_unit(match: re.Match[str]) -> bool:
    """Whether the letters behind a number may be a unit rather than a variable."""
    unit = match["unit"]
    if not unit:
        return True
    first = re.split(r"[ .,'/^-]", unit)[0]
    return first in SHORT_UNITS or (
        len(first) > 2 and (bool(match["gap"]) or bool(match["percent"]))
    )


def _value(match: re.Match[str]) -> Fraction | None:
    sign = -1 if match["sign"] == "-" else 1
    if match["whole"] is not None:
        part = _over(match["over"], match["beneath"])
        return None if part is None else sign * (_integer(match["whole"]) + part)
    if match["above"] is not None or match["a"] is not None:
        part = _over(match["above"] or match["a"], match["under"] or match["b"])
        if part is None:
            return None
        part = -part if match["inner"] else part
        return sign * (_integer(match["mixed"] or "0") + part)
    integer, point = match["integer"] or "", match["point"] or ""
    if not integer and len(point) < 2:
        return None
    value = Fraction(f"{_integer(integer or '0')}{point if len(point) > 1 else ''}")
    if match["exponent"] is not None:
        return sign * value * Fraction(10) ** int(match["exponent"])
    if match["below"] is None:
        return sign * value
    below = _integer(match["below"])
    return None if below == 0 else sign * value / below


def _integer(digits: str) -> int:
    return int(digits.replace(",", "").replace(" ", ""))


def _over(above: str, below: str) -> Fraction | None:
    return Fraction(_integer(above), _integer(below)) if _integer(below) else None


def same_number(left: Number, right: Number, tolerance: float = 0.0) -> bool:
    """Compare two numbers; `50%` equals both 50 and 0.5.

    Args:
        left: One number.
        right: The other.
        tolerance: Allowed difference relative to the larger magnitude; 0 asks for equality, of
            decimals to FLOAT_ROUNDING places.
    """
    is_decimal = left.is_decimal or right.is_decimal
    pairs = [(left.value, right.value)]
    if (left.also is None) != (right.also is None):
        # Where both are marked they mean the same thing: 50 % is not 0.5 %.
        pairs.append((left.also or left.value, right.also or right.value))
    return any(_close(a, b, is_decimal, tolerance) for a, b in pairs)


def _close(left: Fraction, right: Fraction, is_decimal: bool, tolerance: float) -> bool:
    if left == right:
        return True
    if tolerance:
        return abs(left - right) <= Fraction(tolerance) * max(abs(left), abs(right))
    return is_decimal and round(left, FLOAT_ROUNDING) == round(right, FLOAT_ROUNDING)


def normalise(text: str) -> str:
    r"""Text without the marks that carry no meaning: case, spaces, dollar signs, `\text`."""
    text = SPACING.sub(" ", NEGATIVE_SPACE.sub("", TEXT.sub(r"\1", text.replace("{,}", ","))))
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", text.replace("−", "-"))
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text.strip())  # 1 1/2 is not 11/2
    text = re.sub(r"\s+", "", text.replace("$", "").replace("*", "")).rstrip(".")
    alone = re.fullmatch(r"\(([^(),;]*)\)", text)  # (B) is B
    return (alone[1] if alone else text).casefold()


def same_text(left: str, right: str) -> bool:
    """Equal after `normalise`; empty is equal to nothing."""
    left, right = normalise(left), normalise(right)
    return bool(left) and left == right


WORDS = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?:[ '’-][^\W\d_]+)*\.?")


def is_words(text: str) -> bool:
    r"""Whether an answer is words rather than algebra: `\text{B}`, `Tuesday`, `no solution`.

    To a computer algebra system `east` is e*a*s*t, the same as `seat`. Up to three bare letters are
    taken for algebra.
    """
    bare = TEXT.sub(r"\1", text).strip().strip("$.").strip()
    if TEXT.sub("", text).strip(" $.()") == "" and bare and not any(c.isdigit() for c in bare):
        return True
    return WORDS.fullmatch(bare) is not None


def brackets(text: str) -> str:
    """The outer brackets of a tuple, set or interval: "(]", or nothing."""
    text = _unsized(text)
    if text[:2] == "\\{" and text[-2:] == "\\}":
        return "{}"
    return text[0] + text[-1] if text[:1] in ("(", "[") and text[-1:] in (")", "]") else ""


def _unsized(text: str) -> str:
    return re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-z])", "", text).strip().strip("$").strip()


def split_tuple(text: str) -> list[str]:
    """Members of `(a, b)`, `{a, b}` or `a, b`, split at commas outside any bracket."""
    text = _unsized(text.replace("{,}", ""))
    if brackets(text) == "{}":
        text = text[2:-2]
    elif brackets(text) or (text[:1] == "{" and text[-1:] == "}"):
        text = text[1:-1]
    members, depth, start = [], 0, 0
    for index, mark in enumerate(text):
        depth += (mark in "([{") - (mark in ")]}")
        if depth == 0 and mark in ",;" and text[index - 1 : index] != "\\":
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
