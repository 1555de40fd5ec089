"""Compute an expression, exactly or to 60 digits, and compare two as numbers or as functions.

A value is a Fraction as long as only rational operations occur, else an mpmath number. Expressions with
variables are compared at points: two that agree at several are the same function. Work is bounded by the
length of the text and the size of the numbers.
"""

from __future__ import annotations

import math
import operator
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from leadspan.grading.expression import MAX_BITS, Expression, Node, UnreadableError, parse

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
        return _power(values[0], 1 / values[1], is_real)
    if kind == "power":
        return _power(values[0], values[1], is_real)
    return OPERATIONS[kind](*values)


def _apply(node: Node, point: Mapping[str, Fraction], is_real: bool) -> Any:
    _, name, argument, base = node
    value = to_mp(_value(argument, point, is_real))
    if argument[0] == "degrees":
        value = value * mpmath.pi() / 180
    if abs(value) > MAX_ARGUMENT or (name in LOGARITHMS and is_real and to_mp(value).real <= 0):
        raise UnreadableError
    if name == "log" and base is not None:
        return mpmath.log(value) / mpmath.log(to_mp(_value(base, point, is_real)))
    if base is not None:
        raise UnreadableError
    return FUNCTIONS[name](value)


def to_mp(value: Any) -> Any:
    """An mpmath number of the current precision."""
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _both(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            if left.numerator.bit_length() + right.numerator.bit_length() > 4 * MAX_BITS:
                raise UnreadableError
            return operation(left, right)
        return operation(to_mp(left), to_mp(right))

    return apply


def _power(base: Any, exponent: Any, is_real: bool) -> Any:
    if isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            return _integer_power(base, exponent.numerator)
        exact = _exact_root(base, exponent) if isinstance(base, Fraction) else None
        if exact is not None:
            return exact
    low, high = to_mp(base), to_mp(exponent)
    if isinstance(exponent, Fraction) and exponent.denominator % 2 and low.imag == 0 > low.real:
        size = mpmath.power(-low, high)  # the real root of a negative number
        return -size if exponent.numerator % 2 else size
    if (is_real and low.real < 0) or abs(high) > MAX_EXPONENT:
        raise UnreadableError
    return mpmath.power(low, high)


def _integer_power(base: Any, exponent: int) -> Any:
    if isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= MAX_BITS or abs(base) in (0, 1):
            return base**exponent if abs(base) != 1 else base ** (exponent % 2)
    if abs(exponent) > MAX_EXPONENT:
        raise UnreadableError
    return mpmath.power(to_mp(base), exponent)


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction | None:
    r"""`\sqrt{9/4}` is 3/2; None where the root is irrational."""
    index = exponent.denominator
    num_bits = base.numerator.bit_length() + base.denominator.bit_length()
    if base < 0 or index > 10 or num_bits > 2_000:
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
    if abs(to_mp(value)) > MAX_EXPONENT or (isinstance(value, Fraction) and value < 0):
        raise UnreadableError
    return mpmath.factorial(to_mp(value))


def _binomial(above: Any, below: Any) -> Any:
    whole = all(isinstance(part, Fraction) and part.denominator == 1 for part in (above, below))
    if whole and 0 <= below <= above <= 2_000:
        return Fraction(math.comb(above.numerator, below.numerator))
    return mpmath.binomial(to_mp(above), to_mp(below))


def _floor(value: Any) -> Fraction:
    return Fraction(math.floor(value) if isinstance(value, Fraction) else int(mpmath.floor(value)))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": _both(operator.add), "mixed": _both(operator.add), "subtract": _both(operator.sub),
    "multiply": _both(operator.mul), "divide": _both(operator.truediv), "fraction": _both(operator.truediv),
    "negative": operator.neg, "degrees": operator.pos, "absolute": abs,
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
            size = abs(to_mp(value))
            is_small = size == 0 or abs(mpmath.log10(size)) < MAX_MAGNITUDE
    except UnreadableError:
        return None
    return value if is_small and isinstance(value, Fraction | mpmath.mpf) else None


def same_expression(left: Expression, right: Expression) -> bool | None:
    """Whether two expressions are the same number or function; None where that cannot be told."""
    digits = min((d for d in (left.digits, right.digits) if d is not None), default=None)
    pairs = values_at_points(left, right)
    with mpmath.workdps(DIGITS):
        verdicts = [same_value(a, b, digits) for a, b in pairs]
    if False in verdicts:
        return False
    return True if len(verdicts) >= (3 if left.names | right.names else 1) else None


def values_at_points(left: Expression, right: Expression) -> list[tuple[Any, Any]]:
    """Values of both at points that only their names decide: positive ones, then mixed signs.

    Points at which one of them has no value are left out.
    """
    names = left.names | right.names
    pairs = []
    with mpmath.workdps(DIGITS):
        for trial in range(7 if names else 1):
            is_real = trial > 4
            sign = -1 if is_real else 1
            point = {name: Fraction(sign * _draw(name, trial), 1009) for name in names}
            try:
                pairs.append(
                    (evaluate(left.root, point, is_real), evaluate(right.root, point, is_real))
                )
            except UnreadableError:
                continue
    return pairs


def _draw(name: str, trial: int) -> int:
    return 200 + zlib.crc32(f"{name}/{trial}".encode()) % 3_000


def same_value(left: Any, right: Any, digits: int | None) -> bool:
    """Equal: exactly if both are Fractions, else to AGREEING_DIGITS, or to `digits` where given."""
    if digits is None and isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    with mpmath.workdps(DIGITS):
        a, b = to_mp(left), to_mp(right)
        size = max(abs(a), abs(b))
        if size == 0:
            return True
        if not mpmath.isfinite(size):
            return bool(a == b)
        if digits is None:
            return bool(abs(a - b) <= size * mpmath.mpf(10) ** -AGREEING_DIGITS)
        unit = mpmath.mpf(10) ** (int(mpmath.floor(mpmath.log10(size))) + 1 - digits)
        return bool(abs(a - b) < unit * mpmath.mpf("0.999"))
