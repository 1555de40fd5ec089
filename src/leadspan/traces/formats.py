"""Which format a row has, and its trace as a draft. Pure: no files, no tokenizers.

A new format is an adapter and a line in `FORMATS`; docs/data.md tables them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadspan.messages import Unusable
from leadspan.records import Message, Trace
from leadspan.traces.drafts import (
    ID_COLUMNS,
    Draft,
    Reading,
    Row,
    asked,
    bare,
    build_trace,
    check_row,
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
from leadspan.traces.sections import Segmented, SkippedRow

Drafts = list[Draft] | list[Draft | SkippedRow]


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
    return [Draft(draft.messages, draft.split, golds, notes=draft.notes)]


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
        return [Draft((*turns, *draft.messages), draft.split, golds, notes=(*notes, *draft.notes))]
    return [Draft(turns, reading.split(text_of(row, "completion")), golds, notes=notes)]


def from_alpaca(row: Row, reading: Reading) -> Drafts:
    """Alpaca: `instruction`, two newlines and `input` where there is one; earlier turns in `history`."""
    parts = [optional_text(row, "instruction"), optional_text(row, "input")]
    turns = (*_history(row), Message("user", "\n\n".join(part for part in parts if part.strip())))
    return [Draft(with_system(turns, row), reading.split(text_of(row, "output")), golds_of(row))]


def _history(row: Row) -> tuple[Message, ...]:
    if not row.get("history"):
        return ()
    turns: list[Message] = []
    for pair in list_of(row, "history"):
        if not isinstance(pair, list) or [isinstance(text, str) for text in pair] != [True, True]:
            raise Unusable("not_text:history")
        turns += (Message("user", pair[0]), Message("assistant", pair[1]))
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


@dataclass(frozen=True, slots=True)
class Format:
    """A known shape of rows."""

    columns: tuple[str, ...]
    """All of these are there, or it is another format."""
    adapt: Callable[[Row, Reading], Drafts]
    only: bool = False
    """No other column than these, gold and an id may be there, or it is not detected."""
    when: Callable[[Row], bool] | None = None
    """What else must hold for the format to be detected, where the columns alone say too little."""
    texts: tuple[str, ...] = ()
    """Columns that hold text of the trace and do not go into `meta`."""


_CHAT = Format(("conversations",), from_conversations, texts=("system", "answer"))
_MESSAGES = Format(("messages",), from_messages, texts=("system", "answer"))
FORMATS: dict[str, Format] = {
    "sections": Format(("prompt", "cot"), from_sections, texts=("answer_text", "answer", "system")),
    "openr1": Format(
        ("problem", "generations"), from_openr1, texts=("answer", "solution", "messages")
    ),
    "synthetic1": Format(("prompt", "llm_response"), from_synthetic1),
    "nemotron": Format(
        ("input", "output"), from_nemotron, when=is_nemotron, texts=("system_prompt",)
    ),
    "alpaca": Format(("instruction", "output"), from_alpaca, texts=("input", "system")),
    "s1k": Format(("question", "thinking_trajectories"), from_s1k, texts=("attempt", "solution")),
    "s1k-1.1": Format(("question", "deepseek_thinking_trajectory"), from_s1k),
    "openthoughts-metadata": Format(("problem", "deepseek_reasoning"), from_openthoughts_parts),
    "openmath": Format(("problem", "generated_solution"), from_openmath),
    "deepmath": Format(
        ("question", "r1_solution_1"), from_deepmath, texts=(*DEEPMATH_SOLUTIONS, "final_answer")
    ),
    "openthoughts": _CHAT,
    "openthoughts3": _CHAT,
    "bespoke-stratos": _CHAT,
    "sky-t1": _CHAT,
    "messages": _MESSAGES,
    "mixture-of-thoughts": _MESSAGES,
    "am": _MESSAGES,
    "gpt-oss": _MESSAGES,
    "dolphin-r1": Format(
        ("messages", "reasoning", "answer"), from_dolphin, when=ends_in_question, texts=("system",)
    ),
    "prompt_completion": Format(
        ("prompt", "completion"), from_prompt_completion, texts=("answer", "system")
    ),
    "limo": Format(("question", "solution", "answer"), from_limo, only=True),
}


def detect(row: Row, mapped: frozenset[str] = frozenset()) -> Format:
    """The format with the most columns among those whose columns are all filled.

    Args:
        row: The row.
        mapped: Columns that the user named: formats with more of them come first.

    Raises:
        Unusable: No format fits, or several fit equally.
    """
    filled = {name for name, value in row.items() if value is not None}
    fitting: dict[Format, str] = {}
    for name, known in FORMATS.items():
        if filled.issuperset(known.columns) and _fits(row, known):
            fitting.setdefault(known, name)
    ranks = {known: (len(mapped & {*known.columns}), len(known.columns)) for known in fitting}
    best = [known for known in fitting if ranks[known] == max(ranks.values())]
    if len(best) > 1:
        raise Unusable(f"ambiguous_format:{','.join(fitting[known] for known in best)}")
    return best[0] if best else _with_gaps(row, filled)


def _fits(row: Row, known: Format) -> bool:
    if known.only and set(row) - {*known.columns, *ID_COLUMNS, "gold"}:
        return False
    return known.when is None or known.when(row)


def _with_gaps(row: Row, filled: set[str]) -> Format:
    """The format whose columns are all there, some of them null: its adapter says which."""
    there = [known for known in FORMATS.values() if row.keys() >= {*known.columns}]
    there = [known for known in there if not known.only and known.when is None]
    counts = {known: len(filled & {*known.columns}) for known in there}
    best = [known for known in counts if counts[known] == max(counts.values())]
    if len(best) != 1:
        raise Unusable("unknown_format")
    return best[0]


def iter_traces_of(
    row: Row, known: Format | None, reading: Reading, mapped: frozenset[str] = frozenset()
) -> Iterator[Trace | SkippedRow]:
    """The traces of one row, or the reason why there are none."""
    try:
        check_row(row)
        found = known or detect(row, mapped)
        for name in found.columns:
            if row.get(name) is None:
                raise Unusable(f"missing:{name}")
        drafts = found.adapt(row, reading)
    except Unusable as reason:
        yield SkippedRow(str(reason))
        return
    for draft in drafts:
        if isinstance(draft, SkippedRow):
            yield draft
            continue
        try:
            yield build_trace(row, draft, (*found.columns, *found.texts))
        except Unusable as reason:
            yield SkippedRow(str(reason))


def mapped(columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """A function that gives a row our names for the user's columns."""
    ours = {theirs: name for name, theirs in columns.items()}

    def rename(row: Row) -> Row:
        # A column of the user's that bears one of our names by accident must not come through.
        kept = {name: value for name, value in row.items() if name not in (*columns, *ours)}
        return {**kept, **{ours[name]: row[name] for name in ours if name in row}}

    return rename
