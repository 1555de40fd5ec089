r"""Find the answer in a completion: boxes, answer tags, stated answers, the last formula or number.

Only the end of a completion is read, in linear time. Knows nothing about how answers are compared.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from leadspan.grading.numbers import read_number

DELIMITER = re.compile(
    r"\\\\|\\\$|\$\$|\$|\\\[|\\\]|\\\(|\\\)"
    r"|\\(begin|end)\{((?:align|equation|gather|multline|displaymath|math)\*?)\}|\n[ \t]*\n"
)
CLOSERS = {"$": "$", "$$": "$$", "\\[": "\\]", "\\(": "\\)"}
MAX_SPAN_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A formula or the content of a box, and where it stands, delimiters included."""

    text: str
    start: int
    end: int
    is_display: bool = True


def find_formulas(text: str) -> list[Piece]:
    """All formulas in order; a dollar sign in front of a price opens none."""
    found: list[Piece] = []
    opened: re.Match[str] | None = None
    for mark in DELIMITER.finditer(text):
        if opened is None:
            opened = mark if _opens(mark) else None
            continue
        if _closes(opened, mark, text):
            inner = text[opened.end() : mark.start()]
            if inner.strip() and len(inner) <= MAX_SPAN_CHARS:
                found.append(Piece(inner.strip(), opened.start(), mark.end(), opened[0] != "$"))
            opened = None
        elif opened[0] == "$" and mark[0][0] == "\n":
            opened = None
        elif opened[0] == "$" and _opens(mark):
            opened = mark
    return found


def _opens(mark: re.Match[str]) -> bool:
    return mark[0] in CLOSERS or mark[1] == "begin"


def _closes(opened: re.Match[str], mark: re.Match[str], text: str) -> bool:
    if mark[1] == "end":
        return mark[2] == opened[2]
    if mark[0] != CLOSERS.get(opened[0]):
        return False
    if mark[0] != "$":
        return True
    is_price = text[mark.end() : mark.end() + 1].isdigit() or (
        text[opened.end() : opened.end() + 1].isdigit() and text[mark.start() - 1].isspace()
    )
    return not is_price


MAX_CHARS = 200_000
"""Only this much of the end of a completion is searched: an answer stands at the end."""
MAX_ANSWER_CHARS = 4_000
"""A longer answer is not read."""

BRACES = re.compile(r"\\+(?:boxed|fbox|framebox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
BARE_BOX = re.compile(r"\\boxed\s{1,4}([^\s{}$\\]{1,40})")
BETWEEN_BOXES = re.compile(
    r"(?:[\s$.,;:&()\[\]*]|\\[()\[\],;]|\\q?quad|\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}"
    r"|\b(?:and|or|also|as well as|und|y|et)\b"
    r"|\b(?:part|question)\s*\(?[a-h1-9]\)?|\([a-h1-9iv]{1,3}\)|[A-Za-z](?:_\{?\w\}?)?\s*=|和|或|及){0,40}"
)
MAX_BETWEEN = 80
MAX_BARE_WORDS = 5
TAG = re.compile(r"<answer>|</answer>", re.IGNORECASE)
FINAL = re.compile(
    r"\bfinal\s{1,3}answer[*_]{0,3}\s{0,6}(?:is\b|:|：|\bto\b[^\n.:]{1,60}\bis\b)[\s*_]{0,8}"
    r"(?:(?:the\s{1,3})?final\s{1,3}answer\s{1,3}is\s{0,3}:?\s{0,4})?",
    re.IGNORECASE,
)
STATED = re.compile(
    r"(?:\banswers?(?:\s(?:to|for|of)\s[^\n.:]{1,80}?)?[*_\"']{0,3}\s{0,6}(?:\b(?:is|are)\b|:|：|=)"
    r"|(?:答案|答え|정답|答)(?:应该|应)?(?:是|为|：|:|は)"
    r"|\b(?:antwort|respuesta|r[eé]ponse|risposta|resposta|ответ)\b\s{0,3}(?:ist|es|est|è|é|:|：|—|-)"
    r"|\banswer[*_]{0,3}(?=\s{0,4}(?:\$|\\\(|\\\[)))"
    r"[ \t]{0,8}:?[*_]{0,3}[ \t]{0,8}",
    re.IGNORECASE,
)
HEADING = re.compile(
    r"(?:^|\n)[ \t]{0,8}[#*_ ]{0,8}(?:the[ \t])?(?:final[ \t]{1,3})?"
    r"(?:answers?|result|solution)[ \t]{0,4}[:：]?[*_ \t]{0,8}[:：]?[*_ \t]{0,8}\n\s{0,20}(?=\S)",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.。!](?=\s|$|\*)|\n")
JOINED = re.compile(r"\s*(?:,|;)?\s*(?:and|or|,|;|y|et|und)\s*")
AFTER_FORMULA = re.compile(r"\s{0,3}(?:%|\\%|percent\b|degrees?\b|°)")
WORD = re.compile(r"[^\W\d_²³¹⁰-₟¼-¾]{2,}")
COMMAND = re.compile(r"\\(?:begin|end)\{[^{}]*\}|\\[A-Za-z]++")
NUMBER = re.compile(
    r"(?<![\w.,])[-−+]?(?:\d{1,3}(?:,\d{3})++(?![\d,]*\d)|\d++)?(?:\.\d++|(?<=\d))"
    r"(?:,\d{1,2}(?![\d,]))?(?:[eE][-+]?\d{1,3}(?!\w)|/\d++)?\s?%?"
)
PRICE = re.compile(r"\\?[$€£]\s?" + NUMBER.pattern.removeprefix(r"(?<![\w.,])"))
NUMBER_LIST = re.compile(
    r"^[-−]?\d[\d./]*(?:\s?(?:,|and|or|, and|, or)\s?[-−]?\d[\d./]*){1,20}(?=\.?$)"
)
"""`3 and 5`, `1, 2 and 4`."""
STARTS_AS_NUMBER = re.compile(
    r"^\\?[$€£]?[-−]?\d[\d,./]*(?: ?%)?(?= [^\W\d_]{1,30}(?: [^\W\d_]{1,30}){0,3}$)"
)
"""A number and up to four words: "11 more CDs"."""
CONCLUDES = re.compile(
    r"(?:^|[.!\n])[\s*_]{0,6}(?:so|thus|therefore|hence|finally|altogether|in total|in all"
    r"|overall|consequently|∴|所以|因此)\b",
    re.IGNORECASE,
)
TRIVIAL = re.compile(r"(?!\\(?:pi|infty|varnothing|emptyset)$)\\?[A-Za-z]+(?:_\{?\w+\}?)?|\W*")
"""A formula that only names something."""
CLOCK_OR_RATIO = re.compile(
    r"(?<![\w.:])\d{1,6}:\d{1,6}(?::\d{1,6})?(?:\s?[ap]\.?m\.?)?", re.IGNORECASE
)
SEVERAL = re.compile(r"\d\s+[-+]?\d")


@dataclass(frozen=True, slots=True)
class Found:
    """An answer as it stands in a completion."""

    text: str | None
    reason: str
    """The rule that found it, or why there is none."""
    is_doubtful: bool = False
    """Not stated as the answer, such as a number inside a formula: never called wrong."""


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of a pattern's matches."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def find_boxes(text: str) -> list[Piece]:
    r"""The complete `\boxed{...}` that hold something, braces balanced, innermost where they nest."""
    if "boxed" not in text and "box" not in text:
        return []
    found: list[Piece] = []
    opened: list[tuple[int, int, bool]] = []
    for token in BRACES.finditer(text):
        mark = token[0]
        is_box = mark[-1] == "{" and len(mark) > 2
        if mark == "{" or is_box:
            opened.append((token.start(), token.end(), is_box))
        elif mark == "}" and opened:
            start, inner, closes_box = opened.pop()
            if closes_box and text[inner : token.start()].strip(" \t\n~$,.?…_\\"):
                while found and found[-1].start > start:
                    found.pop()
                found.append(Piece(text[inner : token.start()], start, token.end()))
    bare = last_match(BARE_BOX, text)
    if bare is not None and (not found or bare.start() > found[-1].end):
        found.append(Piece(bare[1].rstrip(".,;"), bare.start(), bare.end()))
    return found


def find_box(text: str, parts: int = 1) -> str | None:
    r"""Content of the last box, or of the boxes that stand side by side at the end.

    Args:
        text: The completion.
        parts: How many answers are asked for: if the completion holds just so many different boxes,
            one for each part of the problem, all of them count.
    """
    boxes = find_boxes(text[-MAX_CHARS:])
    if not boxes:
        return None
    return _join_boxes(boxes, text[-MAX_CHARS:], parts)


def _join_boxes(boxes: list[Piece], text: str, parts: int) -> str:
    distinct = list(dict.fromkeys(box.text.strip() for box in boxes))
    if parts > 1 and len(distinct) == parts:
        return ", ".join(distinct)
    first = len(boxes) - 1
    while first and _stand_together(text[boxes[first - 1].end : boxes[first].start]):
        first -= 1
    return ", ".join(dict.fromkeys(_inner(box.text).strip() for box in boxes[first:]))


def _stand_together(between: str) -> bool:
    return len(between) <= MAX_BETWEEN and BETWEEN_BOXES.fullmatch(between) is not None


def _inner(text: str) -> str:
    r"""Of `x = \boxed{7}` within a box, the 7."""
    for _ in range(3):
        boxes = find_boxes(text)
        if not boxes:
            return text
        text = boxes[-1].text
    return text


def tries_box(text: str) -> bool:
    """Whether a box is begun with content but not closed."""
    _, mark, behind = text[-MAX_CHARS:].rpartition("\\boxed{")
    return bool(mark and behind[:53].strip()) and not behind.startswith("}")


def find_tag(text: str) -> str | None:
    """Content of the last `<answer>...</answer>` that holds something."""
    found, opened = None, None
    for tag in TAG.finditer(text):
        if tag[0][1] != "/":
            opened = tag.end()
        elif opened is not None:
            inner = text[opened : tag.start()].strip()
            found, opened = (inner or found), None
    return found


def find_answer(text: str, in_words: bool = False, parts: int = 1) -> Found:
    """The answer by the first rule that finds one.

    Boxes, unless a "final answer is" follows them; answer tags; stated answers; the last formula;
    the last bare number.

    Args:
        text: The completion.
        in_words: A word or a name is asked for: a number that stands about is no answer.
        parts: How many answers are asked for.
    """
    text = text[-MAX_CHARS:]
    boxes = find_boxes(text)
    final = last_match(FINAL, text)
    if boxes:
        if final is not None and final.start() > boxes[-1].end:
            stated = _statement(text, final.end(), in_words)
            if stated and (in_words or any(mark.isdigit() for mark in stated) or "\\" in stated):
                return Found(stated, "final answer")
        return Found(_join_boxes(boxes, text, parts), "box")
    if tries_box(text):
        return Found(None, "box not closed")
    tagged = find_tag(text)
    if tagged is not None:
        return Found(_core(tagged, in_words), "tag")
    stated = find_stated(text, in_words)
    if stated is not None:
        return Found(stated, "stated")
    return _unstated(text, in_words)


def find_stated(text: str, in_words: bool = False) -> str | None:
    """What the last "answer is", "answer:" or answer heading states: its formula, bold part or number.

    A sentence around the answer is stripped: "Mark needs **25 days**." states `25 days`. A sentence
    without a formula, bold part or number is returned whole, and so is one that is asked for words.
    """
    text = text[-MAX_CHARS:]
    matches = [last_match(pattern, text) for pattern in (FINAL, STATED, HEADING)]
    ends = sorted((match.end() for match in matches if match is not None), reverse=True)
    return next((stated for end in ends if (stated := _statement(text, end, in_words))), None)


def _statement(text: str, start: int, in_words: bool) -> str | None:
    """The answer in the sentence or display that begins at a place."""
    rest = text[start : start + MAX_ANSWER_CHARS].lstrip()
    formulas = find_formulas(rest)
    if formulas and formulas[0].start == 0 and formulas[0].is_display:
        return formulas[0].text
    place = 0
    for end in SENTENCE_END.finditer(rest):
        if not any(f.start < end.start() < f.end for f in formulas[:20]):
            place = end.start()
            break
    else:
        place = len(rest)
    return _core(rest[:place].strip(), in_words) or None


def _core(sentence: str, in_words: bool) -> str:
    """The part of a sentence that is the answer."""
    formulas = find_formulas(sentence)
    if formulas:
        return _joined(formulas, sentence)
    bold = sentence.split("**")
    if len(bold) > 1 and bold[-2 if len(bold) % 2 else -1].strip():
        sentence = bold[-2 if len(bold) % 2 else -1]
    sentence = sentence.strip().strip('*_`"').strip()
    sentence = sentence if "{" in sentence else sentence.rstrip('}"').rstrip()
    listed = NUMBER_LIST.match(sentence)
    if listed is not None:
        return listed[0]
    if in_words or len(WORD.findall(COMMAND.sub(" ", sentence))) < 2:
        return sentence
    for pattern in (STARTS_AS_NUMBER, CLOCK_OR_RATIO, PRICE, NUMBER):
        found = last_match(pattern, sentence)
        if found is not None and found[0].strip():
            return found[0].strip()
    return sentence


def _joined(formulas: list[Piece], text: str) -> str:
    """The last formula, with those before it that a comma, `and` or `or` joins to it."""
    first = len(formulas) - 1
    while first and JOINED.fullmatch(text[formulas[first - 1].end : formulas[first].start]):
        first -= 1
    last = formulas[-1]
    unit = AFTER_FORMULA.match(text, last.end)
    return ", ".join(formula.text for formula in formulas[first:]) + (
        " " + unit[0].strip() if unit else ""
    )


def _unstated(text: str, in_words: bool) -> Found:
    """A whole text that is nothing but the answer, the last formula, or the last bare number."""
    if len(text) <= 200 and _is_bare(text):
        return Found(text.strip(), "whole")
    formulas = find_formulas(text)
    telling = [formula for formula in formulas if not TRIVIAL.fullmatch(formula.text)]
    outside = _blank(text, formulas)
    numbers = (match for match in NUMBER.finditer(outside) if match[0].strip(" %+-−"))
    number = None if in_words else next(iter(deque(numbers, maxlen=1)), None)
    if telling and not (number and _concludes(outside, telling[-1].end, number.start())):
        return Found(_joined(telling, text), "last formula")
    if number is not None:
        if not _is_inside_formula(outside, number):
            return Found(number[0].strip(), "last number")
        return Found(_bare_formula(outside, number), "number inside a formula", is_doubtful=True)
    if formulas:
        return Found(formulas[-1].text, "last formula")
    if in_words and len(text.split()) <= MAX_BARE_WORDS:
        return Found(text.strip(), "whole", is_doubtful=True)
    return Found(None, "nothing found")


def _is_inside_formula(text: str, number: re.Match[str]) -> bool:
    """Whether what stands around a number is a formula without delimiters: then it is no answer."""
    before, after = text[: number.start()][-1:], text[number.end() :][:1]
    return (
        before in tuple("{^_\\(*/=<>")
        and before != ""
        and (before not in "(=" or after in tuple("}^_\\*"))
    ) or (after != "" and after in "}^_\\")


def _bare_formula(text: str, number: re.Match[str]) -> str:
    """The formula without delimiters around a number: what stands between words."""
    start, end = text.rfind("\n", 0, number.start()) + 1, text.find("\n", number.end())
    line = text[max(start, number.start() - 400) : end if end >= 0 else len(text)][:800]
    masked = COMMAND.sub(lambda command: "\\" * len(command[0]), line)
    words = list(WORD.finditer(masked))
    place = number.start() - max(start, number.start() - 400)
    before = max((word.end() for word in words if word.end() <= place), default=0)
    after = min((word.start() for word in words if word.start() >= place), default=len(line))
    return line[before:after].strip(" .,:;=") or number[0].strip()


def _is_bare(text: str) -> bool:
    """No sentence: nothing but formulas and numbers, perhaps with one word behind them."""
    if "\n" in text.strip() or not text.strip():
        return False
    formulas = find_formulas(text)
    if not formulas and SEVERAL.search(text) and read_number(text) is None:
        return False
    words = WORD.findall(COMMAND.sub(" ", _blank(text, formulas)))
    starts_as_word = WORD.match(text.strip()) is not None
    is_value = any(mark.isdigit() for mark in text) and not starts_as_word
    return (len(words) <= 1 and is_value) or (not words and not formulas)


def _blank(text: str, formulas: list[Piece]) -> str:
    """The text with its formulas blanked out, places kept."""
    parts, place = [], 0
    for formula in formulas:
        parts += [text[place : formula.start], " " * (formula.end - formula.start)]
        place = formula.end
    return "".join([*parts, text[place:]])


def _concludes(text: str, formula_end: int, number_start: int) -> bool:
    """Whether a sentence behind the last formula begins as a conclusion and holds the number."""
    if number_start < formula_end:
        return False
    return CONCLUDES.search(text[formula_end:number_start]) is not None


def find_pattern(text: str, pattern: str) -> str | None:
    """The last match of a user's pattern: its first group, or all of it."""
    last = last_match(re.compile(pattern), text[-MAX_CHARS:])
    return None if last is None else (last[1] if last.re.groups else last[0])
