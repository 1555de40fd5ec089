"""Compare two mathematical answers by math-verify. Runs inside a worker, never in the parent."""

from __future__ import annotations

import logging
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from leadspan.grading import compare

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
LATEX = (LatexExtractionConfig(boxed_match_priority=0),)


def judge(extracted: str, golds: list[str]) -> dict[str, Any]:
    """Compare the extracted answer with each accepted gold.

    `unparsed` speaks of the extracted answer alone: a gold that math-verify cannot read is compared
    as text, or member by member.
    """
    answer = None if compare.is_words(extracted) else read(extracted)
    for gold in golds:
        if same_parts(extracted, gold):
            return {"outcome": "correct"}
        wanted = None if answer is None or compare.is_words(gold) else read(gold)
        # math-verify's own timers are signals in this process; the parent's kill is the limit here.
        if wanted is not None and verify(
            wanted, answer, timeout_seconds=None, allow_set_relation_comp=True
        ):
            return {"outcome": "correct"}
    if answer is None and not compare.is_words(extracted):
        return {"outcome": "unparsed", "reason": "not readable"}
    return {"outcome": "wrong"}


def read(text: str) -> Any:
    """What math-verify makes of one answer, or None."""
    found = parse(
        "\\boxed{" + text + "}",
        extraction_config=LATEX,
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found or None


def same_parts(left: str, right: str) -> bool:
    """Equal as text or, member by member and in order, as tuples of the same brackets."""
    if compare.same_text(left, right):
        return True
    lefts, rights = compare.split_tuple(left), compare.split_tuple(right)
    return (
        len(lefts) == len(rights) > 0
        and compare.brackets(left) == compare.brackets(right)
        and all(compare.same_member(a, b) for a, b in zip(lefts, rights, strict=True))
    )
