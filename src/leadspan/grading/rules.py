"""From a completion and its golds to a grade, or to a question for a worker."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from leadspan.errors import ConfigError
from leadspan.grading import compare, extract
from leadspan.grading.choice import find_choice, letter_of
from leadspan.grading.extract import Found
from leadspan.grading.golds import QUOTED_START, read_golds
from leadspan.grading.notation import canonical, read_group
from leadspan.grading.numbers import Number, read_number, read_value, same_number

Outcome = Literal["correct", "wrong", "unparsed", "timeout"]
RANK: tuple[Outcome, ...] = ("correct", "wrong", "unparsed", "timeout")
"""With several golds the first of these counts."""
KINDS = ("math", "numeric", "choice", "exact", "set")
OF_A_USER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
NUMERIC_TOLERANCE = 1e-4
"""Relative; an answer rounded to four digits is right."""
HOLDS_NUMBER = re.compile(r"\d|\\(?!text|mathrm|textbf|mbox)|^.$")
SHORT = 80
"""Answers of so few characters are compared in place, in milliseconds whatever they hold."""
PROSE_WORDS = 6
"""A gold with more words than this is searched for its answer as a completion is."""
FLOAT_ROUNDING = 12
"""Places to which math-verify rounds; at its own 6, 1/2006! equals 1/2004!."""


@dataclass(frozen=True)  # slots would double the time of pickling
class Grade:
    """What came of one completion."""

    outcome: Outcome
    """`wrong` was read and differs; `unparsed` could not be read; `timeout` cost more than allowed."""
    extracted: str | None = None
    """The answer found in the completion, as it stands there; None where none was found."""
    reason: str = ""
    """How the answer was found or why it was not, in a few words, for counting."""

    @property
    def is_correct(self) -> bool:
        """True for `correct` alone."""
        return self.outcome == "correct"


@dataclass(frozen=True)
class Question:
    """A call that may cost more than its limit: for a worker to make."""

    judge: Callable[..., Grade | Question]
    """A function of this module."""
    arguments: tuple[Any, ...]
    extracted: str | None = None
    """The answer to be judged, for the grade of a worker that ended."""


def check_kind(kind: str, where: str = "grading") -> str:
    """Return `kind` if it is one of KINDS or a `module:function`.

    Raises:
        ConfigError: It is neither.
    """
    if kind in KINDS or OF_A_USER.fullmatch(kind):
        return kind
    raise ConfigError(
        f"{where}: grading must be one of {', '.join(KINDS)} or module:function; got {kind!r}."
    )


def ask(
    completion: str, golds: tuple[str, ...], kind: str, pattern: str | None
) -> Grade | Question:
    """Grade a completion if text and plain numbers suffice, else say what to ask a worker."""
    end = completion[-extract.MAX_CHARS :]
    if kind not in KINDS:
        return Question(judge_by_user, (kind, end, golds))
    if pattern is not None:
        return Question(judge_by_pattern, (pattern, end, golds, kind))
    if kind not in ("exact", "choice"):
        golds = tuple(answer for gold in golds for answer in answers_of_gold(gold))
    return judge_found(find(completion, kind, golds), golds, kind)


def ask_about_gold(gold: str, kind: str) -> Grade | Question:
    """Whether a gold can be read, `correct` or `unparsed`, or what to ask a worker about it."""
    if kind not in KINDS:
        return Question(judge_existence, (kind,))
    if kind == "math" and read_number(gold) is None:
        return Question(judge_readability, answers_of_gold(gold)[:1])
    if kind == "choice":
        is_readable = letter_of(gold) is not None
    elif kind == "numeric":
        is_readable = all(read_value(answer) is not None for answer in answers_of_gold(gold))
    else:
        is_readable = bool(gold.strip())
    return Grade("correct" if is_readable else "unparsed")


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
    parts = 1
    if completion.count("boxed") > 1 and kind != "numeric":
        groups = [read_group(canonical(gold)) for gold in golds]
        parts = max((len(group.members) for group in groups if group is not None), default=1)
    if kind in ("math", "numeric"):
        return extract.find_answer(completion, in_words, parts)
    box = extract.find_box(completion, parts)
    if box is not None or extract.tries_box(completion):
        return Found(box, "box" if box is not None else "box not closed")
    stated = None if kind == "exact" else extract.find_stated(completion)
    return Found(completion.strip(), "whole") if stated is None else Found(stated, "stated")


def judge_found(found: Found, golds: tuple[str, ...], kind: str) -> Grade | Question:
    """Grade what was found, or say what to ask a worker."""
    if found.text is None:
        return Grade("unparsed", None, found.reason if "box" in found.reason else "nothing found")
    text = found.text.strip()
    if not text:
        return Grade("unparsed", None, "empty")
    if len(text) > extract.MAX_ANSWER_CHARS:
        return Grade("unparsed", text[:80], "too long")
    if kind == "math":
        return _ask_math(text, golds, found)
    if kind == "exact":
        is_right = text in [gold.strip() for gold in golds]
    elif kind == "choice":
        is_right = text.upper() in [letter_of(gold) for gold in golds]
    elif kind == "set":
        is_right = any(compare.same_set(text, gold) for gold in golds)
    else:
        number = read_value(text)
        if number is None:
            return Grade("unparsed", text, "not a number")
        is_right = _is_any(number, [read_value(gold) for gold in golds], NUMERIC_TOLERANCE)
    return Grade("correct" if is_right else "wrong", text, found.reason)


def _is_any(number: Number, wanted: list[Number | None], tolerance: float = 0.0) -> bool:
    return any(same_number(number, want, tolerance) for want in wanted if want is not None)


def _ask_math(text: str, golds: tuple[str, ...], found: Found) -> Grade | Question:
    if any(compare.same_text(text, gold) for gold in golds):
        return _math_grade(True, text, found)
    number, wanted = read_number(text), [read_number(gold) for gold in golds]
    if number is not None and None not in wanted:
        is_right = _is_any(number, wanted)
        has_comma = any("," in side for side in (text, *golds))  # 1,200 may be a list too
        if is_right or not (found.is_doubtful or has_comma):
            return _math_grade(is_right, text, found)
    if max(map(len, (text, *golds))) <= SHORT:
        verdicts = [compare.same(text, gold) for gold in golds]
        if True in verdicts or None not in verdicts:
            return _math_grade(True in verdicts, text, found)
    return Question(judge_math, (text, golds, found), text)


def _math_grade(is_right: bool, text: str, found: Found) -> Grade:
    outcome: Outcome = "correct" if is_right else "unparsed" if found.is_doubtful else "wrong"
    return Grade(outcome, text, found.reason)


def judge_math(text: str, golds: tuple[str, ...], found: Found) -> Grade:
    """Compare an answer with each gold, by math-verify where we cannot read one of them.

    `unparsed` speaks of the answer alone: a gold that cannot be read is compared as text.
    """
    verdicts = {gold: compare.same(text, gold) for gold in golds}
    unread = [gold for gold, verdict in verdicts.items() if verdict is None]
    if True in verdicts.values() or not unread:
        return _math_grade(True in verdicts.values(), text, found)
    answer = None if compare.is_words(text) else read_by_math_verify(text)
    if answer is None and not compare.is_readable(text):
        return Grade("unparsed", text, "not readable")
    is_right = answer is not None and any(_same_by_math_verify(gold, answer) for gold in unread)
    return _math_grade(is_right, text, found)


def judge_readability(gold: str) -> Grade:
    """`correct` for a gold that is read here or by math-verify."""
    is_readable = compare.is_readable(gold) or read_by_math_verify(gold) is not None
    return Grade("correct" if is_readable else "unparsed")


def read_by_math_verify(text: str) -> Any:
    """What math-verify makes of one answer, or None."""
    with _untimed():
        import math_verify
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    # Its own timers are signals in this process; the worker's CPU limit is the limit here.
    found = math_verify.parse(
        "\\boxed{" + text + "}",
        extraction_config=(math_verify.LatexExtractionConfig(boxed_match_priority=0),),
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found or None


def _same_by_math_verify(gold: str, answer: Any) -> bool:
    import math_verify

    wanted = None if compare.is_words(gold) else read_by_math_verify(gold)
    return wanted is not None and math_verify.verify(
        wanted,
        answer,
        float_rounding=FLOAT_ROUNDING,
        timeout_seconds=None,
        allow_set_relation_comp=True,
    )


def judge_by_pattern(
    pattern: str, completion: str, golds: tuple[str, ...], kind: str
) -> Grade | Question:
    """Grade what a user's pattern finds."""
    try:
        found = extract.find_pattern(completion, pattern)
    except re.error as error:
        raise ConfigError(
            f"grading {pattern}: answer_pattern is no regular expression ({error}). Mend it."
        ) from None
    return judge_found(Found(found, "pattern"), golds, kind)


def judge_by_user(kind: str, completion: str, golds: tuple[str, ...]) -> Grade:
    """Call a user's `module:function(completion, gold)`, which returns a bool, an outcome or a Grade."""
    function = _import_function(kind)
    grades = [_call(function, kind, completion, gold) for gold in golds]
    return min(grades, key=lambda grade: RANK.index(grade.outcome))


def judge_existence(kind: str) -> Grade:
    """`correct` where the user's function can be imported; golds are its own affair."""
    _import_function(kind)
    return Grade("correct")


def _import_function(kind: str) -> Callable[[str, str], object]:
    module, _, name = kind.partition(":")
    try:
        with _untimed():
            return getattr(import_module(module), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"grading {kind}: cannot be imported ({error}). Run where the module can be found."
        ) from None


def _call(function: Callable[[str, str], object], kind: str, completion: str, gold: str) -> Grade:
    try:
        verdict = function(completion, gold)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:200]
        raise ConfigError(f"grading {kind}: raised {type(error).__name__}: {message}") from None
    outcome = verdict.outcome if isinstance(verdict, Grade) else verdict
    if isinstance(outcome, bool):
        outcome = "correct" if outcome else "wrong"
    if not isinstance(outcome, str) or outcome not in RANK:
        raise ConfigError(
            f"grading {kind}: must return a bool, an outcome or a Grade; got {verdict!r:.80}"
        )
    if isinstance(verdict, Grade):
        return Grade(outcome, verdict.extracted, verdict.reason or "own")
    return Grade(outcome, None, "own")


@contextmanager
def _untimed() -> Iterator[None]:
    """Stop the worker's timer: to import a library counts for no question."""
    left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, left)
