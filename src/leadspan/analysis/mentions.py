r"""Find every place of a text that says the gold answer, by value and not by spelling.

`1,170`, `1170.00` and `\$1170` are one number; `1/4`, `\frac14` and `0.25` one fraction. English is
read as far as that needs: sentences, content words, the question. Knows nothing about what a mention is
worth: that is `derivation`.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from leadspan.analysis.values import (
    PLUS_MINUS,
    Gold,
    evaluate,
    find_spelled,
    find_words,
    same_value,
)

SMALL_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}

_TEN = r"(?:\s?(?:\\times|\\cdot|[×·*x])\s?10\s?\^\s?(?:\{[-−]?\d{1,3}\}|[-−]?\d{1,3}))"
"""The power behind `4.5 \\times 10^{33}`."""
_EXPONENT = re.compile(r"[-−+]?\d+\}?$")
# A digit glued to a letter or an exponent mark is an index, a label or a power, not a number.
_ALONE = r"(?<![A-Za-z\d_^.\\])"
_NUMBER = re.compile(
    rf"{_ALONE}(?<!\^\{{)(?<!_\{{)(?<!\d,)"
    r"(?P<number>\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d++)?|\d++(?:\.\d++)?|\.\d++)"
    rf"(?P<below>/\d++)?(?P<power>{_TEN}|[eE][-+]?\d{{1,3}}\b)?(?P<scale>\s(?:thousand|million|billion)\b)?(?P<percent>\s?\\?%)?(?!\d)"
)
_OPERAND_BEFORE = re.compile(r"(?:[\d)}%²³]|(?:^|[^A-Za-z])[A-Za-z])$")
SIGN_CHARACTERS = 12
"""How far before a number its sign may stand."""
# Parts are as long as one value can be, so that every search ends where it began but for a step.
_SIMPLE = r"(?:\d{1,40}+(?:,\d{3}(?!\d)){0,12}+(?:\.\d{1,40}+)?+)"
_ROOT = r"(?:(?:\\sqrt|sqrt|√)\s*+(?:\{[^{}]{1,20}\}|\([^()]{1,20}\)|\d{1,40}+))"
_PI = r"(?:\\pi\b|π|\bpi\b)"
_PART = rf"(?:{_SIMPLE}?\s?\*?\s?(?:{_ROOT}|{_PI})|{_SIMPLE}{_TEN}?)"
_BRACES = r"\{[^{}]{0,40}+(?:\{[^{}]{0,40}+\}[^{}]{0,40}+){0,4}+\}"
_FRAC = rf"(?:\\[dt]?frac\s*+(?:{_BRACES}\s*+{_BRACES}|\d\s*+\d))"
_RATIO = (  # (1 + √5)/2, but not (8 + 2)/18, which is on its way to a value
    rf"(?:\((?=[^()]{{0,40}}(?:√|sqrt|π|pi)){_PART}\s?[-+−]\s?{_PART}\)\s?/\s?{_SIMPLE})"
)
_TERM = rf"(?:{_SIMPLE}?\s?{_FRAC}(?:\s?{_ROOT}|\s?{_PI})?|{_RATIO}|{_PART}(?:\s?/\s?{_PART})?)"
_MORE = rf"(?:\s?[-+−]\s?{_TERM})"
_EXPRESSION = re.compile(rf"{_ALONE}[-−]?{_TERM}(?!\d)")
_SUM = re.compile(rf"{_ALONE}[-−]?{_TERM}{_MORE}(?!\d)")
_EITHER_SIGN = re.compile(rf"{_ALONE}(?:{_TERM}\s?)?(?:\\pm|±)\s?{_TERM}(?!\d)")
_COMPLEX = re.compile(rf"{_ALONE}[-−]?(?:{_TERM}\s?[-+−]\s?)?(?:{_TERM}\s?)?i\b")
_IS_SUM = re.compile(r"[\w)}]\s*+[-+−]")
GAP_CHARACTERS = 40
"""How far apart two values of one gold may stand: "the roots are 3 and, with the other sign, -3"."""
_OPENS = re.compile(r"(?:\\left\s?)?(?:\\\{|[(\[])\s?$")
_CLOSES = re.compile(r"\s?(?:\\right\s?)?(?:\\\}|[)\]])")


@dataclass(frozen=True, slots=True)
class Mention:
    """One place where the gold's value stands, `[start, end)` in characters."""

    start: int
    end: int
    in_words: bool = False
    """True where a number is spelled out."""


def find_mentions(text: str, gold: Gold) -> list[Mention]:
    """Every mention of `gold` in `text`, in order of their starts."""
    return list(iter_mentions(text, gold))


def iter_mentions(text: str, gold: Gold) -> Iterator[Mention]:
    """The same one at a time; a plain number is looked for no further than they are asked for."""
    if gold.kind == "number" and gold.value is not None:
        yield from _numbers(text, gold.value.real)
    elif gold.kind == "expression" and gold.value is not None:
        yield from _expressions(text, gold)
    elif gold.kind == "values":
        yield from _together(text, gold)
    elif gold.kind == "choice":
        pattern = rf"(?<![A-Za-z]){gold.text}(?![A-Za-z'’])"
        yield from (Mention(*match.span()) for match in re.finditer(pattern, text))
    elif gold.kind == "word":
        yield from (Mention(*span) for span in find_words(text, gold.text))
    else:
        yield from (Mention(*span) for span in find_spelled(text, gold.text))


def _numbers(text: str, wanted: float) -> Iterator[Mention]:
    found: Iterator[Mention] = (
        mention for match in _NUMBER.finditer(text) if (mention := _number(text, match, wanted))
    )
    if 0 <= wanted < len(SMALL_NUMBERS) and wanted == int(wanted):
        word = SMALL_NUMBERS[int(wanted)]
        spelled = re.finditer(rf"(?<![\w-]){word}(?![\w-])", text, re.IGNORECASE)
        in_words = (Mention(match.start(), match.end(), in_words=True) for match in spelled)
        found = heapq.merge(found, in_words, key=lambda mention: mention.start)
    yield from found


def _number(text: str, match: re.Match[str], wanted: float) -> Mention | None:
    """The mention where a number of the text has the value, or is its percentage."""
    if match["below"] and wanted.is_integer():
        return None  # 36/3 is a division on its way to 12, not a way of writing 12
    value = _number_value(text, match)
    start = match.start() if wanted >= 0 else _sign_before(text, match.start())
    if value == wanted:
        percent = match["percent"]
        return Mention(start, match.end() - len(percent or ""))
    if match["percent"] and not wanted.is_integer() and math.isclose(value / 100, wanted):
        return Mention(start, match.end())
    return None


def _number_value(text: str, match: re.Match[str]) -> float:
    digits = match["number"].replace("{,}", "").replace("\\,", "").replace(",", "")
    exponent = _EXPONENT.search(match["power"]) if match["power"] else None
    value = float(f"{digits}e{exponent[0].rstrip('}').replace('−', '-')}" if exponent else digits)
    if match["below"]:
        value = value / float(match["below"][1:]) if float(match["below"][1:]) else math.nan
    if match["scale"]:
        value *= SCALES[match["scale"].strip()]
    return -value if _is_negated(text, match.start()) else value


def _is_negated(text: str, start: int) -> bool:
    """True for a minus sign that is no subtraction: glued to the number, and after no operand."""
    before = text[max(0, start - SIGN_CHARACTERS) : start].rstrip("$\\")
    if not before.endswith(("-", "−")):
        return False
    return _OPERAND_BEFORE.search(before[:-1].rstrip()) is None


def _sign_before(text: str, start: int) -> int:
    """Where a negative number with its sign begins."""
    first = max(0, start - SIGN_CHARACTERS)
    return max(text.rfind("-", first, start), text.rfind("−", first, start), first)


def _expressions(text: str, gold: Gold) -> Iterator[Mention]:
    wanted = gold.value or 0j
    patterns = [_COMPLEX if wanted.imag else _EXPRESSION]
    if not wanted.imag and _IS_SUM.search(gold.text):
        patterns.append(_SUM)
    found = [
        Mention(match.start() + len(match[0]) - len(match[0].lstrip()), match.end())
        for pattern in patterns
        for match in pattern.finditer(text)
        if (value := evaluate(match[0])) is not None and same_value(value, wanted)
    ]
    yield from sorted(found, key=lambda mention: mention.start)


def _together(text: str, gold: Gold) -> Iterator[Mention]:
    """Where every value of a gold stands close to the one before, brackets round them included."""
    places = sorted(
        (
            (mention, place)
            for place, one in enumerate(gold.members)
            for mention in _each(text, one)
        ),
        key=lambda found: (found[0].start, found[1]),
    )
    seen: dict[int, Mention] = {}
    last = 0
    for mention, place in places:
        if mention.start - last > GAP_CHARACTERS:
            seen = {}
        last = mention.end
        if place == 0 and gold.is_ordered:
            seen = {}
        if gold.is_ordered and place != len(seen):
            continue
        seen[place] = mention
        if len(seen) == len(gold.members):
            yield _bracketed(text, min(m.start for m in seen.values()), mention.end)
            seen = {}


def _each(text: str, member: Gold) -> Iterator[Mention]:
    r"""Mentions of one value of several, `\pm` counted under either sign."""
    yield from iter_mentions(text, member)
    if PLUS_MINUS.search(text) is None:
        return
    for match in _EITHER_SIGN.finditer(text):
        values = (evaluate(PLUS_MINUS.sub(sign, match[0])) for sign in "+-")
        if any(value is not None and same_value(value, member.value or 0j) for value in values):
            yield Mention(*match.span())


def _bracketed(text: str, start: int, end: int) -> Mention:
    opening = _OPENS.search(text, max(0, start - SIGN_CHARACTERS), start)
    closing = _CLOSES.match(text, end, end + SIGN_CHARACTERS)
    return Mention(opening.start(), closing.end()) if opening and closing else Mention(start, end)


SENTENCE_END = re.compile(r"(?<=[.?!])[\"')\]]*+\s++(?=[A-Z\\$(\"'*\d])|\n++")
_DIGITS = re.compile(r"\d[\d,]*+(?:\.\d++)?+")
_SPELLED: dict[str, float] = {
    **{word: float(value) for value, word in enumerate(SMALL_NUMBERS) if value > 1},
    **{"half": 0.5, "twice": 2.0, "double": 2.0, "triple": 3.0, "thrice": 3.0, "dozen": 12.0},
}
_FUNCTION_WORDS = frozenset(
    word[:5]
    for word in re.findall(
        r"\w+",
        "what which that this these those with from have many much does will would there their they "
        "them then than were been into after before about each every more less when where while "
        "your line form reply find give express answer total final write value",
    )
)


@lru_cache(maxsize=4)
def sentence_starts(text: str) -> tuple[int, ...]:
    """Offsets at which sentences (or lines) begin."""
    return (0, *(match.end() for match in SENTENCE_END.finditer(text)))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Half-open character ranges of the sentences, which cover the text."""
    starts = sentence_starts(text)
    return list(zip(starts, (*starts[1:], len(text)), strict=True))


def sentence_index(text: str, offset: int) -> int:
    """Index of the sentence that holds `offset`."""
    return sum(start <= offset for start in sentence_starts(text)) - 1


def last_sentence_start(text: str) -> int:
    """Where the last sentence of a short text begins."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return ends[-1] if ends else 0


def question_of(prompt: str) -> str:
    """From the sentence that asks to the end: the last with a question mark, else the last."""
    starts = sentence_starts(prompt)
    asked = prompt.rfind("?")
    return prompt[max((start for start in starts if asked < 0 or start <= asked), default=0) :]


def words_of(text: str) -> frozenset[str]:
    """Stems (five letters) of the words that carry content."""
    return frozenset(word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())) - _FUNCTION_WORDS


def numbers_in(text: str) -> list[float]:
    """Every plain number of a text, and the small ones that are spelled out."""
    digits = [float(number.replace(",", "")) for number in _DIGITS.findall(text)]
    spelled = re.findall(r"[a-z]+", text.lower())
    return digits + [_SPELLED[word] for word in spelled if word in _SPELLED]
