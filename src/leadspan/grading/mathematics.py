"""Compare two mathematical answers by math-verify. Runs inside a worker, never in the parent."""

from __future__ import annotations

import logging
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from leadspan.grading import compare

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
LATEX = (LatexExtractionConfig(boxed_match_priority=0),)


def judge(extracted: str, golds: list[str]) -> dict[str, Any]:
    """Compare the extracted answer with each accepted gold."""
    answer = read(extracted)
    readable = False
    for gold in golds:
        wanted = read(gold)
        if wanted is None or answer is None:
            if same_parts(extracted, gold):
                return {"outcome": "correct"}
            readable |= wanted is None
            continue
        readable = True
        # math-verify's own timers are signals in this process; the parent's kill is the limit here.
        if verify(wanted, answer, timeout_seconds=None):
            return {"outcome": "correct"}
    return {"outcome": "wrong"} if readable else {"outcome": "unparsed", "reason": "not readable"}


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
    """Equal as text or, member by member, as tuples."""
    lefts, rights = compare.split_tuple(left), compare.split_tuple(right)
    return len(lefts) == len(rights) > 0 and all(
        compare.same_member(a, b) for a, b in zip(lefts, rights, strict=True)
    )
