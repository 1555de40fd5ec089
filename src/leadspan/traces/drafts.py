"""What all adapters share: reading columns, conversations, generations. Pure: no files.

A draft is a trace before the checks that all formats share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from leadspan.messages import Message, Unusable, read_message
from leadspan.records import Turn
from leadspan.traces.sections import FAMILIES, THINK, Markers, Refusal, Segmented, split_completion

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

    def split(self, completion: str) -> Segmented:
        """Segment a completion, or refuse the row."""
        split = split_completion(completion, self.markers, self.words)
        if isinstance(split, Refusal):
            raise Unusable(split.reason)
        return split


@dataclass(frozen=True, slots=True)
class Draft:
    """A trace before the checks that all formats share."""

    turns: tuple[Turn, ...]
    split: Segmented
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
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable(f"broken_json:{name}") from None
    if isinstance(value, Mapping) and value and all(isinstance(v, list) for v in value.values()):
        keys = list(value)  # older `datasets` give a list of mappings as a mapping of lists
        value = [
            dict(zip(keys, entry, strict=False)) for entry in zip(*value.values(), strict=False)
        ]
    if not isinstance(value, list):
        raise Unusable(f"not_a_list:{name}")
    return value


def golds_of(row: Row, *names: str) -> tuple[Any, ...]:
    """Values of these columns and of the usual ones that may hold golds."""
    return tuple(row[name] for name in (*names, *GOLD_COLUMNS) if row.get(name) is not None)


def asked(text: str, row: Row) -> tuple[Turn, ...]:
    """A prompt of one text as turns, behind the row's system prompt if it has one."""
    return with_system((Turn("user", text),), row)


def with_system(turns: tuple[Turn, ...], row: Row) -> tuple[Turn, ...]:
    """The turns behind the row's system column, unless they open with one of their own."""
    system = optional_text(row, "system", "system_prompt")
    if not system.strip() or any(turn.role == "system" for turn in turns):
        return turns
    return (Turn("system", system), *turns)


def bare(cot: str) -> str:
    """A CoT column without the markers that some copies keep around it."""
    for family in FAMILIES:
        inner = cot.strip()
        if inner.startswith(family.open):
            cot = inner.removeprefix(family.open).strip("\n")
        if inner.endswith(family.close):
            cot = cot.rstrip().removesuffix(family.close).rstrip("\n")
    return cot


def read_turns(messages: list[Any]) -> list[Message]:
    """Messages, reasoning that stands in one of its own folded into the one behind it."""
    if len(messages) > MOST_MESSAGES:
        raise Unusable("too_many_messages")
    read: list[Message] = []
    thought = ""
    for message in map(read_message, messages):
        if message.is_reasoning:
            thought += message.reasoning + message.text
            continue
        if thought and message.role != "assistant":
            read.append(_thinking(Message("assistant", ""), thought))
        elif thought:
            message = _thinking(message, thought)
        thought = ""
        read.append(message)
    return [*read, _thinking(Message("assistant", ""), thought)] if thought else read


def _thinking(message: Message, thought: str) -> Message:
    fields = {**message.fields, "reasoning_content": thought}
    return replace(message, reasoning=thought, fields=fields)


def turns_of(messages: Iterable[Message]) -> tuple[Turn, ...]:
    """Messages as turns of a prompt."""
    return tuple(Turn(message.role, message.text, message.fields) for message in messages)


def conversation(messages: list[Any], reading: Reading, row: Row) -> Draft:
    """The last assistant turn is the trace, the turns before it are the prompt."""
    read = read_turns(messages)
    last = max((n for n, message in enumerate(read) if message.role == "assistant"), default=-1)
    if last < 0:
        raise Unusable("no_assistant_turn")
    if read[last].tool_calls:
        raise Unusable("ends_in_tool_call")
    turns = with_system(turns_of(read[:last]), row)
    notes = tuple(note for message in read[: last + 1] for note in message.notes)
    return Draft(turns, _segmented(read[last], reading), notes=notes)


def _segmented(message: Message, reading: Reading) -> Segmented:
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
    turns: tuple[Turn, ...], texts: Iterable[tuple[int, Any]], golds: tuple[Any, ...], read: Reading
) -> list[Draft | Refusal]:
    """Each numbered completion of one prompt as a draft, or why it is none."""
    drafts: list[Draft | Refusal] = []
    for number, text in texts:
        try:
            split = read.split(text_of({"generations": text}, "generations"))
            drafts.append(Draft(turns, split, golds, f"#{number}"))
        except Unusable as reason:
            drafts.append(Refusal(str(reason)))
    return drafts
