r"""The one reader of numbers and the one normal form, for extraction, comparison and voting.

`½`, `\frac12`, `0.5` and `50\%` are read here, with thousands separators, powers of ten, units and
currency. A value is a Fraction as long as only rational operations occur, else an mpmath number of 60
digits. Expressions with variables are compared at points: two that agree at several random points are
the same function. Work is bounded by the length of the text and the size of the numbers; nothing is
evaluated as code.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

from leadspan.grading.expression import (
    LONG_DECIMAL,
    MAX_BITS,
    Expression,
    Node,
    UnreadableError,
    exact_decimal,
    parse,
)
from leadspan.grading.notation import assignment, canonical

MAX_EXPONENT = 10**15
MAX_ARGUMENT = 10**30
"""Of a function: to reduce a larger angle takes as many digits as it has."""
DIGITS = 60
MAX_MAGNITUDE = 10_000
"""Values of more decimal digits are compared but never written out."""
AGREEING_DIGITS = 30
"""Of two values computed with DIGITS digits; what is lost to cancellation stays far below."""
FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "sec": mpmath.sec, "csc": mpmath.csc,
    "cot": mpmath.cot, "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan,
    "arccot": mpmath.acot, "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh,
    "ln": mpmath.log, "log": mpmath.log, "lg": mpmath.log10, "exp": mpmath.exp,
}  # fmt: skip
LOGARITHMS = frozenset(["ln", "log", "lg"])


def evaluate(node: Node, point: Mapping[str, Fraction], is_real: bool = False) -> Any:
    """Value of a node at a point: a Fraction where all is rational, else an mpmath number.

    Args:
        node: From `parse`.
        point: Value of each name.
        is_real: Refuse roots, powers and logarithms of negative numbers.

    Raises:
        UnreadableError: No value there, or one too large to compute.
    """
    try:
        return _value(node, point, is_real)
    except (ZeroDivisionError, OverflowError, ArithmeticError, TypeError, ValueError) as error:
        raise UnreadableError from error


def _value(node: Node, point: Mapping[str, Fraction], is_real: bool) -> Any:
    kind = node[0]
    if kind == "number":
        return node[1]
    if kind == "name":
        return point[node[1]]
    if kind == "constant":
        return {"pi": mpmath.pi(), "e": mpmath.e(), "i": mpmath.mpc(0, 1)}[node[1]]
    if kind == "function":
        return _apply(node, point, is_real)
    values = [_value(part, point, is_real) for part in node[1:]]
    if kind == "root":
        return _power(values[0], _inverse(values[1]), is_real)
    if kind == "power":
        return _power(values[0], values[1], is_real)
    return OPERATIONS[kind](*values)


def _apply(node: Node, point: Mapping[str, Fraction], is_real: bool) -> Any:
    _, name, argument, base = node
    value = _mp(_value(argument, point, is_real))
    if argument[0] == "degrees":
        value = value * mpmath.pi() / 180
    if abs(value) > MAX_ARGUMENT or (name in LOGARITHMS and is_real and _mp(value).real <= 0):
        raise UnreadableError
    if name == "log" and base is not None:
        return mpmath.log(value) / mpmath.log(_mp(_value(base, point, is_real)))
    if base is not None:
        raise UnreadableError
    return FUNCTIONS[name](value)


def _mp(value: Any) -> Any:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _both(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            if left.numerator.bit_length() + right.numerator.bit_length() > 4 * MAX_BITS:
                raise UnreadableError
            return operation(left, right)
        return operation(_mp(left), _mp(right))

    return apply


def _inverse(value: Any) -> Any:
    return 1 / value


def _power(base: Any, exponent: Any, is_real: bool) -> Any:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return _integer_power(base, exponent.numerator)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        exact = _exact_root(base, exponent)
        if exact is not None:
            return exact
    if (
        isinstance(exponent, Fraction)
        and exponent.denominator % 2
        and _mp(base).imag == 0
        and _mp(base).real < 0
    ):
        size = mpmath.power(-_mp(base), _mp(exponent))  # the real root of a negative number
        return -size if exponent.numerator % 2 else size
    if is_real and _mp(base).real < 0:
        raise UnreadableError
    if abs(_mp(exponent)) > MAX_EXPONENT:
        raise UnreadableError
    return mpmath.power(_mp(base), _mp(exponent))


def _integer_power(base: Any, exponent: int) -> Any:
    if isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= MAX_BITS or abs(base) in (0, 1):
            return base**exponent if abs(base) != 1 else base ** (exponent % 2)
    if abs(exponent) > MAX_EXPONENT:
        raise UnreadableError
    return mpmath.power(_mp(base), exponent)


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction | None:
    r"""`\sqrt{9/4}` is 3/2; None where the root is irrational."""
    index = exponent.denominator
    if (
        base < 0
        or index > 10
        or base.numerator.bit_length() + base.denominator.bit_length() > 2_000
    ):
        return None
    with mpmath.workdps(700):
        roots = [int(mpmath.nint(mpmath.root(part, index))) for part in base.as_integer_ratio()]
    if roots[0] ** index != base.numerator or roots[1] ** index != base.denominator:
        return None
    root = Fraction(roots[0], roots[1])
    return _integer_power(root, exponent.numerator) if abs(exponent.numerator) < 100 else None


def _factorial(value: Any) -> Any:
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= 5_000:
        return Fraction(math.factorial(value.numerator))
    if abs(_mp(value)) > MAX_EXPONENT or (isinstance(value, Fraction) and value < 0):
        raise UnreadableError
    return mpmath.factorial(_mp(value))


def _binomial(above: Any, below: Any) -> Any:
    whole = all(isinstance(part, Fraction) and part.denominator == 1 for part in (above, below))
    if whole and 0 <= below <= above <= 2_000:
        return Fraction(math.comb(above.numerator, below.numerator))
    return mpmath.binomial(_mp(above), _mp(below))


def _floor(value: Any) -> Fraction:
    return Fraction(math.floor(value) if isinstance(value, Fraction) else int(mpmath.floor(value)))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": _both(lambda left, right: left + right), "mixed": _both(lambda left, right: left + right),
    "subtract": _both(lambda left, right: left - right), "multiply": _both(lambda left, right: left * right),
    "divide": _both(lambda left, right: left / right), "fraction": _both(lambda left, right: left / right),
    "negative": lambda value: -value, "degrees": lambda value: value, "absolute": abs,
    "factorial": _factorial, "binomial": _binomial,
    "floor": _floor, "ceil": lambda value: -_floor(-value),
}  # fmt: skip


def real_value(text: str) -> Any:
    """Value of a constant real expression, a Fraction or an mpmath number; None for anything else."""
    expression = parse(text)
    if expression is None or not expression.is_constant:
        return None
    try:
        with mpmath.workdps(DIGITS):
            value = evaluate(expression.root, {})
            size = abs(_mp(value))
            is_small = size == 0 or abs(mpmath.log10(size)) < MAX_MAGNITUDE
    except UnreadableError:
        return None
    return value if is_small and isinstance(value, Fraction | mpmath.mpf) else None


def same_expression(left: Expression, right: Expression) -> bool | None:
    """Whether two expressions are the same number or function; None where that cannot be told."""
    digits = min((d for d in (left.digits, right.digits) if d is not None), default=None)
    with mpmath.workdps(DIGITS):
        verdicts = [
            verdict
            for point, is_real in points(left.names | right.names)
            if (verdict := _agree_at(left, right, point, is_real, digits)) is not None
        ]
    if False in verdicts:
        return False
    return True if len(verdicts) >= (1 if not left.names | right.names else 3) else None


def points(names: frozenset[str]) -> list[tuple[dict[str, Fraction], bool]]:
    """Points that are the same for the same names on both sides: positive ones, then mixed signs."""
    if not names:
        return [({}, False)]
    return [
        (
            {name: Fraction(_draw(name, trial) * (-1 if trial > 4 else 1), 1009) for name in names},
            trial > 4,
        )
        for trial in range(7)
    ]


def _draw(name: str, trial: int) -> int:
    return 200 + zlib.crc32(f"{name}/{trial}".encode()) % 3_000


def _agree_at(
    left: Expression,
    right: Expression,
    point: Mapping[str, Fraction],
    is_real: bool,
    digits: int | None,
) -> bool | None:
    try:
        values = [evaluate(side.root, point, is_real) for side in (left, right)]
    except UnreadableError:
        return None
    return same_value(values[0], values[1], digits)


def same_value(left: Any, right: Any, digits: int | None) -> bool:
    """Equal: exactly if both are Fractions, else to AGREEING_DIGITS, or to `digits` where given."""
    if digits is None and isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    with mpmath.workdps(DIGITS):
        a, b = _mp(left), _mp(right)
        size = max(abs(a), abs(b))
        if size == 0:
            return True
        if not mpmath.isfinite(size):
            return bool(a == b)
        if digits is None:
            return bool(abs(a - b) <= size * mpmath.mpf(10) ** -AGREEING_DIGITS)
        unit = mpmath.mpf(10) ** (int(mpmath.floor(mpmath.log10(size))) + 1 - digits)
        return bool(abs(a - b) < unit * mpmath.mpf("0.999"))


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
    plain = (
        LEAD.sub("", DEGREES.sub(" ", plain), count=1).strip()
        if _leads(plain)
        else DEGREES.sub(" ", plain).strip()
    )
    comma = COMMA_DECIMAL.fullmatch(plain)
    if comma is not None:
        return _plain(comma[1] + comma[2].replace(".", "").replace(" ", "") + "." + comma[3])
    return _with_unit(plain)


def _leads(text: str) -> bool:
    return LEAD.match(text) is not None


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
