r"""Find every place of a text that says the gold answer, by value and not by spelling.

`1,170`, `1170.00` and `\$1170` are one number; `1/4`, `\frac14` and `0.25` one fraction. Knows
nothing about what a mention is worth: that is `derivation`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from leadspan.analysis.values import Gold, evaluate, same_value

SMALL_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}

# A digit glued to a letter or an exponent mark is an index, a label or a power, not a number.
_NUMBER = re.compile(
    r"(?<![A-Za-z\d_^.\\])(?<!\^\{)(?<!_\{)(?<!\d,)"
    r"(?P<number>\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<below>/\d+)?(?P<scale>\s(?:thousand|million|billion)\b)?(?!\d)"
)
_OPERAND_BEFORE = re.compile(r"(?:[\d)}%²³]|(?:^|[^A-Za-z])[A-Za-z])$")
_SIMPLE = r"(?:\d[\d,]*(?:\.\d+)?)"
_ROOT = r"(?:(?:\\sqrt|sqrt|√)\s*(?:\{[^{}]{1,20}\}|\([^()]{1,20}\)|\d+))"
_PI = r"(?:\\pi\b|π|\bpi\b)"
_PART = rf"(?:{_SIMPLE}?\s?\*?\s?(?:{_ROOT}|{_PI})|{_SIMPLE})"
_FRAC = r"(?:\\[dt]?frac\s*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\d\s*\d))"
_TERM = rf"(?:{_SIMPLE}?\s?{_FRAC}(?:\s?{_ROOT}|\s?{_PI})?|{_PART}(?:\s?/\s?{_PART})?)"
_EXPRESSION = re.compile(rf"(?<![A-Za-z\d_^.\\])[-−]?{_TERM}(?!\d)")
_COMPLEX = re.compile(rf"(?<![A-Za-z\d_^.\\])[-−]?{_TERM}?\s?[-+−]?\s?{_TERM}?\s?i\b")


@dataclass(frozen=True, slots=True)
class Mention:
    """One place where the gold's value stands, `[start, end)` in characters."""

    start: int
    end: int
    in_words: bool = False
    """True where a number is spelled out."""


def find_mentions(text: str, gold: Gold) -> list[Mention]:
    """Every mention of `gold` in `text`, in order of their starts."""
    return list(_iter_mentions(text, gold))


def _iter_mentions(text: str, gold: Gold) -> Iterator[Mention]:
    if gold.kind == "number" and gold.value is not None:
        yield from _numbers(text, gold.value.real)
    elif gold.kind == "expression" and gold.value is not None:
        yield from _expressions(text, gold.value)
    elif gold.kind == "choice":
        pattern = rf"(?<![A-Za-z]){gold.text}(?![A-Za-z'’])"
        yield from (Mention(*match.span()) for match in re.finditer(pattern, text))
    elif gold.kind == "word":
        # Names and symbols of one or two letters mean nothing in another case.
        flags = 0 if len(gold.text) <= 2 else re.IGNORECASE
        pattern = r"\s+".join(re.escape(word) for word in _plain(gold.text).split())
        found = re.finditer(rf"(?<!\w){pattern}(?!\w)", _plain(text), flags)
        yield from (Mention(*match.span()) for match in found)
    else:
        yield from (Mention(*m.span()) for m in re.finditer(_loosely(gold.text), text))


def _plain(text: str) -> str:
    """The text without accents, character by character, so that offsets stay."""
    if text.isascii():
        return text
    return "".join(unicodedata.normalize("NFD", character)[0] for character in text)


def _numbers(text: str, wanted: float) -> Iterator[Mention]:
    found = [
        Mention(_sign_start(text, match.start(), wanted), match.end())
        for match in _NUMBER.finditer(text)
        # 36/3 is a division on its way to 12, not a way of writing 12.
        if not (match["below"] and wanted.is_integer()) and _number_value(text, match) == wanted
    ]
    if 0 <= wanted < len(SMALL_NUMBERS) and wanted == int(wanted):
        word = SMALL_NUMBERS[int(wanted)]
        spelled = re.finditer(rf"(?<![\w-]){word}(?![\w-])", text, re.IGNORECASE)
        found += [Mention(match.start(), match.end(), in_words=True) for match in spelled]
        found.sort(key=lambda mention: mention.start)
    yield from found


def _number_value(text: str, match: re.Match[str]) -> float:
    digits = match["number"].replace("{,}", "").replace("\\,", "").replace(",", "")
    value = float(digits)
    if match["below"]:
        value = value / float(match["below"][1:]) if float(match["below"][1:]) else float("nan")
    if match["scale"]:
        value *= SCALES[match["scale"].strip()]
    return -value if _is_negated(text, match.start()) else value


def _is_negated(text: str, start: int) -> bool:
    """True for a minus sign that is no subtraction: glued to the number, and after no operand."""
    before = text[max(0, start - 12) : start].rstrip("$\\")
    if not before.endswith(("-", "−")):
        return False
    return _OPERAND_BEFORE.search(before[:-1].rstrip()) is None


def _sign_start(text: str, start: int, wanted: float) -> int:
    """Where the number with its sign begins."""
    return start if wanted >= 0 else max(text.rfind("-", 0, start), text.rfind("−", 0, start))


def _expressions(text: str, wanted: complex) -> Iterator[Mention]:
    pattern = _COMPLEX if wanted.imag else _EXPRESSION
    for match in pattern.finditer(text):
        value = evaluate(match[0].replace("\\left", "").replace("\\right", ""))
        if value is not None and same_value(value, wanted):
            yield Mention(match.start() + len(match[0]) - len(match[0].lstrip()), match.end())


def _loosely(text: str) -> re.Pattern[str]:
    r"""The gold's own marks, with free spacing and any kind of `\frac`."""
    marks = re.findall(r"\\[A-Za-z]+|\d+(?:\.\d+)?|[A-Za-z]+|\S", text)
    loose = (
        r"\\[dt]?frac" if re.fullmatch(r"\\[dt]?frac", mark) else re.escape(mark) for mark in marks
    )
    return re.compile(r"\s*(?:\\left|\\right|\\[,!;])*\s*".join(loose))
