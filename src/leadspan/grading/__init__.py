"""Grading: extract an answer from a completion, compare it with the gold, say one of four outcomes.

`extract` finds the answer in the text, `compare` decides what plain text and numbers can decide,
`mathematics` asks math-verify inside `worker` processes, which `pool` starts, kills and replaces.
Nothing here imports torch; nothing evaluates an answer as code.
"""

from __future__ import annotations

from leadspan.grading.grade import KINDS, Grade, Outcome, check_kind
from leadspan.grading.numbers import answer_key
from leadspan.grading.pool import Grader

__all__ = ["KINDS", "Grade", "Grader", "Outcome", "answer_key", "check_kind"]
