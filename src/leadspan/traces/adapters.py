"""Rows of each known data set as drafts of traces. Pure: no files, no tokenizers.

One adapter a format; `formats` tables them and checks what they return.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadspan.records import Turn
from leadspan.traces.sections import FAMILIES, THINK, Markers, Refusal, Segmented, split_completion

Row = Mapping[str, Any]
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


class Unusable(Exception):  # noqa: N818 - control flow between adapters and formats alone
    """A row that cannot become a trace; the message is the reason that is counted."""


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
    gold: Any = None
    suffix: str = ""
    """Told apart from the other traces of its row."""


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


def _optional(row: Row, *names: str) -> str:
    return text_of(row, *names) if any(row.get(name) is not None for name in names) else ""


def _list_of(row: Row, name: str) -> list[Any]:
    """A list column, which some copies hold as a JSON string."""
    value = row[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable(f"broken_json:{name}") from None
    if isinstance(value, Mapping) and all(isinstance(v, list) for v in value.values()):
        keys = list(value)  # older `datasets` give a list of mappings as a mapping of lists
        value = [
            dict(zip(keys, entry, strict=False)) for entry in zip(*value.values(), strict=False)
        ]
    if not isinstance(value, list):
        raise Unusable(f"not_a_list:{name}")
    return value


def _user(text: str, row: Row) -> tuple[Turn, ...]:
    """The prompt as turns, behind the row's system prompt if it has one."""
    system = _optional(row, "system", "system_prompt")
    turns = (Turn("user", text),)
    return (Turn("system", system), *turns) if system.strip() else turns


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise Unusable("not_a_message")
    role = text_of(message, "role", "from")
    content = message.get("content", message.get("value"))
    if content is None and any(message.get(name) for name in REASONING_FIELDS):
        content = ""
    if isinstance(content, list):  # content parts; thinking parts are read by `_reasoning`
        parts = [part for part in content if isinstance(part, Mapping)]
        content = "".join(str(part["text"]) for part in parts if part.get("type") == "text")
    if not isinstance(content, str):
        raise Unusable("missing:content" if content is None else "not_text:content")
    return Turn(ROLES.get(role, role), content)


def _reasoning(message: Mapping[str, Any]) -> str:
    """Reasoning that stands beside the content instead of in it."""
    for name in REASONING_FIELDS:
        if message.get(name):
            return text_of(message, name)
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return "".join(
        str(part.get("thinking") or part.get("text") or "")
        for part in parts
        if isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning")
    )


def _conversation(messages: list[Any], reading: Reading, system: str = "") -> Draft:
    """The last assistant turn is the trace, the turns before it are the prompt."""
    turns = [_turn(message) for message in messages]
    last = max((n for n, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise Unusable("no_assistant_turn")
    prompt = tuple(turns[:last])
    if system.strip() and not any(turn.role == "system" for turn in prompt):
        prompt = (Turn("system", system), *prompt)
    reasoning = _reasoning(messages[last])
    if reasoning:
        return Draft(prompt, Segmented(reasoning, turns[last].content, True))
    return Draft(prompt, reading.split(turns[last].content))


def from_sections(row: Row, reading: Reading) -> list[Draft]:
    """`{prompt, cot, answer_text | answer, gold, meta}`: segmented already."""
    cot, answer = text_of(row, "cot"), _optional(row, "answer_text", "answer")
    split = Segmented(_bare(cot), answer, _closed(row))
    return [Draft(_user(text_of(row, "prompt"), row), split, row.get("gold"))]


def _bare(cot: str) -> str:
    """A CoT column without the markers that some copies keep around it."""
    inner = cot.strip()
    if inner.startswith(THINK.open):
        cot = inner.removeprefix(THINK.open).strip("\n")
    if inner.endswith(THINK.close):
        cot = cot.rstrip().removesuffix(THINK.close).rstrip("\n")
    return cot


def _closed(row: Row) -> bool:
    meta = row.get("meta")
    closed = meta.get("closed") if isinstance(meta, Mapping) else row.get("closed")
    return closed is not False


def from_messages(row: Row, reading: Reading) -> list[Draft]:
    """Chat messages, with inline markers or a field for the reasoning."""
    return _chat(row, "messages", reading)


def from_conversations(row: Row, reading: Reading) -> list[Draft]:
    """OpenThoughts, Bespoke-Stratos, Sky-T1: `conversations`, with a `system` column beside it."""
    return _chat(row, "conversations", reading)


def _chat(row: Row, column: str, reading: Reading) -> list[Draft]:
    draft = _conversation(_list_of(row, column), reading, _optional(row, "system"))
    return [Draft(draft.turns, draft.split, row.get("gold", row.get("answer")))]


def from_prompt_completion(row: Row, reading: Reading) -> list[Draft]:
    """TRL's `prompt` and `completion`, each text or messages."""
    gold = row.get("gold", row.get("answer"))
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list):
        turns = tuple(_turn(message) for message in prompt)
    else:
        turns = _user(text_of(row, "prompt"), row)
    if isinstance(completion, list):
        draft = _conversation(completion, reading)
        return [Draft((*turns, *draft.turns), draft.split, gold)]
    return [Draft(turns, reading.split(text_of(row, "completion")), gold)]


def from_synthetic1(row: Row, reading: Reading) -> list[Draft]:
    """SYNTHETIC-1: the verifier's ground truth, else the gold-standard solution."""
    gold = row.get("gold_standard_solution")
    info = row.get("verification_info")
    if isinstance(info, str):
        try:
            info = json.loads(info)
        except ValueError:
            info = None
    if isinstance(info, Mapping) and info.get("ground_truth"):
        gold = info["ground_truth"]
    split = reading.split(text_of(row, "llm_response"))
    return [Draft(_user(text_of(row, "prompt"), row), split, gold)]


def from_nemotron(row: Row, reading: Reading) -> list[Draft]:
    """Llama-Nemotron post-training: `input` as messages or text; rows without reasoning refused."""
    if row.get("reasoning") == "off":
        raise Unusable("reasoning_off")
    asked = row["input"]
    if isinstance(asked, list):
        turns = tuple(_turn(message) for message in asked)
        system = _optional(row, "system_prompt")
        if system.strip() and not any(turn.role == "system" for turn in turns):
            turns = (Turn("system", system), *turns)
    else:
        turns = _user(text_of(row, "input"), row)
    return [Draft(turns, reading.split(text_of(row, "output")), row.get("expected_answer"))]


def from_s1k(row: Row, reading: Reading) -> list[Draft]:
    """s1K and s1K-1.1: the first thinking trajectory and the attempt that followed it."""
    if row.get("deepseek_thinking_trajectory") is not None:
        cot, answer = text_of(row, "deepseek_thinking_trajectory"), text_of(row, "deepseek_attempt")
    else:
        trajectories = _list_of(row, "thinking_trajectories")
        cot = text_of({"thinking_trajectories": trajectories[0]} if trajectories else {}, *_S1K)
        answer = text_of(row, "attempt")
    question = _user(text_of(row, "question"), row)
    return [Draft(question, Segmented(cot, answer, True), row.get("solution"))]


_S1K = ("thinking_trajectories",)
LIMO_HEADING = "**Final Answer**"


def from_limo(row: Row, reading: Reading) -> list[Draft]:
    """LIMO: the solution is the CoT up to its last final-answer heading, which opens the answer.

    Without the heading the whole solution is CoT and the `answer` column is the answer.
    """
    cot, heading, ending = text_of(row, "solution").rpartition(LIMO_HEADING)
    if heading:
        split = Segmented(cot.rstrip("\n"), heading + ending, True)
    else:
        split = Segmented(ending, str(row["answer"]), True)
    return [Draft(_user(text_of(row, "question"), row), split, row["answer"])]


def from_openthoughts_parts(row: Row, reading: Reading) -> list[Draft]:
    """OpenThoughts-114k, config `metadata`: the sections in columns of their own."""
    split = Segmented(text_of(row, "deepseek_reasoning"), text_of(row, "deepseek_solution"), True)
    gold = row.get("ground_truth_solution")
    return [Draft(_user(text_of(row, "problem"), row), split, gold)]


def from_openr1(row: Row, reading: Reading) -> list[Draft]:
    """OpenR1-Math: several generations a row, chosen by correctness."""
    generations = _list_of(row, "generations")
    correct = _verdicts(row, len(generations))
    chosen = list(range(len(generations)))
    if reading.generations.endswith("_correct"):
        chosen = [n for n in chosen if correct[n]]
        if not chosen:
            raise Unusable("no_correct_generation")
    if reading.generations.startswith("first"):
        chosen = chosen[:1]
    turns = _user(text_of(row, "problem"), row)
    drafts = []
    for n in chosen:
        text = text_of({"generations": generations[n]}, "generations")
        drafts.append(Draft(turns, reading.split(text), row.get("answer"), f"#{n}"))
    return drafts


def _verdicts(row: Row, count: int) -> list[bool]:
    """Which generations were verified; either verifier's word is enough."""
    lists = [row.get("correctness_math_verify"), row.get("correctness_llama")]
    known = [list(verdicts) for verdicts in lists if isinstance(verdicts, list)]
    return [any(n < len(v) and v[n] is True for v in known) for n in range(count)]
