"""From a completion and its golds to a grade, or to a question for a worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from leadspan.errors import ConfigError
from leadspan.grading import compare, extract
from leadspan.grading.grade import KINDS, Grade

NUMERIC_TOLERANCE = 1e-4
"""Relative; an answer rounded to four digits is right."""
HOLDS_NUMBER = re.compile(r"\d|\\(?!text|mathrm|textbf|mbox)|^.$")


@dataclass(frozen=True, slots=True)
class Question:
    """What a worker is asked."""

    kind: str
    extracted: str
    golds: tuple[str, ...]
    reason: str
    completion: str = ""
    """Only for a user's own function."""
    is_about_gold: bool = False
    """Asks whether the golds can be read, instead of grading."""

    def to_json(self) -> dict[str, Any]:
        """As the worker reads it."""
        return {
            "kind": self.kind,
            "extracted": self.extracted,
            "golds": self.golds,
            "completion": self.completion,
            "is_about_gold": self.is_about_gold,
        }


def ask(
    completion: str, golds: tuple[str, ...], kind: str, pattern: str | None
) -> Grade | Question:
    """Grade a completion if text and plain numbers suffice, else say what to ask a worker."""
    if kind not in KINDS:
        return Question(kind, "", golds, "own", completion[-extract.MAX_CHARS :])
    in_words = kind == "math" and not any(HOLDS_NUMBER.search(gold) for gold in golds)
    found, reason = find(completion, kind, pattern, in_words)
    if found is None or not found.strip():
        return Grade("unparsed", None, _why_not(found, reason))
    if len(found) > extract.MAX_ANSWER_CHARS:
        return Grade("unparsed", found[:80], "too long")
    found = found.strip()
    if kind == "math":
        return _ask_math(found, golds, reason)
    outcome = _decide(found, golds, kind)
    return Grade(outcome, found, reason if outcome != "unparsed" else "not a number")


def find(
    completion: str, kind: str, pattern: str | None = None, in_words: bool = False
) -> tuple[str | None, str]:
    """The answer as it stands in the completion, and the rule that found it.

    With `in_words` a word or a name is asked for, and a number that stands about is no answer.
    """
    if pattern is not None:
        return extract.find_pattern(completion, pattern), "pattern"
    if kind == "choice":
        return extract.find_choice(completion), "choice"
    box = extract.find_box(completion)
    if box is not None or extract.tries_box(completion):
        return box, "box" if box is not None else "box not closed"
    if kind == "exact":
        return completion.strip(), "whole"
    stated = extract.find_stated(completion, in_words)
    if stated is not None:
        return stated, "stated"
    if kind == "set":
        return completion.strip(), "whole"
    return (None if in_words else extract.find_number(completion)), "last number"


def _why_not(found: str | None, reason: str) -> str:
    if found is not None:
        return "empty"
    return reason if reason == "box not closed" else "nothing found"


def _decide(found: str, golds: tuple[str, ...], kind: str) -> Any:
    if kind == "exact":
        return "correct" if any(found == gold.strip() for gold in golds) else "wrong"
    if kind == "choice":
        letters = [find_letter(gold) for gold in golds]
        return "correct" if found.upper() in letters else "wrong"
    if kind == "set":
        return "correct" if any(_same_set(found, gold) for gold in golds) else "wrong"
    number = compare.read_number(found)
    if number is None:
        return "unparsed"
    wanted = [compare.read_number(gold) for gold in golds]
    same = (compare.same_number(number, w, NUMERIC_TOLERANCE) for w in wanted if w is not None)
    return "correct" if any(same) else "wrong"


def _same_set(found: str, gold: str) -> bool:
    mine, wanted = compare.split_tuple(found), compare.split_tuple(gold)
    return (
        bool(mine)
        and all(any(compare.same_member(a, b) for b in wanted) for a in mine)
        and all(any(compare.same_member(a, b) for a in mine) for b in wanted)
    )


def _ask_math(found: str, golds: tuple[str, ...], reason: str) -> Grade | Question:
    if any(compare.same_text(found, gold) for gold in golds):
        return Grade("correct", found, reason)
    number = compare.read_number(found)
    wanted = [compare.read_number(gold) for gold in golds]
    if number is not None and all(w is not None for w in wanted):
        same = any(compare.same_number(number, w) for w in wanted if w is not None)
        return Grade("correct" if same else "wrong", found, reason)
    return Question("math", found, golds, reason)


def gold_is_readable(gold: str, kind: str) -> bool | Question:
    """Whether a gold can be read, or what to ask a worker about it."""
    if kind == "choice":
        return find_letter(gold) is not None
    if kind == "numeric":
        return compare.read_number(gold) is not None
    if kind == "math" and compare.read_number(gold) is None:
        return Question(kind, "", (gold,), "gold", is_about_gold=True)
    if kind not in KINDS:
        return Question(kind, "", (gold,), "gold", is_about_gold=True)
    return bool(gold.strip())


def find_letter(gold: str) -> str | None:
    """`B` of `B`, `(B)` or `b.`."""
    letter = gold.strip().strip("().").upper()
    return letter if len(letter) == 1 and letter.isalpha() else None


def settle(question: Question, reply: dict[str, Any]) -> Grade:
    """A worker's reply as a grade.

    Raises:
        ConfigError: The user's own function failed.
    """
    if "error" in reply:
        raise ConfigError(f"grading {question.kind}: {reply['error']}")
    reason = reply.get("reason") or question.reason
    return Grade(reply["outcome"], reply.get("extracted", question.extracted), reason)
