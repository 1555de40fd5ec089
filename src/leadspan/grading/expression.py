r"""Read an expression in canonical LaTeX or plain text into a tree.

Nothing is evaluated as code; work is bounded by the length of the text. Knows nothing about values,
lists, relations or units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_CHARS = 1_000
"""A longer text is not read as an expression."""
MAX_DEPTH = 60
MAX_BITS = 60_000
"""Exact numbers stay about this size."""
LONG_DECIMAL = 6
"""A decimal of at least so many significant digits may be a rounded value; a shorter one is exact."""

INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
FUNCTIONS = frozenset(
    ["sin", "cos", "tan", "sec", "csc", "cot", "arcsin", "arccos", "arctan", "arccot",
     "sinh", "cosh", "tanh", "ln", "log", "lg", "exp"]
)  # fmt: skip
CONSTANTS = ("sqrt", "cbrt", "pi", "infty", "infinity", "inf", "oo")
WORDS = "|".join(sorted([*FUNCTIONS, *CONSTANTS], key=len, reverse=True))
SPELLED = {"infinity": "infty", "inf": "infty", "oo": "infty"}
TOKEN = re.compile(
    rf"""\s*(?:
    (?P<repeating>\d*\.\d*\\(?:overline|bar|dot)\s*\{{\d+\}})
    |(?P<number>
        (?:(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d{{1,3}}(?:\ \d{{3}})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)
        (?:[eE][-+]?\d{{1,6}}(?![\d.]))?)
    |\\(?P<command>[A-Za-z]+)|(?P<word>{WORDS})(?![a-z])|(?P<letter>[A-Za-z]'*)
    |(?P<mark>\*\*|[-+*/^_!(){{}}|\[\]]))""",
    re.VERBOSE,
)  # fmt: skip
NAME = re.compile(r"\s*_\s*(?:\{\s*([A-Za-z0-9,+\- ]{1,20})\s*\}|([A-Za-z0-9]))")
GREEK = frozenset(
    ["alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "theta", "lambda", "mu", "rho",
     "sigma", "tau", "phi", "varphi", "omega", "eta", "zeta", "kappa", "nu", "xi", "chi", "psi",
     "Delta", "Omega", "Phi", "ell", "hbar", "infty"]
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
