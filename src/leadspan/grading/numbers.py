r"""The one reader of numbers and the one normal form, for extraction, comparison and voting.

`½`, `\frac12`, `0.5` and `50\%` are read here, with thousands separators, powers of ten, units and
currency.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

from leadspan.grading.expression import LONG_DECIMAL, UnreadableError, exact_decimal, parse
from leadspan.grading.notation import assignment, canonical
from leadspan.grading.values import evaluate, real_value, same_value

Powers = tuple[tuple[str, int], ...]
Unit = tuple[frozenset[tuple[str, int]], Fraction]

SIZES: dict[str, dict[str, str]] = {
    "length": {
        "m meter meters metre metres": "1", "cm centimeter centimeters": "0.01",
        "mm millimeter millimeters": "0.001",
        "km kilometer kilometers": "1000", "nm nanometer nanometers": "1e-9", "in inch inches": "0.0254",
        "ft foot feet": "0.3048", "yd yard yards": "0.9144", "mi mile miles": "1609.344",
    },
    "mass": {
        "kg kilogram kilograms": "1", "g gram grams": "0.001", "mg milligram milligrams": "1e-6",
        "lb lbs pound pounds": "0.45359237", "oz ounce ounces": "0.028349523125",
    },
    "time": {
        "s sec secs second seconds": "1", "ms millisecond milliseconds": "0.001",
        "min mins minute minutes": "60",
        "h hr hrs hour hours": "3600", "day days": "86400", "week weeks": "604800",
    },
    "temperature": {"k kelvin kelvins": "1"},
    "amount": {"mol mole moles": "1"},
    "charge": {"coulomb coulombs": "1"},
    "time -1": {"hz hertz": "1", "khz": "1000", "mhz": "1e6"},
    "length 3": {"l liter liters litre litres": "0.001", "ml milliliter milliliters": "1e-6"},
    "mass length time -2": {"n newton newtons": "1"},
    "mass length 2 time -2": {
        "j joule joules": "1", "kj kilojoule kilojoules": "1000", "ev": "1.602176634e-19",
    },
    "mass length 2 time -3": {"w watt watts": "1", "kw kilowatt kilowatts": "1000"},
    "mass length -1 time -2": {"pa pascal pascals": "1", "kpa": "1000"},
}  # fmt: skip
"""Dimensions with their powers -> names of units and their size in base units."""


def _table() -> dict[str, tuple[Powers, Fraction]]:
    table = {}
    for dimensions, sizes in SIZES.items():
        powers = tuple(
            (name, int(power or "1"))
            for name, power in re.findall(r"([a-z]+)(?: (-?\d))?", dimensions)
        )
        for names, size in sizes.items():
            table.update(dict.fromkeys(names.split(), (powers, Fraction(size))))
    return table


BASE = _table()
PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
PART = re.compile(r"([A-Za-z]+)\.?(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?|(/|\*)")


def read_unit(text: str) -> Unit | None:
    """Dimensions with their powers, and the factor to base units; None for other words."""
    powers: Counter[str] = Counter()
    factor, sign, prefix, place = Fraction(1), 1, 1, 0
    text = re.sub(r"\\text\b|\\cdot\b|\\times\b|[{}](?!\d)|(?<=[A-Za-z])\}", " ", text).strip()
    while place < len(text):
        match = PART.match(text, place)
        if match is None:
            return None
        place = match.end()
        while place < len(text) and text[place] in " -}{":
            place += 1
        word = (match[1] or "").lower()
        if match[3] == "/" or word == "per":
            sign = -1
        elif word in PREFIXES:
            prefix = PREFIXES[word]
        elif word in BASE:
            dimensions, size = BASE[word]
            power = sign * prefix * int(match[2] or "1")
            for dimension, exponent in dimensions:
                powers[dimension] += power * exponent
            factor *= size**power
            prefix = 1
        elif match[3] != "*":
            return None
    left = frozenset((name, power) for name, power in powers.items() if power)
    return (left, factor) if powers else None


MAX_CHARS = 400
"""A longer text is not read as a number."""

TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
CURRENCY = re.compile(r"\\?\$|[€£¥₹]|\\(?:pounds|euro)\b")
DEGREES = re.compile(r"\^\\circ(?:\s*[CF]\b)?")
LEAD = re.compile(r"(?:[A-Za-z](?:_\{?\w+\}?)?\s*(?:=|\\approx)|=|\\approx)\s*(?=[-+.\d\\])")
CLOCK = re.compile(r"(\d{1,2}):00\s*(?:[ap]\.?\s?m\.?|o'clock)?", re.IGNORECASE)
PLAIN = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
PERCENT = re.compile(r"\s*(?:%|\bpercent\b|\bper cent\b)\s*$")
MIXED = re.compile(r"([-+]?\s*\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
COMMA_DECIMAL = re.compile(r"([-+]?)(\d{4,}|0|\d{1,3}(?=,\d\d$)|\d{1,3}(?:[. ]\d{3})+),(\d+)")
UNIT_IN_TEXT = re.compile(
    r"\s*(\\text\s*\{[^{}]*[^\W\d_][^{}]*\}(?:[\s/*.]|\\cdot|\\times|\^\s*\{?\s*-?\d\s*\}?|\\text\s*\{[^{}]*\})*)$"
)
ORDINAL = re.compile(r"(?<=\d)\s*\^?\s*\{?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\s*\}?$")
UNIT_IN_WORDS = re.compile(
    r"(?:(?<=[\d})%.])|(?<=\\pi)(?=\s))(\s*)([A-Za-z][A-Za-z .,'/\-]*(?:\^\s*\{?\s*-?\d\s*\}?)?[A-Za-z /]*)$"
)
SHORT_UNITS = frozenset(
    ["m", "g", "s", "h", "l", "L", "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "in", "lb", "oz",
     "hr", "am", "pm", "AM", "PM", "yd", "mi", "Hz", "GB", "MB", "eV", "nm", "kJ"]
)  # fmt: skip
"""Shorter words behind a number are variables, `2x` or `3 ab`, unless they stand here."""
MAGNITUDES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
TWO_UNITS = re.compile(
    r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*(?:,|and|, and)?\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)(?=\.?$)"
)
"""18 hours and 48 minutes."""
OF_A_NUMBER = frozenset(["mixed", "multiply", "divide", "fraction", "power", "factorial"])
"""Operations within what still counts as one number as written, such as `4.5 \\times 10^{33}`."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    also: Fraction | None = None
    """What it may stand for too: 50 % is 50 or 0.5, 3 million is 3 or 3,000,000."""
    is_decimal: bool = False
    digits: int | None = None
    """Significant digits of a decimal that may have been rounded (LONG_DECIMAL or more)."""
    unit: Unit | None = None


def read_number(text: str) -> Number | None:
    r"""Read an integer, decimal, fraction, mixed number or power, with currency, percent or unit.

    None for anything else, such as `2x`, `\sqrt{2}` or `2 + 3`.
    """
    if len(text) > MAX_CHARS:
        return None
    plain = text.strip()
    if PLAIN.fullmatch(plain):
        return _plain(plain)
    plain = ORDINAL.sub("", CURRENCY.sub("", canonical(plain)).strip())
    whole = TEXT.fullmatch(plain)
    plain = plain if whole is None else whole[1].strip()
    clock = CLOCK.fullmatch(TEXT.sub(r"\1", plain).strip())
    if clock is not None:
        return Number(Fraction(clock[1]))
    lead = LEAD.match(plain)
    plain = DEGREES.sub(" ", plain if lead is None else plain[lead.end() :]).strip()
    comma = COMMA_DECIMAL.fullmatch(plain)
    if comma is not None:
        return _plain(comma[1] + comma[2].replace(".", "").replace(" ", "") + "." + comma[3])
    return _with_unit(plain)


def _plain(text: str) -> Number:
    significant = len(text.lstrip("+-").replace(".", "").lstrip("0"))
    is_decimal = not text.endswith(".") and "." in text
    value = exact_decimal(text.lstrip("+-"))
    assert value is not None  # no exponent
    digits = significant if is_decimal and significant >= LONG_DECIMAL else None
    return Number(-value if text.startswith("-") else value, None, is_decimal, digits)


def _with_unit(text: str) -> Number | None:
    """The number in front of a percent sign, a unit or a magnitude."""
    compound = TWO_UNITS.match(TEXT.sub(r" \1 ", text).strip())
    if compound is not None:
        return _compound(compound)
    bare, unit = split_unit(text)
    is_percent = PERCENT.search(bare)
    if is_percent:
        bare = bare[: is_percent.start()]
    elif PERCENT.fullmatch(" " + unit):
        is_percent, unit = PERCENT.search(" " + unit), ""
    expression = parse(MIXED.sub(r"\1\\frac{\2}{\3}", TEXT.sub(r"\1", bare).strip(), count=1))
    if expression is None or not expression.is_constant or expression.operations - OF_A_NUMBER:
        return None
    try:
        value = evaluate(expression.root, {})
    except UnreadableError:
        return None
    if not isinstance(value, Fraction):
        return None
    magnitude = MAGNITUDES.get(unit.strip().split(" ")[0].lower())
    also = value / 100 if is_percent else value * magnitude if magnitude else None
    return Number(value, also, "." in bare, expression.digits, read_unit(unit))


def _compound(match: re.Match[str]) -> Number | None:
    """18 hours and 48 minutes: 1128 of the smaller unit, or 18.8 of the larger."""
    larger, smaller = read_unit(match[2]), read_unit(match[4])
    if larger is None or smaller is None or larger[0] != smaller[0]:
        return None
    ratio = larger[1] / smaller[1]
    value = _plain(match[1]).value * ratio + _plain(match[3]).value
    return Number(value, value / ratio, unit=smaller)


def split_unit(text: str) -> tuple[str, str]:
    r"""An answer and the unit behind it: `12\pi \text{ cm}^2` is `12\pi` and `cm ^2`."""
    match = UNIT_IN_TEXT.search(text)
    if match is not None and match.start():
        return text[: match.start()].strip(), TEXT.sub(r" \1 ", match[1]).strip()
    match = UNIT_IN_WORDS.search(text)
    if match is None:
        return text, ""
    first = re.split(r"[ .,'/^-]", match[2])[0]
    is_unit = first in SHORT_UNITS or (
        len(first) > 2 and (bool(match[1]) or match.string[match.start() - 1] == "%")
    )
    return (text[: match.start()].strip(), match[2].strip()) if is_unit else (text, "")


def read_value(text: str) -> Number | None:
    r"""`read_number`, and the real value of a constant expression such as `\frac{\pi}{2}`."""
    number = read_number(text)
    if number is not None or len(text) > MAX_CHARS:
        return number
    named = assignment(canonical(text), sums=True)
    bare, unit = split_unit(
        CURRENCY.sub("", canonical(text) if named is None else named[1]).strip()
    )
    value = real_value(bare)
    if value is None or not mpmath.isfinite(value):
        return None if named is None else read_number(named[1])
    if not isinstance(value, Fraction):
        value = Fraction(*mpmath.libmp.to_rational(value._mpf_))
    return Number(value, unit=read_unit(unit))


def same_number(left: Number, right: Number, tolerance: float = 0.0) -> bool:
    """Compare two numbers; `50%` equals both 50 and 0.5, and units of two dimensions never agree.

    Args:
        left: One number.
        right: The other.
        tolerance: Allowed difference relative to the larger magnitude; 0 asks for equality, of long
            decimals to the digits that both give.
    """
    if left.unit is not None and right.unit is not None and left.unit != right.unit:
        if left.unit[0] != right.unit[0]:
            return False
        scaled = left.value * left.unit[1], right.value * right.unit[1]
        return _close(*scaled, left, right, tolerance)
    pairs = [(left.value, right.value)]
    if (left.also is None) != (right.also is None):
        # Where both are marked they mean the same thing: 50 % is not 0.5 %.
        pairs.append((left.also or left.value, right.also or right.value))
    return any(_close(a, b, left, right, tolerance) for a, b in pairs)


def _close(a: Fraction, b: Fraction, left: Number, right: Number, tolerance: float) -> bool:
    if a == b:
        return True
    if tolerance:
        return abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b))
    digits = [number.digits for number in (left, right) if number.digits is not None]
    return bool(digits) and same_value(a, b, min(digits))


def normalize(text: str) -> str:
    r"""Text without the marks that carry no meaning: case, spaces, layout, dollar signs, `\text`."""
    text = TEXT.sub(r"\1", canonical(text)).replace("$", "").replace("*", "").strip()
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text)  # 1 1/2 is not 11/2
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", re.sub(r"\s+", "", text)).rstrip(".")
    alone = re.fullmatch(r"\(([^(),;]*)\)", text)  # (B) is B
    return (alone[1] if alone else text).casefold()


def answer_key(text: str) -> str:
    """A text that is the same for answers that read the same: the value, else the bare text."""
    number = read_number(text)
    value: Any = None if number is None else number.value
    if value is None and len(text) <= MAX_CHARS:
        value = real_value(canonical(text))
    if value is None:
        return normalize(text)
    if isinstance(value, Fraction):  # in base 16, which has no limit of digits
        return f"{value.numerator:#x}/{value.denominator:#x}"
    return str(mpmath.nstr(value, 20))
