"""From a completion and its golds to a grade, or to a question for a worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from leadspan.errors import ConfigError
from leadspan.grading import compare, extract
from leadspan.grading.choice import find_choice, letter_of
from leadspan.grading.extract import QUOTED_START, Found, read_golds
from leadspan.grading.grade import KINDS, Grade, Outcome
from leadspan.grading.notation import canonical, read_group
from leadspan.grading.numbers import read_number, read_value, same_number

NUMERIC_TOLERANCE = 1e-4
"""Relative; an answer rounded to four digits is right."""
HOLDS_NUMBER = re.compile(r"\d|\\(?!text|mathrm|textbf|mbox)|^.$")
SHORT = 80
"""Answers of so few characters are compared in place, in milliseconds whatever they hold."""
PROSE_WORDS = 6
"""A gold with more words than this is searched for its answer as a completion is."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a worker is asked."""

    kind: str
    """`math`, `pattern` or a user's `module:function`."""
    extracted: str
    golds: tuple[str, ...]
    reason: str
    completion: str = ""
    """Only for a user's own function or pattern."""
    is_about_gold: bool = False
    """Asks whether the golds can be read, instead of grading."""
    is_doubtful: bool = False
    """Never `wrong`: the text need not be the answer."""
    pattern: str = ""
    of_kind: str = ""
    """How what a pattern finds is graded."""

    def to_json(self) -> dict[str, Any]:
        """As the worker reads it."""
        return {
            "kind": self.kind,
            "extracted": self.extracted,
            "golds": self.golds,
            "completion": self.completion,
            "is_about_gold": self.is_about_gold,
            "pattern": self.pattern,
        }


def ask(
    completion: str, golds: tuple[str, ...], kind: str, pattern: str | None
) -> Grade | Question:
    """Grade a completion if text and plain numbers suffice, else say what to ask a worker."""
    end = completion[-extract.MAX_CHARS :]
    if kind not in KINDS:
        return Question(kind, "", golds, "own", end)
    if pattern is not None:
        return Question("pattern", "", golds, "pattern", end, pattern=pattern, of_kind=kind)
    if kind not in ("exact", "choice"):
        golds = tuple(answer for gold in golds for answer in answers_of_gold(gold))
    return judge_found(find(completion, kind, golds), golds, kind)


def answers_of_gold(gold: str) -> tuple[str, ...]:
    """The answers in a gold that is a solution, a mapping or prose; other golds stay as they are."""
    if "####" in gold or "boxed" in gold or QUOTED_START.match(gold):
        try:
            return read_golds(gold) or (gold,)
        except ValueError:
            return (gold,)
    words = extract.WORD.findall(extract.COMMAND.sub(" ", gold))
    if len(words) > PROSE_WORDS and any(mark in gold for mark in "$\\0123456789"):
        return (extract.find_answer(gold).text or gold,)
    return (gold,)


def find(completion: str, kind: str, golds: tuple[str, ...]) -> Found:
    """The answer as it stands in the completion, and the rule that found it."""
    if kind == "choice":
        return Found(find_choice(completion), "choice")
    in_words = kind == "math" and not any(HOLDS_NUMBER.search(gold) for gold in golds)
    parts = _count_parts(golds) if completion.count("boxed") > 1 and kind != "numeric" else 1
    if kind in ("math", "numeric"):
        return extract.find_answer(completion, in_words, parts)
    box = extract.find_box(completion, parts)
    if box is not None or extract.tries_box(completion):
        return Found(box, "box" if box is not None else "box not closed")
    stated = None if kind == "exact" else extract.find_stated(completion)
    return Found(completion.strip(), "whole") if stated is None else Found(stated, "stated")


def _count_parts(golds: tuple[str, ...]) -> int:
    groups = [read_group(canonical(gold)) for gold in golds]
    return max((len(group.members) for group in groups if group is not None), default=1)


def judge_found(found: Found, golds: tuple[str, ...], kind: str) -> Grade | Question:
    """Grade what was found, or say what to ask a worker."""
    text = (found.text or "").strip()
    if not text:
        reason = "empty" if found.text is not None else found.reason
        return Grade(
            "unparsed",
            None,
            reason if found.text is not None or "box" in reason else "nothing found",
        )
    if len(text) > extract.MAX_ANSWER_CHARS:
        return Grade("unparsed", text[:80], "too long")
    if kind == "math":
        return _ask_math(text, golds, found)
    outcome = _decide(text, golds, kind)
    return Grade(outcome, text, found.reason if outcome != "unparsed" else "not a number")


def _decide(found: str, golds: tuple[str, ...], kind: str) -> Any:
    if kind == "exact":
        return "correct" if any(found == gold.strip() for gold in golds) else "wrong"
    if kind == "choice":
        return "correct" if found.upper() in [letter_of(gold) for gold in golds] else "wrong"
    if kind == "set":
        return "correct" if any(compare.same_set(found, gold) for gold in golds) else "wrong"
    number = read_value(found)
    if number is None:
        return "unparsed"
    wanted = [read_value(gold) for gold in golds]
    same = (same_number(number, w, NUMERIC_TOLERANCE) for w in wanted if w is not None)
    return "correct" if any(same) else "wrong"


def _ask_math(text: str, golds: tuple[str, ...], found: Found) -> Grade | Question:
    if any(compare.same_text(text, gold) for gold in golds):
        return Grade("correct", text, found.reason)
    number = read_number(text)
    wanted = [read_number(gold) for gold in golds]
    if number is not None and all(w is not None for w in wanted):
        if any(same_number(number, w) for w in wanted if w is not None):
            return Grade("correct", text, found.reason)
        if not found.is_doubtful and not any(
            "," in side for side in (text, *golds)
        ):  # 1,200 may be a list too
            return Grade("wrong", text, found.reason)
    question = Question("math", text, golds, found.reason, is_doubtful=found.is_doubtful)
    if max(map(len, (text, *golds))) > SHORT:
        return question
    verdicts = [compare.same(text, gold) for gold in golds]
    if True in verdicts:
        return Grade("correct", text, found.reason)
    return question if None in verdicts else _not_equal(question)


def _not_equal(question: Question) -> Grade:
    outcome: Outcome = "unparsed" if question.is_doubtful else "wrong"
    return Grade(outcome, question.extracted, question.reason)


def gold_is_readable(gold: str, kind: str) -> bool | Question:
    """Whether a gold can be read, or what to ask a worker about it."""
    if kind == "choice":
        return letter_of(gold) is not None
    if kind == "numeric":
        return all(read_value(answer) is not None for answer in answers_of_gold(gold))
    if kind == "math" and read_number(gold) is None:
        return Question(kind, "", answers_of_gold(gold)[:1], "gold", is_about_gold=True)
    if kind not in KINDS:
        return Question(kind, "", (gold,), "gold", is_about_gold=True)
    return bool(gold.strip())


def settle(question: Question, reply: dict[str, Any]) -> Grade | Question:
    """A worker's reply as a grade, or as the next question where a pattern was looked for.

    Raises:
        ConfigError: The user's own function or pattern failed.
    """
    if "error" in reply:
        raise ConfigError(f"grading {question.pattern or question.kind}: {reply['error']}")
    if question.kind == "pattern":
        return judge_found(Found(reply["found"], "pattern"), question.golds, question.of_kind)
    reason = reply.get("reason") or question.reason
    if question.kind == "math" and reply["outcome"] == "wrong":
        return _not_equal(question)
    return Grade(reply["outcome"], reply.get("extracted", question.extracted), reason)
