r"""Read the value of a gold answer or of a piece of a trace: numbers, roots, multiples of pi, a + bi.

A gold may hold several values: a tuple, a set, `1 \pm \sqrt{5}`. Answers that are no number are found
whatever their spacing and their way of writing the same mark. Pure and linear in the text; evaluates
nothing but its own small grammar. Knows nothing about traces or positions.
"""

from __future__ import annotations

import cmath
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from leadspan.grading.golds import read_golds
from leadspan.grading.notation import canonical, read_group
from leadspan.grading.numbers import CURRENCY, DEGREES, TEXT, read_number

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
    pieces = list(_iter_pieces(text))
    whole = "".join(piece for piece, _, _ in pieces)
    # One piece more than the text has room for is as good as all of a longer needle: not there.
    needle = "".join(piece for piece, _, _ in islice(_iter_pieces(wanted), len(whole) + 1))
    if not needle:
        return []
    begins = [start for piece, start, _ in pieces for _ in piece]
    ends = [end for piece, _, end in pieces for _ in piece]
    found, at = [], whole.find(needle)
    while at >= 0:
        after = at + len(needle)
        start, end = begins[at], ends[after - 1]
        if not (_goes_on(text, start) or _goes_on(text, end)):
            found.append((start, end))
        at = whole.find(needle, after)
    return found


def _iter_pieces(text: str) -> Iterator[tuple[str, int, int]]:
    """Marks in their one spelling, with where each stands."""
    for match in _PIECE.finditer(text):
        piece = _SAME.get(match[0], match[0])
        if piece not in _SILENT and not piece.isspace():
            yield piece, match.start(), match.end()


def _goes_on(text: str, edge: int) -> bool:
    """Whether an edge lies within a number or a word."""
    pair = text[max(0, edge - 1) : edge + 1]
    return len(pair) == 2 and (pair.isdigit() or pair.isalpha())


RELATIVE_TOLERANCE = 1e-9
MAX_LENGTH = 80
"""Characters beyond which a text is not one value."""
MAX_GOLD_LENGTH = 400
"""Characters beyond which a gold is not read, only searched as it stands."""
MAX_MEMBERS = 12
"""Values beyond which a gold is not searched value by value."""

Kind = Literal["number", "expression", "values", "word", "choice", "verbatim"]

_NAMED = re.compile(r"^\s*[A-Za-z]\w?\s*=")
PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<frac>\\[dt]?frac)|(?P<root>\\sqrt|√|sqrt\b)|(?P<pi>\\pi\b|π|pi\b)|(?P<imaginary>i\b)"
    r"|(?P<operator>\\cdot|\\times|[-+*/^·×−]|[(){}]))"
)


@dataclass(frozen=True, slots=True)
class Gold:
    """What counts as the gold answer."""

    kind: Kind
    text: str
    """The answer without dollar signs, boxes, degrees and `\\text`."""
    value: complex | None = None
    """Of a number or an expression."""
    members: tuple[Gold, ...] = ()
    """Of `values`: what a text must say to say the gold."""
    is_ordered: bool = False
    """Whether it must say them in this order."""


def read_accepted(golds: Iterable[str]) -> tuple[Gold, ...]:
    """The golds of a trace as what to look for, each once."""
    texts = accepted_texts(golds)
    return tuple(dict.fromkeys(gold for text in texts if (gold := read_gold(text)) is not None))


def accepted_texts(golds: Iterable[str]) -> tuple[str, ...]:
    """The answers that golds as written hold: the end of a solution, the content of a box."""
    texts: list[str] = []
    for gold in golds:
        try:
            texts += read_golds(gold)
        except ValueError:  # it says that it is structured but is not: it counts as it stands
            texts.append(gold)
    return tuple(texts)


def read_gold(gold: str) -> Gold | None:
    """Classify a gold answer; None where there is nothing to look for."""
    if len(gold) > MAX_GOLD_LENGTH:
        return Gold("verbatim", gold.strip()) if gold.strip() else None
    text = _bare(gold)
    if not text:
        return None
    number = read_number(text)
    if number is not None:
        kind: Kind = (
            "number" if number.value.denominator == 1 or number.is_decimal else "expression"
        )
        return Gold(kind, text, complex(float(number.value)))
    value = evaluate(text)
    if value is not None:
        return Gold("expression", text, value)
    group = read_group(text)
    members = _members(group.members if group else (text,))
    if members:
        is_ordered = group is not None and group.kind[:1] in ("(", "[")
        return Gold("values", text, members=members, is_ordered=is_ordered)
    if re.fullmatch(r"\(?[A-J]\)?", text):
        return Gold("choice", text.strip("()"))
    if re.fullmatch(r"[^\W\d_](?:[^\W\d_]|['\s-])*", text):
        return Gold("word", text)
    return Gold("verbatim", text)


def _bare(gold: str) -> str:
    text = gold.strip().removeprefix("$").removesuffix("$").strip()
    boxed = re.fullmatch(r"\\boxed\{(.*)\}", text, re.DOTALL)
    text = TEXT.sub(r"\1", canonical(boxed[1] if boxed else text))
    return DEGREES.sub("", CURRENCY.sub("", text)).strip().rstrip(".").strip()


def _members(parts: tuple[str, ...]) -> tuple[Gold, ...]:
    r"""Several values in one gold, `1 \pm \sqrt{5}` as two; none where a part is no value."""
    found: dict[Gold, None] = {}
    for part in parts if len(parts) <= MAX_MEMBERS else ():
        bare = _NAMED.sub("", part)
        for signed in dict.fromkeys((PLUS_MINUS.sub("+", bare), PLUS_MINUS.sub("-", bare))):
            value = evaluate(signed)
            if value is None:
                return ()
            is_number = not value.imag and value.real.is_integer()
            found[Gold("number" if is_number else "expression", signed.strip(), value)] = None
    return tuple(found) if len(found) > 1 else ()


def evaluate(text: str) -> complex | None:
    r"""Value of an arithmetic expression in plain text or LaTeX, or None where it is not one.

    Grammar: numbers, `pi`, `i`, roots, `\frac`, the four operations, powers, implicit products.
    """
    if len(text) > MAX_LENGTH:
        return None
    tokens = _tokens(text)
    if not tokens:
        return None
    parser = _Parser(tokens)
    try:
        value = parser.sum()
    except (_UnreadableError, ZeroDivisionError, OverflowError, ValueError):
        return None
    finite = math.isfinite(value.real) and math.isfinite(value.imag)
    return value if parser.at == len(tokens) and finite else None


def same_value(left: complex, right: complex) -> bool:
    """Equal but for rounding of the last bits."""
    return cmath.isclose(left, right, rel_tol=RELATIVE_TOLERANCE)


class _UnreadableError(Exception):
    pass


def _tokens(text: str) -> list[tuple[str, str]] | None:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            return None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent over tokens; depth is bounded by MAX_LENGTH."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> complex:
        total = self.product()
        while self.peek()[1] in ("+", "-", "−"):
            sign = 1 if self.take()[1] == "+" else -1
            total += sign * self.product()
        return total

    def product(self) -> complex:
        total = self.factor()
        while True:
            kind, text = self.peek()
            if text in ("*", "·", "×", "\\cdot", "\\times"):
                self.take()
                total *= self.factor()
            elif text == "/":
                self.take()
                total /= self.factor()
            elif kind in ("frac", "root", "pi", "imaginary") or text in ("(", "{"):
                total *= self.factor()  # implicit product, `2\sqrt{3}`
            else:
                return total

    def factor(self) -> complex:
        if self.peek()[1] in ("-", "−", "+"):
            sign = 1 if self.take()[1] == "+" else -1
            return sign * self.factor()
        base = self.atom()
        if self.peek()[1] == "^":
            self.take()
            exponent = self.factor()
            if abs(exponent) > 64:
                raise _UnreadableError
            return complex(base**exponent)
        return base

    def atom(self) -> complex:
        kind, text = self.take()
        if kind == "number":
            return complex(float(text.replace(",", "")))
        if kind == "pi":
            return complex(math.pi)
        if kind == "imaginary":
            return 1j
        if kind == "root":
            return cmath.sqrt(self.argument())
        if kind == "frac":
            above = self.argument()
            return above / self.argument()
        if text in ("(", "{"):
            inner = self.sum()
            if self.take()[1] != {"(": ")", "{": "}"}[text]:
                raise _UnreadableError
            return inner
        raise _UnreadableError

    def argument(self) -> complex:
        r"""What `\sqrt` or `\frac` takes: a group, or the next digit of `\frac14`."""
        kind, text = self.peek()
        if kind == "number" and len(text) > 1 and self._is_tight_frac():
            self.tokens[self.at] = (kind, text[1:])
            return complex(float(text[0]))
        return self.atom()

    def _is_tight_frac(self) -> bool:
        return self.at > 0 and self.tokens[self.at - 1][0] == "frac"


UNITS: dict[str, str] = {
    "time": r"seconds?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|decades?",
    "distance": r"miles?|meters?|metres?|kilomet(?:er|re)s?|km|centimet(?:er|re)s?|cm|feet|foot|ft|"
    r"inch(?:es)?|yards?|blocks?",
    "money": r"dollars?|cents?|euros?|pounds sterling|bucks?",
    "weight": r"pounds?|lbs?|ounces?|oz|kilograms?|kgs?|grams?|tons?|tonnes?",
    "share": r"percent(?:age)?(?: points?)?|\\?%",
    "speed": r"mph|km/h|miles per hour|miles an hour|meters per second",
}
_AFTER = {kind: re.compile(rf"[\s-]?(?:{names})(?![\w])", re.I) for kind, names in UNITS.items()}
_MONEY_BEFORE = re.compile(r"[$€£]\s*$")
_ASKED: tuple[tuple[str, str], ...] = (
    ("share", r"what (?:percent|percentage|fraction)|how many percent|as a percentage|% of"),
    (
        "money",
        r"how much (?:money|did .{1,60}\b(?:pay|spend|cost|earn|make|save|owe)|does .{1,60}\b(?:pay|"
        r"spend|cost|earn|make|save|owe)|will .{1,60}\b(?:pay|spend|cost|earn|make|save|owe)|profit|"
        r"change)|how many (?:more )?dollars|in (?:dollars|cents)|what .{0,20}\b(?:cost|price|total "
        r"cost|profit)",
    ),
    ("speed", r"how fast|what speed|miles per hour\)"),
    (
        "time",
        r"how many (?:more )?(?:seconds|minutes|hours|days|weeks|months|years)|how old|how long (?:did|"
        r"does|will|would) it take|in (?:hours|minutes|days|years)\b|how much (?:longer|time)",
    ),
    ("distance", r"how far|how many (?:more )?(?:miles|meters|feet|inches|km|kilometers)|how tall"),
    ("weight", r"how (?:heavy|many (?:more )?(?:pounds|ounces|grams|kilograms|tons))|weigh"),
)
_ASKS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _ASKED)


def kind_asked(question: str) -> str | None:
    """The kind of quantity that a question asks for; None where it does not say."""
    return next((kind for kind, pattern in _ASKS if pattern.search(question)), None)


def kind_named(left: str, right: str) -> str | None:
    """The kind of quantity that a number with this text on either side is; None for a bare one."""
    if _MONEY_BEFORE.search(left):
        return "money"
    order = ("speed", *(kind for kind in UNITS if kind != "speed"))
    return next((kind for kind in order if _AFTER[kind].match(right)), None)
