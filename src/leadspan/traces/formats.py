"""Which format a row has, and the checks that all traces pass. Pure: no files, no tokenizers.

A new format is an adapter and a line in `FORMATS`; docs/data.md tables them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadspan.records import Trace, Turn
from leadspan.traces.adapters import (
    Draft,
    Reading,
    Row,
    Unusable,
    from_conversations,
    from_limo,
    from_messages,
    from_nemotron,
    from_openr1,
    from_openthoughts_parts,
    from_prompt_completion,
    from_s1k,
    from_sections,
    from_synthetic1,
)
from leadspan.traces.sections import THINK, Refusal

ID_COLUMNS = ("id", "uuid", "source_id", "problem_id")
META_TEXT_CHARACTERS = 200
"""Longer texts of other columns are not carried along in `meta`."""


@dataclass(frozen=True, slots=True)
class Format:
    """A known shape of rows."""

    columns: tuple[str, ...]
    """All of these are there, or it is another format."""
    adapt: Callable[[Row, Reading], list[Draft]]
    only: bool = False
    """No other column than these, gold and an id may be there, or it is not detected."""
    texts: tuple[str, ...] = ()
    """Columns that hold text of the trace and do not go into `meta`."""


_CHAT = Format(("conversations",), from_conversations, texts=("system",))
FORMATS: dict[str, Format] = {
    "sections": Format(("prompt", "cot"), from_sections, texts=("answer_text", "answer", "system")),
    "openr1": Format(
        ("problem", "generations"), from_openr1, texts=("answer", "solution", "messages")
    ),
    "synthetic1": Format(("prompt", "llm_response"), from_synthetic1),
    "nemotron": Format(("input", "output"), from_nemotron, texts=("system_prompt",)),
    "s1k": Format(("question", "thinking_trajectories"), from_s1k, texts=("attempt", "solution")),
    "s1k-1.1": Format(("question", "deepseek_thinking_trajectory"), from_s1k),
    "openthoughts-metadata": Format(("problem", "deepseek_reasoning"), from_openthoughts_parts),
    "openthoughts": _CHAT,
    "bespoke-stratos": _CHAT,
    "sky-t1": _CHAT,
    "messages": Format(("messages",), from_messages, texts=("system", "answer")),
    "prompt_completion": Format(
        ("prompt", "completion"), from_prompt_completion, texts=("answer", "system")
    ),
    "limo": Format(("question", "solution", "answer"), from_limo, only=True),
}


def detect(row: Row) -> Format:
    """The first format whose columns the row has, filled ones before null ones.

    Raises:
        Unusable: No format fits.
    """
    for filled in (True, False):
        for known in FORMATS.values():
            there = all(
                name in row and not (filled and row[name] is None) for name in known.columns
            )
            extra = set(row) - {*known.columns, *ID_COLUMNS, "gold"} if known.only else ()
            if there and not extra:
                return known
    raise Unusable("unknown_format")


def iter_traces_of(row: Row, known: Format | None, reading: Reading) -> Iterator[Trace | Refusal]:
    """The traces of one row, or the reason why there are none."""
    try:
        found = known or detect(row)
        for name in found.columns:
            if row.get(name) is None:
                raise Unusable(f"missing:{name}")
        for draft in found.adapt(row, reading):
            yield _checked(row, draft, found)
    except Unusable as reason:
        yield Refusal(str(reason))


def _checked(row: Row, draft: Draft, known: Format) -> Trace:
    split = draft.split
    if not split.cot.strip():
        raise Unusable("empty_cot")
    # In a student's sequence they would be control tokens: a second end of the thinking.
    if THINK.close in split.cot or THINK.open in split.answer or THINK.close in split.answer:
        raise Unusable("marker_in_section")
    if not any(turn.content.strip() for turn in draft.turns if turn.role == "user"):
        raise Unusable("empty_prompt")
    digest = content_digest(draft.turns, split.cot, split.answer)
    named = next((row[name] for name in ID_COLUMNS if row.get(name) not in (None, "")), digest)
    return Trace(
        trace_id=str(named) + (draft.suffix if named is not digest else ""),
        turns=draft.turns,
        cot=split.cot,
        answer=split.answer if split.closed else "",
        golds=_golds(draft.gold),
        closed=split.closed,
        meta=_meta(row, known),
    )


def content_digest(turns: tuple[Turn, ...], cot: str, answer: str) -> str:
    """Identity of what a trace says: 16 hex digits.

    Raises:
        Unusable: A lone surrogate, which is no character and which no tokenizer takes.
    """
    texts = [part for turn in turns for part in (turn.role, turn.content)]
    try:
        packed = "\0".join((*texts, cot, answer)).encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable("lone_surrogate") from None
    return hashlib.blake2b(packed, digest_size=8).hexdigest()


def _golds(value: Any) -> tuple[str, ...]:
    """Empty and null both mean none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | Mapping):
        raise Unusable("not_text:gold")
    text = "" if value is None else str(value)
    return (text,) if text.strip() else ()


def _meta(row: Row, known: Format) -> dict[str, Any]:
    """The row's other short columns, and its `meta`."""
    hidden = {*known.columns, *known.texts, *ID_COLUMNS, "gold", "meta"}
    short = {
        name: value
        for name, value in row.items()
        if name not in hidden
        and (
            isinstance(value, bool | int | float)
            or (isinstance(value, str) and len(value) <= META_TEXT_CHARACTERS)
        )
    }
    meta = row.get("meta")
    return {**short, **meta} if isinstance(meta, Mapping) else short


def mapped(columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """A function that gives a row our names for the user's columns."""
    ours = {theirs: name for name, theirs in columns.items()}

    def rename(row: Row) -> Row:
        # A column of the user's that bears one of our names by accident must not come through.
        kept = {name: value for name, value in row.items() if name not in (*columns, *ours)}
        return {**kept, **{ours[name]: row[name] for name in ours if name in row}}

    return rename
