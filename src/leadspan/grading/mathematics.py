"""Compare by math-verify, inside a worker, what `compare` cannot read."""

from __future__ import annotations

import logging
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from leadspan.grading import compare

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
LATEX = (LatexExtractionConfig(boxed_match_priority=0),)
FLOAT_ROUNDING = 12
"""Places to which math-verify rounds; at its own 6, 1/2006! equals 1/2004!."""


def judge(extracted: str, golds: list[str]) -> dict[str, Any]:
    """Compare the extracted answer with each gold.

    `unparsed` speaks of the extracted answer alone: a gold that cannot be read is compared as text.
    """
    answer = None if compare.is_words(extracted) else read(extracted)
    if answer is not None and any(_verify(gold, answer) for gold in golds):
        return {"outcome": "correct"}
    if answer is None and not compare.is_readable(extracted):
        return {"outcome": "unparsed", "reason": "not readable"}
    return {"outcome": "wrong"}


def _verify(gold: str, answer: Any) -> bool:
    wanted = None if compare.is_words(gold) else read(gold)
    if wanted is None:
        return False
    # math-verify's own timers are signals in this process; the worker's CPU limit is the limit here.
    return bool(
        verify(
            wanted,
            answer,
            float_rounding=FLOAT_ROUNDING,
            timeout_seconds=None,
            allow_set_relation_comp=True,
        )
    )


def read(text: str) -> Any:
    """What math-verify makes of one answer, or None."""
    found = parse(
        "\\boxed{" + text + "}",
        extraction_config=LATEX,
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found or None
