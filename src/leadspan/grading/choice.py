r"""Find the letter that a completion chooses among lettered options.

What is stated or boxed wins; options that are only mentioned do not. Every repetition in a pattern is
bounded, so the search is linear in the text.
"""

from __future__ import annotations

import re

from leadspan.grading.extract import MAX_CHARS, find_box, find_tag, last_match
from leadspan.grading.notation import canonical
from leadspan.grading.numbers import TEXT

NOUN = (
    r"(?:answers?|choices?|options?|alternatives?|ans"
    r"|antwort|respuesta|r[eé]ponse|risposta|resposta|ответ)"
)
LINK = (
    r"[*_\"'\s]{0,6}(?:(?:would|should|must|has to)\s{1,3})?"
    r"(?:(?:ist|is|be|are|est|es|sería|è|é)\b|[=:：—-])[\s*_]{0,6}(?::|：)?\s{0,6}"
    r"(?:(?:option|choice|answer|letter|clearly|therefore|thus|indeed|i think it's|i think it is"
    r"|i believe it is|definitely|simply)\s{1,3}){0,2}"
)
DECOR = r"[\s*_$`\"'(\[{（【]{0,12}"
COMMAND = rf"(?:\\(?:boxed|text|textbf|mathrm|mathbf|bf|rm)\s?\{{?{DECOR}){{0,3}}"
LETTER = rf"{DECOR}{COMMAND}(?P<letter>[A-Za-z])(?![A-Za-z])(?=(?P<after>.{{0,12}}))"
STATED = re.compile(rf"\b{NOUN}(?:\s(?:to|for)\s[^\n.:]{{1,60}})?{LINK}{LETTER}", re.IGNORECASE)
HEADING = re.compile(
    r"(?:^|\n)[#*_\s]{0,8}(?:the\s{1,3})?(?:final\s{1,3}|correct\s{1,3})?(?:answer|choice)"
    rf"[*_\s]{{0,6}}[:：]?[*_]{{0,4}}[ \t]{{0,8}}\n\s{{0,8}}{LETTER}",
    re.IGNORECASE,
)
WITHOUT_SPACES = re.compile(
    r"(?:答案|选项|选择|故选|应选|选|答え|정답|답)(?:应该|应为)?[是为は은는：:\s]{0,6}" + LETTER
)
NAMED = re.compile(
    r"\b(?:option|choice|answer|go with|choose|select|pick|chose|selected)\s{1,3}"
    rf"(?:option\s|choice\s|answer\s)?{LETTER}",
    re.IGNORECASE,
)
IS_RIGHT = re.compile(
    r"(?:^|[\s*_(])(?P<letter>[A-Z])"
    r"(?P<after>\)?[*_.)]{0,3}\s{1,3}is\s{1,3}(?:the\s{1,3})?(?:correct|right|best|true)\b)"
)
ALONE = re.compile(
    r"(?:^|\n)[ \t]{0,8}[*_$(\[]{0,6}(?P<letter>[A-Za-z])[*_$.:)\]]{0,6}[ \t]{0,8}(?=\n|$)"
)
IN_JSON = re.compile(
    r"[\"'](?:answer|choice|final_answer|option|correct_answer)[\"']\s{0,6}:\s{0,6}"
    r"[\"']\(?(?P<letter>[A-Za-z])\)?[\"']",
    re.IGNORECASE,
)
NOT_ALONE = re.compile(
    r"[A-Za-z0-9_'’]|\s?[=^<>+]|\s?(?:,|and|or|&|/|以及|和)\s?\(?[A-Za-z](?![A-Za-z])"
    r"|\s(?:am\b|[a-z]+\s(?:not|thing))"
)
"""What follows a letter that is a word, a variable or the first of several letters."""
IS_WRONG = re.compile(r"\b(?:not|wrong|incorrect|false|cannot|isn't|can't|fails?)\b", re.IGNORECASE)
WORDS_OF_ONE_LETTER = frozenset(["a", "i"])
WITHIN = re.compile(
    r"(?:the\s)?(?:final\s|correct\s)?(?:answer|choice|option)?\s?(?:is)?\s?[:：]?\s?"
    r"\(?\[?(?P<letter>[A-Za-z])(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
ANOTHER = re.compile(r"\s?[\])}]?\s?(?:,|and|or|&|/|;)\s?\(?[A-Za-z](?![A-Za-z])", re.IGNORECASE)
CONTENT_OF_OPTION = re.compile(r"[).:\]*]|\s*[-–]")


def find_choice(text: str) -> str | None:
    """The chosen letter in upper case; None where none or more than one is chosen."""
    text = text[-MAX_CHARS:]
    for inner in (find_box(text), find_tag(text)):
        if inner is not None and inner.strip():
            return letter_of(inner)
    in_json = _last(IN_JSON, text)
    if in_json is not None:
        return in_json
    stated = [
        match for match in _matches(text, STATED, WITHOUT_SPACES, HEADING) if _is_choice(match)
    ]
    if not stated:
        stated = [match for match in _matches(text, NAMED, IS_RIGHT) if _is_asserted(match, text)]
    if stated:
        return max(stated, key=lambda match: match.start("letter"))["letter"].upper()
    return _last(ALONE, text)


def _matches(text: str, *patterns: re.Pattern[str]) -> list[re.Match[str]]:
    return [match for pattern in patterns for match in pattern.finditer(text)]


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = last_match(pattern, text)
    return None if found is None else found["letter"].upper()


def _is_choice(match: re.Match[str]) -> bool:
    """Not the article a, the pronoun I, the start of a word, or the first of several letters."""
    letter, after = match["letter"], match["after"]
    if NOT_ALONE.match(after):
        return False
    if letter.lower() in WORDS_OF_ONE_LETTER or letter.islower():
        return re.match(r"\s+[a-z]", after) is None
    return True


def _is_asserted(match: re.Match[str], text: str) -> bool:
    """Not "option D is wrong"."""
    place = match.end("letter")
    sentence = re.split(r"[.\n]", text[place : place + 60])[0]
    return _is_choice(match) and IS_WRONG.search(sentence) is None


def letter_of(text: str) -> str | None:
    r"""The letter of `B`, `(B)`, `\text{(B) } 12`, `B: 12`, `Answer: b`; None for `A, C` and words."""
    in_json = _last(IN_JSON, text)
    if in_json is not None:
        return in_json
    bare = re.sub(r"\s+", " ", TEXT.sub(r"\1", canonical(text))).strip(" *_$`\"'")
    match = WITHIN.fullmatch(bare)
    if match is None or ANOTHER.match(match["rest"]):
        return None
    rest = match["rest"].removeprefix(")").removeprefix("]")
    is_all = not rest.strip(" .)]*")
    names_option = CONTENT_OF_OPTION.match(match["rest"]) is not None
    return match["letter"].upper() if is_all or names_option else None
