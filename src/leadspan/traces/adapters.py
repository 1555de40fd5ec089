"""Rows of each known data set as drafts of traces. Pure: no files, no tokenizers.

One adapter a format; `formats` tables them and checks what they return.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadspan.messages import Unusable
from leadspan.records import Turn
from leadspan.traces.drafts import (
    Draft,
    Reading,
    Row,
    asked,
    bare,
    conversation,
    generations,
    golds_of,
    list_of,
    optional_text,
    read_turns,
    text_of,
    turns_of,
    with_system,
)
from leadspan.traces.sections import Refusal, Segmented

Drafts = list[Draft] | list[Draft | Refusal]


def from_sections(row: Row, reading: Reading) -> Drafts:
    """`{prompt, cot, answer_text | answer, gold, meta}`: segmented already."""
    cot, answer = text_of(row, "cot"), optional_text(row, "answer_text", "answer")
    split = Segmented(bare(cot), answer, _closed(row))
    return [Draft(asked(text_of(row, "prompt"), row), split, golds_of(row))]


def _closed(row: Row) -> bool:
    meta = row.get("meta")
    closed = meta.get("closed") if isinstance(meta, Mapping) else row.get("closed")
    return closed is not False


def from_messages(row: Row, reading: Reading) -> Drafts:
    """Chat messages, with inline markers or a field for the reasoning."""
    return _chat(row, "messages", reading)


def from_conversations(row: Row, reading: Reading) -> Drafts:
    """OpenThoughts, Bespoke-Stratos, Sky-T1: `conversations`, with a `system` column beside it."""
    return _chat(row, "conversations", reading)


def _chat(row: Row, column: str, reading: Reading) -> Drafts:
    messages = list_of(row, column)
    draft = conversation(messages, reading, row)
    golds = (*golds_of(row, "gold", "answer"), *_golds_of_messages(messages))
    return [Draft(draft.turns, draft.split, golds, notes=draft.notes)]


def _golds_of_messages(messages: list[Any]) -> tuple[Any, ...]:
    """AM-DeepSeek-R1-Distilled keeps its gold in the `info` of a message."""
    infos = (message.get("info") for message in messages if isinstance(message, Mapping))
    golds = (info.get("reference_answer") for info in infos if isinstance(info, Mapping))
    return tuple(gold for gold in golds if gold is not None)


def from_dolphin(row: Row, reading: Reading) -> Drafts:
    """dolphin-r1: the question as `messages`, `reasoning` and `answer` in columns of their own."""
    turns = with_system(turns_of(read_turns(list_of(row, "messages"))), row)
    split = Segmented(bare(text_of(row, "reasoning")), text_of(row, "answer"), True)
    return [Draft(turns, split, golds_of(row))]


def ends_in_question(row: Row) -> bool:
    """Whether the last of a row's messages is not the assistant's."""
    try:
        turns = read_turns(list_of(row, "messages"))
    except Unusable:
        return False
    return bool(turns) and turns[-1].role != "assistant"


def from_prompt_completion(row: Row, reading: Reading) -> Drafts:
    """TRL's `prompt` and `completion`, each text or messages."""
    golds = golds_of(row, "gold", "answer")
    prompt, completion = row["prompt"], row["completion"]
    notes: tuple[str, ...] = ()
    if isinstance(prompt, list):
        read = read_turns(prompt)
        notes = tuple(note for message in read for note in message.notes)
        turns = with_system(turns_of(read), row)
    else:
        turns = asked(text_of(row, "prompt"), row)
    if isinstance(completion, list):
        draft = conversation(completion, reading, {})
        return [Draft((*turns, *draft.turns), draft.split, golds, notes=(*notes, *draft.notes))]
    return [Draft(turns, reading.split(text_of(row, "completion")), golds, notes=notes)]


def from_alpaca(row: Row, reading: Reading) -> Drafts:
    """Alpaca: `instruction`, two newlines and `input` where there is one; earlier turns in `history`."""
    parts = [optional_text(row, "instruction"), optional_text(row, "input")]
    turns = (*_history(row), Turn("user", "\n\n".join(part for part in parts if part.strip())))
    return [Draft(with_system(turns, row), reading.split(text_of(row, "output")), golds_of(row))]


def _history(row: Row) -> tuple[Turn, ...]:
    if not row.get("history"):
        return ()
    turns: list[Turn] = []
    for pair in list_of(row, "history"):
        if not isinstance(pair, list) or [isinstance(text, str) for text in pair] != [True, True]:
            raise Unusable("not_text:history")
        turns += (Turn("user", pair[0]), Turn("assistant", pair[1]))
    return tuple(turns)


def from_synthetic1(row: Row, reading: Reading) -> Drafts:
    """SYNTHETIC-1: the verifier's ground truth, else the gold-standard solution."""
    split = reading.split(text_of(row, "llm_response"))
    golds = golds_of(row, "verification_info", "gold_standard_solution")
    return [Draft(asked(text_of(row, "prompt"), row), split, golds)]


def from_nemotron(row: Row, reading: Reading) -> Drafts:
    """Llama-Nemotron post-training: `input` as messages or text; rows without reasoning refused."""
    if row.get("reasoning") == "off":
        raise Unusable("reasoning_off")
    if isinstance(row["input"], list):
        turns = with_system(turns_of(read_turns(row["input"])), row)
    else:
        turns = asked(text_of(row, "input"), row)
    return [Draft(turns, reading.split(text_of(row, "output")), golds_of(row))]


def is_nemotron(row: Row) -> bool:
    """Whether something besides `input` and `output` says so: many data sets have these two."""
    return row.get("reasoning") in ("on", "off") or isinstance(row.get("input"), list)


def from_s1k(row: Row, reading: Reading) -> Drafts:
    """s1K and s1K-1.1: the first thinking trajectory and the attempt that followed it."""
    if row.get("deepseek_thinking_trajectory") is not None:
        cot, answer = text_of(row, "deepseek_thinking_trajectory"), text_of(row, "deepseek_attempt")
    else:
        trajectories = list_of(row, "thinking_trajectories")
        cot = text_of({"thinking_trajectories": trajectories[0]} if trajectories else {}, *_S1K)
        answer = text_of(row, "attempt")
    question = asked(text_of(row, "question"), row)
    return [Draft(question, Segmented(cot, answer, True), golds_of(row, "gold", "solution"))]


_S1K = ("thinking_trajectories",)
LIMO_HEADING = "**Final Answer**"


def from_limo(row: Row, reading: Reading) -> Drafts:
    """LIMO: the solution is the CoT up to its last final-answer heading, which opens the answer.

    Without the heading the whole solution is CoT and the `answer` column is the answer.
    """
    cot, heading, ending = text_of(row, "solution").rpartition(LIMO_HEADING)
    golds = golds_of(row, "gold", "answer")
    if heading:
        split = Segmented(cot.rstrip("\n"), heading + ending, True)
    else:
        answer = row["answer"]
        is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
        text = str(answer) if is_number else text_of(row, "answer")
        split = Segmented(ending, text, True)
    return [Draft(asked(text_of(row, "question"), row), split, golds)]


def from_openthoughts_parts(row: Row, reading: Reading) -> Drafts:
    """OpenThoughts-114k, config `metadata`: the sections in columns of their own."""
    split = Segmented(text_of(row, "deepseek_reasoning"), text_of(row, "deepseek_solution"), True)
    golds = golds_of(row, "gold", "ground_truth_solution")
    return [Draft(asked(text_of(row, "problem"), row), split, golds)]


def from_openmath(row: Row, reading: Reading) -> Drafts:
    """OpenMathReasoning: markers in `generated_solution`."""
    split = reading.split(text_of(row, "generated_solution"))
    return [Draft(asked(text_of(row, "problem"), row), split, golds_of(row))]


def from_deepmath(row: Row, reading: Reading) -> Drafts:
    """DeepMath: three solutions of DeepSeek-R1, all of them verified."""
    names = [name for name in DEEPMATH_SOLUTIONS if row.get(name) is not None]
    chosen = names[:1] if reading.generations.startswith("first") else names
    turns = asked(text_of(row, "question"), row)
    numbered = [(DEEPMATH_SOLUTIONS.index(name), row[name]) for name in chosen]
    return generations(turns, numbered, golds_of(row), reading)


DEEPMATH_SOLUTIONS = ("r1_solution_1", "r1_solution_2", "r1_solution_3")


def from_openr1(row: Row, reading: Reading) -> Drafts:
    """OpenR1-Math: several generations a row, chosen by correctness."""
    texts = list_of(row, "generations")
    correct = _verdicts(row, len(texts))
    chosen = list(range(len(texts)))
    if reading.generations.endswith("_correct"):
        chosen = [n for n in chosen if correct[n]]
        if not chosen:
            raise Unusable("no_correct_generation")
    if reading.generations.startswith("first"):
        chosen = chosen[:1]
    turns = asked(text_of(row, "problem"), row)
    golds = golds_of(row, "gold", "answer")
    return generations(turns, [(n, texts[n]) for n in chosen], golds, reading)


def _verdicts(row: Row, count: int) -> list[bool]:
    """Which generations were verified; either verifier's word is enough."""
    lists = [row.get("correctness_math_verify"), row.get("correctness_llama")]
    known = [list(verdicts) for verdicts in lists if isinstance(verdicts, list)]
    return [any(n < len(v) and v[n] is True for v in known) for n in range(count)]
