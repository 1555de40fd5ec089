r"""Find the letter that a completion chooses among lettered options.

What is stated or boxed wins; options that are only mentioned do not. Linear in the text.
"""

from __future__ import annotations

import json
import re

from leadspan.grading.extract import MAX_CHARS, find_box, find_tag
from leadspan.grading.notation import canonical
from leadspan.grading.numbers import TEXT

NOUN = r"(?:answers?|choices?|options?|alternatives?|ans|antwort|respuesta|r[eé]ponse|risposta|resposta|ответ)"
DECOR = r"[\s*_$`\"'(\[{]{0,12}"
LETTER = rf"{DECOR}(?:\\(?:boxed|text|textbf|mathrm|mathbf|bf|rm)\s?\{{?{DECOR}){{0,3}}(?P<letter>[A-Za-z])(?![A-Za-z])(?=(?P<after>.{{0,12}}))"
LINK = (
    r"[*_\"'\s]{0,6}(?:(?:would|should|must|has to)\s{1,3})?"
    r"(?:(?:ist|is|be|are|est|es|sería|è|é)\b|[=:：—-])[\s*_]{0,6}(?::|：)?\s{0,6}"
    r"(?:(?:option|choice|answer|letter|clearly|therefore|thus|indeed|i think it's|i think it is|i believe it is|definitely|simply)\s{1,3}){0,2}"
)
STATED = re.compile(rf"\b{NOUN}(?:\s(?:to|for)\s[^\n.:]{{1,60}})?{LINK}{LETTER}", re.IGNORECASE)
NAMED = re.compile(
    rf"\b(?:option|choice|answer|go with|choose|select|pick|chose|selected)\s{{1,3}}(?:option\s|choice\s|answer\s)?{LETTER}",
    re.IGNORECASE,
)
IS_RIGHT = re.compile(
    rf"(?:^|[\s*_(])(?P<letter>[A-Z])(?P<after>\)?[*_.)]{{0,3}}\s{{1,3}}is\s{{1,3}}(?:the\s{{1,3}})?(?:correct|right|best|true)\b)"
)
CHINESE = re.compile(
    r"(?:答案|选项|选择|正确选项|故选|应选|选|答え|정답|답)(?:应该|应为)?[是为は은는：:\s]{0,6}[\s*_$(（【]{0,6}(?P<letter>[A-Za-z])(?![A-Za-z])(?=(?P<after>.{0,12}))"
)
HEADING = re.compile(
    r"(?:^|\n)[#*_\s]{0,8}(?:the\s{1,3})?(?:final\s{1,3}|correct\s{1,3})?(?:answer|choice)[*_\s]{0,6}[:：]?[*_]{0,4}[ \t]{0,8}\n\s{0,8}"
    + LETTER,
    re.IGNORECASE,
)
ALONE = re.compile(
    r"(?:^|\n)[ \t]{0,8}[*_$(\[]{0,6}(?P<letter>[A-Za-z])[*_$.:)\]]{0,6}[ \t]{0,8}(?=\n|$)"
)
JSON_ANSWER = re.compile(
    r"[\"'](?:answer|choice|final_answer|option|correct_answer)[\"']\s{0,6}:\s{0,6}[\"']\(?(?P<letter>[A-Za-z])\)?[\"']",
    re.IGNORECASE,
)
NOT_ALONE = re.compile(
    r"^[A-Za-z0-9_'’]|^\s?[=^<>+]|^\s?(?:,|and|or|&|/|\+|以及|和)\s?\(?[A-Za-z](?![A-Za-z])|^\s(?:am|[a-z]+\s(?:not|thing))"
)
WORDS_WITH_ONE_LETTER = frozenset(["a", "i"])


def find_choice(text: str) -> str | None:
    """The chosen letter in upper case; None where none or more than one is chosen."""
    text = text[-MAX_CHARS:]
    for inner in (find_box(text), find_tag(text)):
        if inner is not None and inner.strip():
            return letter_of(inner)
    found = _last(JSON_ANSWER, text)
    if found is not None:
        return found
    stated = [
        match
        for pattern in (STATED, CHINESE, HEADING)
        for match in pattern.finditer(text)
        if _is_choice(match)
    ]
    if not stated:
        stated = [
            match
            for pattern in (NAMED, IS_RIGHT)
            for match in pattern.finditer(text)
            if _is_asserted(match, text)
        ]
    if stated:
        return max(stated, key=lambda match: match.start("letter"))["letter"].upper()
    return _last(ALONE, text)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    newest = None
    for match in pattern.finditer(text):
        newest = match
    return None if newest is None else newest["letter"].upper()


def _is_choice(match: re.Match[str]) -> bool:
    """Not the article a, the pronoun I, the start of a word, or the first of several letters."""
    letter, after = match["letter"], match["after"]
    if NOT_ALONE.match(after):
        return False
    if letter.lower() in WORDS_WITH_ONE_LETTER or letter.islower():
        return not re.match(r"\s+[a-z]", after)
    return True


WRONG = re.compile(
    r"\b(?:is|are|was|be)?\s*(?:not|wrong|incorrect|false|cannot|isn't|can't|fails?)\b",
    re.IGNORECASE,
)


def _is_asserted(match: re.Match[str], text: str) -> bool:
    sentence = re.split(r"[.\n]", text[match.end("letter") : match.end("letter") + 60])[0]
    return _is_choice(match) and WRONG.search(sentence) is None


INNER = re.compile(
    r"^(?:the\s)?(?:final\s|correct\s)?(?:answer|choice|option)?\s?(?:is)?\s?[:：]?\s?\(?\[?([A-Za-z])\)?\]?(.*)$",
    re.IGNORECASE | re.DOTALL,
)


def letter_of(text: str) -> str | None:
    r"""The letter of `B`, `(B)`, `\text{(B) } 12`, `B: 12`, `Answer: b`; None for `A, C` and words."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found = _last(JSON_ANSWER, text)
            return found
    bare = re.sub(r"\s+", " ", TEXT.sub(r"\1", canonical(text))).strip(" *_$`\"'")
    match = INNER.match(bare)
    if match is None:
        return None
    rest = match[2]
    if re.match(r"\s?[\])}]?\s?(?:,|and|or|&|/|;)\s?\(?[A-Za-z](?![A-Za-z])", rest, re.IGNORECASE):
        return None
    if (
        rest.strip(" .)]*")
        and not re.match(r"[).:\]*]|\s*[-–]", rest)
        and not (match[1].isupper() and bare[0] == "(")
    ):
        return None
    return match[1].upper()
