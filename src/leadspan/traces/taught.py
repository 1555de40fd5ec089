"""Which of several teachers a sequence has, and the prompt that a teacher reads instead of the student's.

Both travel in `Sequence.meta`; the student's tokens are what they would be without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceABC
from dataclasses import replace

import numpy as np

from leadspan.records import Example, Sequence, Span, Trace
from leadspan.traces.render import Renderer
from leadspan.traces.sections import SkippedRow
from leadspan.traces.sources import TEACHER, TEACHER_PROMPT, LoadedTraces

FIELDS = re.compile(r"\{(gold|cot|answer)\}")


def teacher_of(sequence: Sequence) -> int:
    """Place of the sequence's teacher among those of the run."""
    place: int = sequence.meta.get(TEACHER, 0)
    return place


def fill(template: str, trace: Trace) -> str | None:
    """The system turn for a trace; None where the trace lacks a part that it names."""
    parts = {"gold": trace.gold, "cot": trace.cot, "answer": trace.answer}
    if not all(parts[name] for name in FIELDS.findall(template)):
        return None
    return FIELDS.sub(lambda found: parts[found[1]] or "", template)


def with_teacher_prompts(
    rows: Iterable[tuple[Trace, Sequence]],
    templates: SequenceABC[str | None],
    renderer: Renderer,
    counts: LoadedTraces,
) -> Iterator[tuple[Trace, Sequence]]:
    """Add the teacher's prompt to each sequence; rows that cannot have one are refused and counted.

    Args:
        rows: Traces with their sequences.
        templates: `system_prompt` of each teacher.
        renderer: Turns conversations into prompts.
        counts: Receives what was refused.
    """
    for trace, sequence in rows:
        template = templates[trace.meta.get(TEACHER, 0)]
        if template is None:
            yield trace, sequence
            continue
        text = fill(template, trace)
        reason = "nothing_for_teacher_prompt"
        if text is not None:
            prompt = renderer.prompt_with_system(trace, text)
            if not isinstance(prompt, SkippedRow):
                meta = {**sequence.meta, TEACHER_PROMPT: list(prompt.ids)}
                yield trace, replace(sequence, meta=meta)
                continue
            reason = f"teacher_prompt:{prompt.reason}"
        counts.refused[reason] += 1
        counts.places.setdefault(reason, trace.trace_id)


def as_teacher_reads(example: Example) -> Example:
    """The example behind the teacher's prompt, with the same labels; itself where there is none.

    Raises:
        ValueError: A token of the prompt is scored.
    """
    sequence = example.sequence
    ids = sequence.meta.get(TEACHER_PROMPT)
    if ids is None:
        return example
    start = sequence.prompt.end
    if example.supervised_T[:start].any():
        raise ValueError(f"{sequence.trace_id}: no token of the prompt may be scored.")
    prompt_T = np.array(ids, dtype=np.int32)
    moved = len(prompt_T) - start
    return Example(
        Sequence(
            trace_id=sequence.trace_id,
            input_ids_T=np.concatenate([prompt_T, sequence.input_ids_T[start:]]),
            prompt=Span(0, len(prompt_T)),
            cot=Span(sequence.cot.start + moved, sequence.cot.end + moved),
            answer=Span(sequence.answer.start + moved, sequence.answer.end + moved),
            was_cut=sequence.was_cut,
            closed=sequence.closed,
            is_prefix=sequence.is_prefix,
        ),
        np.concatenate([np.zeros(len(prompt_T), dtype=bool), example.supervised_T[start:]]),
    )
