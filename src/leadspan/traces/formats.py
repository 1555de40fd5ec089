"""Rows of each known data set as traces. Pure: one adapter a format, no files, no tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from leadspan.records import Trace, Turn
from leadspan.traces.sections import Refusal, Segmented, split_completion

Row = Mapping[str, Any]


class Unusable(Exception):  # noqa: N818 - control flow inside this file, never seen outside
    """A row that cannot become a trace; the message is the reason that is counted."""


def text_of(row: Row, *names: str) -> str:
    """The first of these columns that is there and not null.

    Raises:
        Unusable: None is there, or it holds something else than text.
    """
    for name in names:
        if row.get(name) is not None:
            if not isinstance(row[name], str):
                raise Unusable(f"not_text:{name}")
            return str(row[name])
    raise Unusable(f"missing:{names[0]}")


def from_generic(row: Row) -> Trace:
    """`{prompt, cot, answer_text | answer, gold, meta}`: already segmented."""
    prompt, cot = text_of(row, "prompt"), text_of(row, "cot")
    meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
    answer = text_of(row, "answer_text", "answer") if _has(row, "answer_text", "answer") else ""
    closed = bool(meta.get("closed", True)) if meta else True
    return _trace(row, (Turn("user", prompt),), Segmented(cot, answer, closed), meta or {})


def from_messages(row: Row) -> Trace:
    """Chat messages; the last assistant turn is the trace, earlier turns are prompt."""
    messages = row["messages"]
    messages = json.loads(messages) if isinstance(messages, str) else messages
    turns = tuple(
        Turn(text_of(m, "role", "from"), text_of(m, "content", "value")) for m in messages
    )
    if not turns or turns[-1].role != "assistant":
        raise Unusable("no_assistant_turn")
    split = split_completion(turns[-1].content)
    if isinstance(split, Refusal):
        raise Unusable(split.reason)
    return _trace(row, turns[:-1], split, {})


def to_trace(row: Row) -> Trace | Refusal:
    """One row as a trace, or why not."""
    try:
        return from_messages(row) if "messages" in row else from_generic(row)
    except Unusable as reason:
        return Refusal(str(reason))


def _has(row: Row, *names: str) -> bool:
    return any(row.get(name) is not None for name in names)


def _trace(row: Row, turns: tuple[Turn, ...], split: Segmented, meta: Mapping[str, Any]) -> Trace:
    if not split.cot.strip():
        raise Unusable("empty_cot")
    if not any(turn.content.strip() for turn in turns if turn.role == "user"):
        raise Unusable("empty_prompt")
    gold = row.get("gold")
    digest = hashlib.sha256(repr((turns, split)).encode()).hexdigest()[:16]
    return Trace(
        trace_id=str(row.get("id") or digest),
        turns=turns,
        cot=split.cot,
        answer=split.answer if split.closed else "",
        gold=str(gold) if gold not in (None, "") else None,
        closed=split.closed,
        meta=meta,
    )
