"""Grade a Countdown answer: an expression that uses each number once and equals the target.

The expression is parsed here, never evaluated as code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction

from leadspan.grading.extract import find_box, find_stated
from leadspan.grading.rules import Grade

TOKEN = re.compile(r"\s*(?:(\d{1,9})|([-+*/()]))")
MAX_TOKENS = 200
SPELLINGS = {
    "\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "÷": "/", "−": "-", "\\left": "", "\\right": "",
}  # fmt: skip
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def grade(completion: str, gold: str) -> Grade:
    """Grade the last boxed, tagged or stated expression.

    Args:
        completion: The student's answer.
        gold: JSON of `target` and `numbers`.
    """
    wanted = json.loads(gold)
    tagged = TAGGED.findall(completion[-20_000:])
    found = find_box(completion) or (tagged[-1] if tagged else None) or find_stated(completion)
    if found is None:
        return Grade("unparsed", None, "nothing found")
    text = found.strip()
    for spelled, plain in SPELLINGS.items():
        text = text.replace(spelled, plain)
    try:
        value, used = _Parser(text.partition("=")[0]).parse()
    except (ValueError, RecursionError):
        return Grade("unparsed", found, "not an expression")
    except ZeroDivisionError:
        return Grade("wrong", found, "division by zero")
    if Counter(used) != Counter(wanted["numbers"]):
        return Grade("wrong", found, "other numbers")
    return Grade("correct" if value == wanted["target"] else "wrong", found, "expression")


class _Parser:
    """Sums of products of numbers and brackets."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = TOKEN.match(text, place)
            if match is None or len(self._tokens) > MAX_TOKENS:
                raise ValueError("not an expression")
            self._tokens.append(match[1] or match[2])
            place = match.end()
        self._next = 0
        self._used: list[int] = []

    def parse(self) -> tuple[Fraction, list[int]]:
        value = self._sum()
        if self._next != len(self._tokens):
            raise ValueError("text left over")
        return value, self._used

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while self._peek() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._atom()
        while self._peek() in ("*", "/"):
            value = value * self._atom() if self._take() == "*" else value / self._atom()
        return value

    def _atom(self) -> Fraction:
        token = self._take()
        if token == "(":
            value = self._sum()
            if self._take() != ")":
                raise ValueError("a bracket is open")
            return value
        if token == "-":
            return -self._atom()
        if not token.isdigit():
            raise ValueError("a number is missing")
        self._used.append(int(token))
        return Fraction(token)
