r"""Read an expression in canonical LaTeX or plain text and compute its value, exactly where it can.

A value is a Fraction as long as only rational operations occur, else an mpmath number of 60 digits.
Expressions with variables are compared at points: two that agree at several random points are the
same function. Nothing is evaluated as code; work is bounded by the length of the text and by the
size of the numbers. Knows nothing about lists, relations or units.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath

MAX_CHARS = 1_000
"""A longer text is not read as an expression."""
MAX_DEPTH = 60
MAX_BITS = 60_000
"""Exact powers and factorials stay below this size."""
MAX_EXPONENT = 10**15
MAX_ARGUMENT = 10**30
"""Of a function: to reduce a larger angle takes as many digits as it has."""
DIGITS = 60
MAX_MAGNITUDE = 10_000
"""Values of more decimal digits are compared but never written out."""
AGREEING_DIGITS = 30
"""Of two values computed with DIGITS digits; what is lost to cancellation stays far below."""
LONG_DECIMAL = 6
"""A decimal of at least so many significant digits may be a rounded value; a shorter one is exact."""

FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "sec": mpmath.sec, "csc": mpmath.csc, "cot": mpmath.cot,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arccot": mpmath.acot, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "ln": mpmath.log, "log": mpmath.log, "lg": mpmath.log10, "exp": mpmath.exp,
}  # fmt: skip
LOGARITHMS = frozenset(["ln", "log", "lg"])
INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
WORDS = "|".join(
    sorted([*FUNCTIONS, "sqrt", "cbrt", "pi", "infty", "infinity", "inf", "oo"], key=len)[::-1]
)
SPELLED = {"infinity": "infty", "inf": "infty", "oo": "infty"}
TOKEN = re.compile(
    rf"""\s*(?:
    (?P<repeating>\d*\.\d*\\(?:overline|bar|dot)\s*\{{\d+\}})
    |(?P<number>(?:(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d{{1,3}}(?:\ \d{{3}})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{{1,6}}(?![\d.]))?)
    |\\(?P<command>[A-Za-z]+)|(?P<word>{WORDS})(?![a-z])|(?P<letter>[A-Za-z]'*)
    |(?P<mark>\*\*|[-+*/^_!(){{}}|\[\]]))""",
    re.VERBOSE,
)  # fmt: skip
NAME = re.compile(r"\s*_\s*(?:\{\s*([A-Za-z0-9,+\- ]{1,20})\s*\}|([A-Za-z0-9]))")
GREEK = frozenset(
    ["alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "theta", "lambda", "mu", "rho", "sigma", "tau", "phi",
     "varphi", "omega", "eta", "zeta", "kappa", "nu", "xi", "chi", "psi", "Delta", "Omega", "Phi", "ell", "hbar", "infty"]
)  # fmt: skip
CLOSING = {"(": ")", "{": "}", "[": "]"}
PRODUCTS = frozenset(["\\times", "\\cdot", "*"])
QUOTIENTS = frozenset(["/", "\\div"])


class UnreadableError(ValueError):
    """The text is no expression, or has no value here."""


Node = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    root: Node
    names: frozenset[str]
    digits: int | None = None
    """Significant digits of the least precise long decimal; None where all is exact."""
    operations: frozenset[str] = field(default_factory=frozenset)
    """Which kinds of node occur."""

    @property
    def is_constant(self) -> bool:
        """No variables."""
        return not self.names


def parse(text: str) -> Expression | None:
    """Parse canonical text; None where it is not an expression."""
    if len(text) > MAX_CHARS or not text.strip():
        return None
    try:
        parser = _Parser(text)
        root = parser.all()
    except (UnreadableError, RecursionError, ZeroDivisionError):
        return None
    digits = min(parser.digits) if parser.digits else None
    return Expression(root, frozenset(parser.names), digits, frozenset(parser.operations))


class _Parser:
    """Sums of products of powers, as in school."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        self._text, self._next, self._depth, self._bars = text, 0, 0, 0
        self.names: set[str] = set()
        self.digits: list[int] = []
        self.operations: set[str] = set()
        place, end = 0, len(text.rstrip())
        while place < end:
            match = TOKEN.match(text, place)
            if match is None or match.end() == place:
                raise UnreadableError
            kind = str(match.lastgroup)
            token = match[kind]
            if kind == "word":
                kind, token = "command", SPELLED.get(token, token)
            place = match.end()
            if kind in ("letter", "command") and (kind == "letter" or token in GREEK):
                name = NAME.match(text, place)
                if name is not None:
                    token, place = f"{token}_{(name[1] or name[2]).replace(' ', '')}", name.end()
                kind = "letter"
            self._tokens.append((kind, "\\" + token if kind == "command" else token, place))

    def all(self) -> Node:
        root = self._sum()
        if self._next != len(self._tokens):
            raise UnreadableError
        return root

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise UnreadableError
        kind, token, _ = self._tokens[self._next]
        self._next += 1
        return kind, token

    def _eat(self, wanted: str) -> None:
        if self._take()[1] != wanted:
            raise UnreadableError

    def _node(self, operation: str, *arguments: Any) -> Node:
        self.operations.add(operation)
        return (operation, *arguments)

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError
        value = self._product()
        while self._peek() in ("+", "-"):
            sign = self._take()[1]
            value = self._node("add" if sign == "+" else "subtract", value, self._product())
        self._depth -= 1
        return value

    def _product(self) -> Node:
        value = self._signed()
        while True:
            token = self._peek()
            if token in PRODUCTS:
                self._take()
                value = self._node("multiply", value, self._signed())
            elif token in QUOTIENTS:
                self._take()
                value = self._node("divide", value, self._signed())
            elif self._starts_atom():
                value = self._beside(value)
            else:
                return value

    def _beside(self, left: Node) -> Node:
        r"""Two factors side by side: a product, or the mixed number `3\frac{1}{2}`."""
        right = self._power()
        if left[0] == "negative" and left[1][0] == "number":
            return ("negative", self._multiplied(left[1], right))
        return self._multiplied(left, right)

    def _multiplied(self, left: Node, right: Node) -> Node:
        is_mixed = left[0] == "number" and right[0] == "fraction" and left[1].denominator == 1
        if is_mixed and all(part[0] == "number" for part in right[1:]):
            return self._node("mixed", left, right)
        if left[0] == right[0] == "number":
            raise UnreadableError
        return self._node("multiply", left, right)

    def _starts_atom(self) -> bool:
        if self._next == len(self._tokens):
            return False
        kind, token, _ = self._tokens[self._next]
        if token == "|":
            return self._bars == 0
        return token in CLOSING or (
            kind != "mark" and not (kind == "command" and token in PRODUCTS | QUOTIENTS)
        )

    def _signed(self) -> Node:
        if self._peek() in ("+", "-"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise UnreadableError
            sign, value = self._take()[1], self._signed()
            self._depth -= 1
            return value if sign == "+" else ("negative", value)
        return self._power()

    def _power(self) -> Node:
        base = self._postfix()
        if self._peek() not in ("^", "**"):
            return base
        self._take()
        if self._peek() == "\\circ":
            self._take()
            return self._node("degrees", base)
        return self._node("power", base, self._exponent())

    def _exponent(self) -> Node:
        if self._peek() in ("-", "+"):
            return self._signed()
        if self._peek() == "{":
            return self._group()
        return self._power()

    def _postfix(self) -> Node:
        value = self._atom()
        while self._peek() == "!":
            self._take()
            value = self._node("factorial", value)
        return value

    def _group(self) -> Node:
        opening = self._take()[1]
        if opening not in CLOSING:
            raise UnreadableError
        bars, self._bars = self._bars, 0
        value = self._sum()
        self._bars = bars
        self._eat(CLOSING[opening])
        return value

    def _atom(self) -> Node:
        kind, token = self._take()
        if kind == "number":
            return self._number(token)
        if kind == "repeating":
            return ("number", _repeating(token))
        if kind == "letter":
            if token not in ("e", "i"):
                self.names.add(token)
                return ("name", token)
            return self._node("constant", token)
        if token in CLOSING:
            self._next -= 1
            return self._group()
        if token == "|":
            self._bars += 1
            value = self._sum()
            self._bars -= 1
            self._eat("|")
            return self._node("absolute", value)
        if kind == "command":
            return self._command(token[1:])
        raise UnreadableError

    def _number(self, token: str) -> Node:
        token = token.replace(",", "").replace(" ", "")
        mantissa = re.split("[eE]", token)[0]
        if "." in mantissa:
            significant = len(mantissa.replace(".", "").lstrip("0"))
            if significant >= LONG_DECIMAL:
                self.digits.append(significant)
        value = exact_decimal(token)
        if value is None:
            raise UnreadableError
        return ("number", value)

    def _argument(self) -> Node:
        if self._peek() == "{":
            return self._group()
        return self._atom()

    def _command(self, name: str) -> Node:
        if name == "frac":
            return self._node("fraction", self._argument(), self._argument())
        if name in ("binom", "dbinom", "tbinom"):
            return self._node("binomial", self._argument(), self._argument())
        if name in ("sqrt", "cbrt"):
            return self._root(name)
        if name == "pi":
            return self._node("constant", "pi")
        if name in FUNCTIONS:
            return self._function(name)
        if name in ("lfloor", "lceil"):
            value = self._sum()
            self._eat("\\r" + name[1:])
            return self._node(name[1:], value)
        if name == "text" and self._peek() == "{":
            inner = self._group()
            if inner[0] in ("name", "constant", "number"):
                return inner
        raise UnreadableError

    def _root(self, name: str) -> Node:
        index: Node = ("number", Fraction(3 if name == "cbrt" else 2))
        if self._peek() == "[":
            index = self._group()
        return self._node("root", self._argument(), index)

    def _function(self, name: str) -> Node:
        base: Node | None = None
        exponent: Node | None = None
        while self._peek() in ("_", "^"):
            if self._take()[1] == "_":
                base = self._argument()
            else:
                exponent = self._exponent()
        if exponent == ("negative", ("number", Fraction(1))) and name in INVERSE:
            name, exponent = INVERSE[name], None
        value = self._node("function", name, self._function_argument(), base)
        return value if exponent is None else self._node("power", value, exponent)

    def _function_argument(self) -> Node:
        if self._peek() in CLOSING:
            argument = self._group()
            if self._peek() in ("^", "!"):  # \sin (x)^2 is rare; read it as the argument's power
                self._take()
                return self._node("power", argument, self._exponent())
            return argument
        if self._peek() == "-":
            return self._signed()
        value = self._power()
        while (
            self._starts_atom()
            and self._peek() not in CLOSING
            and self._peek()[1:] not in FUNCTIONS
        ):
            value = self._beside(value)
        if self._peek() == "/" and value[0] in ("constant", "name", "number", "multiply"):
            self._take()
            value = self._node("divide", value, self._power())
        return value


def exact_decimal(token: str) -> Fraction | None:
    """`12.5e3` exactly; None where the exponent is too large to write out."""
    mantissa, _, exponent = token.lower().partition("e")
    if abs(int(exponent or "0")) > MAX_BITS // 4 or len(mantissa) > 4_000:
        return None
    whole, _, part = mantissa.partition(".")
    digits = Fraction(int((whole + part) or "0"), 10 ** len(part))
    return digits * Fraction(10) ** int(exponent or "0")


def _repeating(token: str) -> Fraction:
    r"""`0.1\overline{6}` is 1/6."""
    plain, _, cycle = token.partition("\\")
    cycle = cycle[cycle.index("{") + 1 : -1]
    whole, _, part = plain.partition(".")
    start = Fraction(int((whole + part) or "0"), 10 ** len(part))
    return start + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(part))


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
    """`\\sqrt{9/4}` is 3/2; None where the root is irrational."""
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
    "negative": lambda value: -value, "degrees": lambda value: value, "absolute": abs, "factorial": _factorial, "binomial": _binomial,
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
