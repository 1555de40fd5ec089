"""A draft is a trace before the checks that all formats share; here are both. Pure: no files.

The limits keep every later step (tokenizer, template, derivation search) within seconds a row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from leadspan.grading.golds import read_golds
from leadspan.messages import SURROGATE, ReadMessage, Unusable, read_message, read_tools
from leadspan.records import Message, Trace
from leadspan.traces.sections import (
    FAMILIES,
    THINK,
    Markers,
    Segmented,
    SkippedRow,
    split_completion,
    tidy,
)

Row = Mapping[str, Any]
MOST_MESSAGES = 10_000
GOLD_COLUMNS = (
    "gold", "golds", "expected_answer", "final_answer", "ground_truth", "reference_answer",
    "verification_info", "reward_model",
)  # fmt: skip
"""Where a row of any format may keep its accepted answers, the most telling first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read."""

    markers: tuple[Markers, ...] = FAMILIES
    words: bool = True
    generations: str = "first_correct"
    takes_prompts: bool = False
    """Rows that hold a question and no completion are read too; otherwise they are refused."""

    def split(self, completion: str) -> Segmented:
        """Segment a completion, or refuse the row."""
        split = split_completion(completion, self.markers, self.words)
        if isinstance(split, SkippedRow):
            raise Unusable(split.reason)
        return split


@dataclass(frozen=True, slots=True)
class Draft:
    """A trace before the checks that all formats share."""

    messages: tuple[Message, ...]
    split: Segmented | None
    """None for a question alone."""
    golds: tuple[Any, ...] = ()
    """Values that may hold the accepted answers; the first that does counts."""
    suffix: str = ""
    """Told apart from the other traces of its row."""
    notes: tuple[str, ...] = ()


def text_of(row: Row, *names: str) -> str:
    """The first of these columns that is there and not null.

    Raises:
        Unusable: None is there, or it holds something else than text.
    """
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise Unusable(f"not_text:{name}")
    raise Unusable(f"missing:{names[0]}")


def optional_text(row: Row, *names: str) -> str:
    """The same; empty where none is there."""
    return text_of(row, *names) if any(row.get(name) is not None for name in names) else ""


def list_of(row: Row, name: str) -> list[Any]:
    """A list column, which some copies hold as a JSON string."""
    value = row[name]
    if isinstance(value, str):
        value = _parsed(value, name)
    if isinstance(value, Mapping) and value and all(isinstance(v, list) for v in value.values()):
        keys = list(value)  # older `datasets` give a list of mappings as a mapping of lists
        value = [
            dict(zip(keys, entry, strict=False)) for entry in zip(*value.values(), strict=False)
        ]
    if not isinstance(value, list):
        raise Unusable(f"not_a_list:{name}")
    return value


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable(f"broken_json:{name}") from None


def golds_of(row: Row, *names: str) -> tuple[Any, ...]:
    """Values of these columns and of the usual ones that may hold golds."""
    return tuple(row[name] for name in (*names, *GOLD_COLUMNS) if row.get(name) is not None)


def asked(text: str, row: Row) -> tuple[Message, ...]:
    """A prompt of one text as turns, behind the row's system prompt if it has one."""
    return with_system((Message("user", text),), row)


def with_system(turns: tuple[Message, ...], row: Row) -> tuple[Message, ...]:
    """The turns behind the row's system column, unless they open with one of their own."""
    system = optional_text(row, "system", "system_prompt")
    if not system.strip() or any(turn.role == "system" for turn in turns):
        return turns
    return (Message("system", system), *turns)


def bare(cot: str) -> str:
    """A CoT column without the markers that some copies keep around it."""
    for family in FAMILIES:
        inner = cot.strip()
        if inner.startswith(family.open):
            cot = inner.removeprefix(family.open).strip("\n")
        if inner.endswith(family.close):
            cot = cot.rstrip().removesuffix(family.close).rstrip("\n")
    return cot


def read_turns(messages: list[Any]) -> list[ReadMessage]:
    """Messages, reasoning that stands in one of its own folded into the one behind it."""
    if len(messages) > MOST_MESSAGES:
        raise Unusable("too_many_messages")
    read: list[ReadMessage] = []
    thought = ""
    for message in map(read_message, messages):
        if message.is_reasoning:
            thought += message.reasoning + message.text
            continue
        if thought and message.role != "assistant":
            read.append(_thinking(ReadMessage("assistant", ""), thought))
        elif thought:
            message = _thinking(message, thought)
        thought = ""
        read.append(message)
    return [*read, _thinking(ReadMessage("assistant", ""), thought)] if thought else read


def _thinking(message: ReadMessage, thought: str) -> ReadMessage:
    fields = {**message.fields, "reasoning_content": thought}
    return replace(message, reasoning=thought, fields=fields)


def turns_of(messages: Iterable[ReadMessage]) -> tuple[Message, ...]:
    """Messages as turns of a prompt."""
    return tuple(Message(message.role, message.text, message.fields) for message in messages)


def conversation(messages: list[Any], reading: Reading, row: Row) -> Draft:
    """The last assistant turn is the trace, the turns before it are the prompt.

    Where prompts are taken, messages that end in another turn are a prompt alone.
    """
    read = read_turns(messages)
    if reading.takes_prompts and read and read[-1].role != "assistant":
        notes = tuple(note for message in read for note in message.notes)
        return Draft(with_system(turns_of(read), row), None, notes=notes)
    last = max((n for n, message in enumerate(read) if message.role == "assistant"), default=-1)
    if last < 0:
        raise Unusable("no_assistant_turn")
    if read[last].tool_calls:
        raise Unusable("ends_in_tool_call")
    turns = with_system(turns_of(read[:last]), row)
    notes = tuple(note for message in read[: last + 1] for note in message.notes)
    return Draft(turns, _segmented(read[last], reading), notes=notes)


def _segmented(message: ReadMessage, reading: Reading) -> Segmented:
    """Reasoning beside the text, else in it. Reasoning that nothing follows never ended."""
    if not message.reasoning:
        return reading.split(message.text)
    cot = bare(message.reasoning)
    if THINK.close in message.text:  # some servers leave the block in the text as well
        inline = reading.split(message.text)
        if inline.cot.strip() == cot.strip():
            return inline
    return Segmented(cot, message.text, bool(message.text.strip()))


def generations(
    turns: tuple[Message, ...],
    texts: Iterable[tuple[int, Any]],
    golds: tuple[Any, ...],
    read: Reading,
) -> list[Draft | SkippedRow]:
    """Each numbered completion of one prompt as a draft, or why it is none."""
    drafts: list[Draft | SkippedRow] = []
    for number, text in texts:
        try:
            split = read.split(text_of({"generations": text}, "generations"))
            drafts.append(Draft(turns, split, golds, f"#{number}"))
        except Unusable as reason:
            drafts.append(SkippedRow(str(reason)))
    return drafts


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
        values = (v.values() if isinstance(v, Mapping) else v for v in level)
        level = [v for inner in values for v in inner if isinstance(v, Mapping | list)]
        if not level:
            break
    else:
        raise Unusable("too_deep")
    for column, reason in MEDIA_COLUMNS.items():
        value = row.get(column)
        if not (value is None or isinstance(value, int | float) or value in ("", [], {})):
            raise Unusable(reason)


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
        messages=draft.messages,
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
    if draft.split is None:
        split: Segmented | SkippedRow = Segmented("", "", closed=False)
    else:
        split = tidy(draft.split)
    if isinstance(split, SkippedRow):
        raise Unusable(split.reason)
    if draft.split is not None and not split.cot.strip():
        raise Unusable("empty_cot")
    # In a student's sequence they would be control tokens: a second end of the thinking.
    if THINK.close in split.cot or THINK.open in split.answer or THINK.close in split.answer:
        raise Unusable("marker_in_section")
    length = len(split.cot) + len(split.answer) + sum(len(turn.content) for turn in draft.messages)
    if length > MOST_CHARACTERS:
        raise Unusable("too_long")
    if not any(turn.content.strip() for turn in draft.messages if turn.role == "user"):
        raise Unusable("empty_prompt")
    if draft.split is None and not draft.messages[-1].content.strip():
        raise Unusable("empty_prompt")
    if draft.messages[-1].role == "assistant":
        raise Unusable("prompt_ends_in_assistant")
    if any(turn.role != "tool" and _is_rendered(turn) for turn in draft.messages):
        raise Unusable("prerendered_prompt")
    return split


def _is_rendered(turn: Message) -> bool:
    """Whether a text went through a chat template already: it opens or ends with a role header."""
    text = turn.content
    return bool(_RENDERED_START.match(text) or _RENDERED_END.search(text[-_TAIL:]))


def digest_of(trace: Trace) -> str:
    """Identity of what a trace says: 16 hex digits.

    Raises:
        Unusable: A lone surrogate, which is no character and which no tokenizer takes, or a tool
            call or schema that is no JSON.
    """
    texts = [part for turn in trace.messages for part in (turn.role, turn.content)]
    texts += (trace.cot, trace.answer)
    fields = [dict(turn.fields) for turn in trace.messages]
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
        elif any(map(SURROGATE.search, golds)):
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
    return None if SURROGATE.search(value) else value


def _variables(row: Row) -> dict[str, Any]:
    """What the row asks of its chat template; a null is what tables write for no entry."""
    value = row.get(VARIABLES)
    if isinstance(value, str) and value.strip():
        value = _parsed(value, VARIABLES)
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
