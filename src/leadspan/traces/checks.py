"""From a draft to a trace: the checks and limits that all formats share. Pure: no files.

The limits keep every later step (tokenizer, template, derivation search) within seconds a row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from leadspan.grading.golds import read_golds
from leadspan.messages import Unusable, read_tools
from leadspan.records import Trace, Turn
from leadspan.traces.drafts import GOLD_COLUMNS, Draft, Row
from leadspan.traces.sections import THINK, Refusal, Segmented, tidy

ID_COLUMNS = ("id", "uuid", "source_id", "problem_id")
TOOL_COLUMNS = ("tools", "functions")
VARIABLES = "chat_template_kwargs"
MEDIA_COLUMNS = {
    f"{medium}{ending}": f"has_{medium}"
    for medium in ("image", "audio", "video")
    for ending in ("", "s")
}
META_TEXT_CHARACTERS = 200
"""Longer texts of other columns are not carried along in `meta`, and name no trace."""
MOST_CHARACTERS = 1_000_000
"""Prompt, CoT and answer of a trace together; 128k tokens of English are about half of it."""
MOST_GOLD_CHARACTERS = 20_000
MOST_GOLDS = 64
MOST_NESTED = 64
"""Lists and objects within one another."""

_BOS = r"(?:<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|\[gMASK\]|<seed:bos>|<BOS_TOKEN>)"
_HEADER = (
    r"<\|im_start\|>|<｜User｜>|<\|start_header_id\|>|<start_of_turn>|<\|turn>|\[INST\]|<\|start\|>|"
    r"<\|START_OF_TURN_TOKEN\|>|\[\|(?:user|system)\|\]|<\|(?:user|system|User|System)\|>|"
    r"<\|im_(?:user|system)\|>|\[SYSTEM_PROMPT\]|<\|start_of_role\|>|<\|header_start\|>|<role>"
)
_RENDERED_START = re.compile(rf"\s*(?:{_BOS}|(?:<s>\s*)?(?:{_HEADER}))")
_RENDERED_END = re.compile(
    r"(?:<\|im_start\|>assistant|<｜Assistant｜>|<\|assistant\|>|<\|Assistant\|>|<start_of_turn>model|"
    r"<\|start_header_id\|>assistant<\|end_header_id\|>|<\|turn>model|<\|start\|>assistant|"
    r"\[\|assistant\|\]|\n<think>)\s*(?:<think>\s*)?\Z"
)
_TAIL = 200
"""Characters in which the end of a rendered prompt must show."""


def check_row(row: Row) -> None:
    """Check what no adapter looks at.

    Raises:
        Unusable: The row holds pictures, sound or films, or is nested too deep to be walked through.
    """
    level: list[Any] = [row]
    for _ in range(MOST_NESTED):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            break
    else:
        raise Unusable("too_deep")
    for column, reason in MEDIA_COLUMNS.items():
        value = row.get(column)
        if (
            value is not None
            and not isinstance(value, bool | int | float)
            and value not in _NOTHING
        ):
            raise Unusable(reason)


_NOTHING: tuple[Any, ...] = ("", [], {})


def _inside(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, Mapping) else value
    return [inner for inner in values if isinstance(inner, Mapping | list)]


def build_trace(row: Row, draft: Draft, texts: tuple[str, ...]) -> Trace:
    """Check a draft and name it.

    Args:
        row: Where it came from.
        draft: Its turns and sections.
        texts: Columns that the format has read, which do not go into `meta`.

    Raises:
        Unusable: It cannot be learnt from as it stands.
    """
    split = _checked(draft)
    golds, gold_notes = _golds(draft.golds)
    variables = _variables(row)
    tools = _tools(row, variables)
    trace = Trace(
        trace_id="",
        turns=draft.turns,
        cot=split.cot,
        answer=split.answer if split.closed else "",
        golds=golds,
        closed=split.closed,
        meta=_meta(row, texts),
        tools=tools,
        template_variables=variables,
        notes=tuple(dict.fromkeys((*draft.notes, *split.notes, *gold_notes))),
    )
    digest = digest_of(trace)
    named = next((name for column in ID_COLUMNS if (name := _name(row.get(column)))), None)
    return replace(trace, trace_id=named + draft.suffix if named else digest)


def _checked(draft: Draft) -> Segmented:
    split = tidy(draft.split)
    if isinstance(split, Refusal):
        raise Unusable(split.reason)
    if not split.cot.strip():
        raise Unusable("empty_cot")
    # In a student's sequence they would be control tokens: a second end of the thinking.
    if THINK.close in split.cot or THINK.open in split.answer or THINK.close in split.answer:
        raise Unusable("marker_in_section")
    length = len(split.cot) + len(split.answer) + sum(len(turn.content) for turn in draft.turns)
    if length > MOST_CHARACTERS:
        raise Unusable("too_long")
    if not any(turn.content.strip() for turn in draft.turns if turn.role == "user"):
        raise Unusable("empty_prompt")
    if draft.turns[-1].role == "assistant":
        raise Unusable("prompt_ends_in_assistant")
    if any(turn.role != "tool" and _is_rendered(turn) for turn in draft.turns):
        raise Unusable("prerendered_prompt")
    return split


def _is_rendered(turn: Turn) -> bool:
    """Whether a text went through a chat template already: it opens or ends with a role header."""
    text = turn.content
    return bool(_RENDERED_START.match(text) or _RENDERED_END.search(text[-_TAIL:]))


def digest_of(trace: Trace) -> str:
    """Identity of what a trace says: 16 hex digits.

    Raises:
        Unusable: A lone surrogate, which is no character and which no tokenizer takes, or a tool
            call or schema that is no JSON.
    """
    texts = [part for turn in trace.turns for part in (turn.role, turn.content)]
    texts += (trace.cot, trace.answer)
    fields = [dict(turn.fields) for turn in trace.turns]
    try:
        if any(fields) or trace.tools or trace.template_variables:
            extras = [fields, trace.tools, trace.template_variables]
            texts.append(json.dumps(extras, ensure_ascii=False, sort_keys=True))
        packed = "\0".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable("lone_surrogate") from None
    except (TypeError, ValueError, RecursionError):
        raise Unusable("not_json:tools") from None
    return hashlib.blake2b(packed, digest_size=8).hexdigest()


def _golds(values: tuple[Any, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The accepted answers of the first value that holds any, and what kept others from it."""
    notes = []
    for value in values:
        if isinstance(value, list) and len(value) > MOST_GOLDS:
            notes.append("gold_too_long")
            continue
        try:
            golds = read_golds(value) if value not in ("{}", "[]") else ()
        except ValueError:
            notes.append("unreadable_gold")
            continue
        if any(len(gold) > MOST_GOLD_CHARACTERS for gold in golds):
            notes.append("gold_too_long")
        elif not all(map(_encodes, golds)):
            raise Unusable("lone_surrogate")
        elif golds:
            return golds, ()
    return (), tuple(notes)


def _name(value: Any) -> str | None:
    """An id column's value as a name; None where it names nothing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= META_TEXT_CHARACTERS:
        return None
    return value if _encodes(value) else None


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _variables(row: Row) -> dict[str, Any]:
    """What the row asks of its chat template; a null is what tables write for no entry."""
    value = row.get(VARIABLES)
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable(f"broken_json:{VARIABLES}") from None
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise Unusable(f"not_an_object:{VARIABLES}")
    return {name: entry for name, entry in value.items() if entry is not None}


def _tools(row: Row, variables: dict[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Schemas from the row's columns, else from its template variables."""
    for column in TOOL_COLUMNS:
        if tools := read_tools(row.get(column), column):
            return tools
    return read_tools(variables.pop("tools", None))


def _meta(row: Row, texts: tuple[str, ...]) -> dict[str, Any]:
    """The row's other short columns, and its `meta`."""
    hidden = {*texts, *ID_COLUMNS, *GOLD_COLUMNS, *TOOL_COLUMNS, VARIABLES, "meta"}
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
