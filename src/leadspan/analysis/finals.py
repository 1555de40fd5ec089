"""Which traces are wrong: their own final answer, graded against their golds.

A trace that passes through its gold and ends elsewhere derives nothing. Knows nothing about tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from leadspan.analysis.mentions import find_mentions
from leadspan.analysis.values import accepted_texts, read_accepted
from leadspan.analysis.wording import last_sentence_start
from leadspan.grading import Grade, Grader
from leadspan.records import Trace


def find_wrong(traces: Iterable[Trace], grader: Grader) -> frozenset[str]:
    """Ids of the traces whose final answer was read and is none of their golds.

    What cannot be read, and what has no final answer (an open think block), is not called wrong.
    """
    asked = [trace for trace in traces if trace.golds and _final(trace).strip()]
    rows = [(_final(trace), accepted_texts(trace.golds), "math") for trace in asked]
    grades = grader.grade_many(rows)
    return frozenset(
        trace.trace_id
        for trace, grade in zip(asked, grades, strict=True)
        if grade.outcome == "wrong" and not _says_gold(trace, grade)
    )


def _final(trace: Trace) -> str:
    """The text that holds the final answer."""
    if trace.answer.strip():
        return trace.answer
    return trace.cot if trace.closed else ""


def _says_gold(trace: Trace, grade: Grade) -> bool:
    """Whether what a grader calls another text says the gold: "Amazon River" does of "Amazon"."""
    final = _final(trace).rstrip()
    last = final[last_sentence_start(final) :]
    return any(
        find_mentions(last if gold.kind == "word" else grade.extracted or "", gold)
        for gold in read_accepted(trace.golds)
    )
