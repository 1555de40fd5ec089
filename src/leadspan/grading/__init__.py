"""Grading: extract an answer from a completion, compare it with the gold, say one of four outcomes.

`rules` grades what text and numbers can decide and says what to ask else; `workers` bounds the cost of
that. Nothing here imports torch; nothing evaluates an answer as code.
"""

from __future__ import annotations

from leadspan.grading.numbers import answer_key
from leadspan.grading.rules import KINDS, Grade, Outcome, check_kind
from leadspan.grading.workers import Grader

__all__ = ["KINDS", "Grade", "Grader", "Outcome", "answer_key", "check_kind"]
