r"""Find the answer in a completion: the last box, a stated answer, the last number.

Plain text in, plain text out; every search is linear in the text, of which only the end is read.
"""

from __future__ import annotations

import re
from collections import deque

MAX_CHARS = 200_000
"""Only this much of the end of a completion is searched: an answer stands at the end."""
MAX_ANSWER_CHARS = 4_000
"""A longer answer is not read."""

BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$\\]{1,40})")
STATED = re.compile(
    r"\banswer(?:\s+(?:to|for)\s[^\n.:]{1,80}?)?[*_]{0,2}\s*(?:\bis\b|:|=)[ \t]*:?[*_]{0,2}[ \t]*",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"\.(?=\s|$|\*)|\n")
DISPLAY = re.compile(r"\$\$([^$]{1,400})\$\$|\\\[(.{1,400}?)\\\]", re.DOTALL)
MATH_SPAN = re.compile(r"(?<!\\)\$([^$\n]{1,400})(?<!\\)\$|\\\(([^\n]{1,400}?)\\\)")
WORD = re.compile(r"[^\W\d_]{2,}")
COMMAND = re.compile(r"\\[A-Za-z]+")
NUMBER = re.compile(r"(?<![\w.])[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?")

PRICE = re.compile(r"\\?[$€£]\s?" + NUMBER.pattern.removeprefix(r"(?<![\w.])"))
STARTS_AS_NUMBER = re.compile(
    r"^\\?[$€£]?[-−]?\d[\d,./]*(?: ?%)?(?= [^\W\d_]+(?: [^\W\d_]+){0,3}$)"
)
"""A number and up to four words: "11 more CDs"."""


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of a pattern's matches."""
    newest = deque(pattern.finditer(text), maxlen=1)
    return newest[0] if newest else None


def find_box(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}`, braces balanced, outermost where they nest."""
    text = text[-MAX_CHARS:]
    if "boxed" not in text and "fbox" not in text:
        return None
    found: str | None = None
    found_at = -1
    open_at: list[tuple[int, bool]] = []
    for token in BRACES.finditer(text):
        if token[0] == "{" or (token[0][-1] == "{" and len(token[0]) > 2):
            open_at.append((token.end(), len(token[0]) > 1))
        elif token[0] == "}" and open_at:
            start, is_box = open_at.pop()
            if is_box:
                found, found_at = text[start : token.start()], token.start()
    bare = last_match(BARE_BOX, text)
    if bare is not None and bare.start() > found_at:
        return bare[1].rstrip(".,;")
    return found


def tries_box(text: str) -> bool:
    """Whether a box is begun at all."""
    return "\\boxed{" in text[-MAX_CHARS:]


def find_stated(text: str, in_words: bool = False) -> str | None:
    """What the last "answer is" or "answer:" states: its formula, its bold part, its number.

    A sentence around the answer is stripped: "Mark needs **25 days**." states `25 days`. A sentence
    without a formula, bold part or number is returned whole, and so is one that is asked for words.
    """
    text = text[-MAX_CHARS:]
    last = last_match(STATED, text)
    if last is None:
        return None
    rest = text[last.end() : last.end() + MAX_ANSWER_CHARS].lstrip()
    display = DISPLAY.match(rest)
    if display is not None:
        return next(group for group in display.groups() if group is not None).strip()
    end = SENTENCE_END.search(rest)
    stated = (rest[: end.start()] if end else rest).strip()
    return _core(stated, in_words) or None


def _core(sentence: str, in_words: bool) -> str:
    """The part of a sentence that is the answer."""
    parts = [next(g for g in match if g) for match in MATH_SPAN.findall(sentence)]
    if parts:
        return str(parts[-1]).strip()
    bold = sentence.split("**")
    if len(bold) > 1 and bold[-2 if len(bold) % 2 else -1].strip():
        sentence = bold[-2 if len(bold) % 2 else -1]
    sentence = sentence.strip().strip("*_").strip()
    if in_words or len(WORD.findall(COMMAND.sub(" ", sentence))) < 2:
        return sentence
    for pattern in (STARTS_AS_NUMBER, PRICE, NUMBER):
        found = last_match(pattern, sentence)
        if found is not None:
            return found[0].strip()
    return sentence


def find_number(text: str) -> str | None:
    """The last number in plain digits."""
    last = last_match(NUMBER, text[-MAX_CHARS:])
    return None if last is None else last[0]


CHOICE_STATED = re.compile(
    r"\b(?i:answer|choice|option)(?:\s+is)?[*_]{0,2}\s*[:=]?\s*[*_$(\[{\\boxedtr]*\s*([A-Z])\b(?!')"
)
CHOICE_ALONE = re.compile(r"(?:^|[\n(\[*])\s*\(?([A-Z])\)?[.:)\]*]*\s*(?=$|\n)")


def find_choice(text: str) -> str | None:
    """The last letter given as an answer: boxed, stated, or alone on its line."""
    text = text[-MAX_CHARS:]
    box = find_box(text)
    if box is not None:
        letters = re.findall(r"(?<![A-Za-z\\])[A-Z](?![A-Za-z])", re.sub(r"\\[a-z]+", " ", box))
        return letters[0] if letters else None
    for pattern in (CHOICE_STATED, CHOICE_ALONE):
        last = last_match(pattern, text)
        if last is not None:
            return last[1]
    return None


def find_pattern(text: str, pattern: str) -> str | None:
    """The last match of a user's pattern: its first group, or all of it."""
    last = last_match(re.compile(pattern), text[-MAX_CHARS:])
    return None if last is None else (last[1] if last.re.groups else last[0])
