"""Grade a Countdown answer: an expression that uses each number once and equals the target."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

from leadspan.grading.expression import Node, UnreadableError, parse
from leadspan.grading.extract import MAX_CHARS, find_box, find_stated, find_tag
from leadspan.grading.notation import canonical
from leadspan.grading.rules import Grade
from leadspan.grading.values import evaluate

PLAIN = re.compile(r"(?:\d+|[-+*/()\s]|\\(?:times|cdot|div)(?![A-Za-z]))+")
UNSIGNED = re.compile(r"\d\s+\d|\d\s*\(|\)\s*[\d(]|\*\s*\*")
"""Numbers or brackets side by side, which elsewhere are a product, and powers."""


def grade(completion: str, gold: str) -> Grade:
    """Grade the last boxed, tagged or stated expression.

    Args:
        completion: The student's answer.
        gold: JSON of `target` and `numbers`.
    """
    wanted = json.loads(gold)
    end = completion[-MAX_CHARS:]
    found = find_box(end) or find_tag(end) or find_stated(end)
    if found is None:
        return Grade("unparsed", None, "nothing found")
    text = canonical(found).partition("=")[0].strip()
    is_plain = PLAIN.fullmatch(text) and not UNSIGNED.search(text)
    expression = parse(text) if is_plain else None
    if expression is None:
        return Grade("unparsed", found, "not an expression")
    try:
        value = evaluate(expression.root, {})
    except UnreadableError:
        return Grade("wrong", found, "division by zero")
    if Counter(_numbers(expression.root)) != Counter(wanted["numbers"]):
        return Grade("wrong", found, "other numbers")
    return Grade("correct" if value == wanted["target"] else "wrong", found, "expression")


def _numbers(node: Node) -> Iterator[int]:
    if node[0] == "number":
        yield node[1]
    else:
        for part in node[1:]:
            yield from _numbers(part)
