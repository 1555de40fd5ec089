"""Which format a row has, and its trace as a draft. Pure: no files, no tokenizers.

A new format is an adapter and a line in `FORMATS`; docs/data.md tables them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Format:
    """A known shape of rows."""

    columns: tuple[str, ...]
    """All of these are there, or it is another format."""
    adapt: Callable[[Row, Reading], Drafts]
    when: Callable[[Row], bool] | None = None
    """What else must hold for the format to be detected, where the columns alone say too little."""
    texts: tuple[str, ...] = ()
    """Columns that hold text of the trace and do not go into `meta`."""


def with_markers(prompt: str, completion: str, *golds: str) -> Format:
    """A format whose columns `golds` hold golds besides the usual ones, the markers in the completion."""

    def adapt(row: Row, reading: Reading) -> Drafts:
        split = reading.split(text_of(row, completion))
        return [Draft(asked(text_of(row, prompt), row), split, golds_of(row, *golds))]

    return Format((prompt, completion), adapt)


def in_parts(prompt: str, cot: str, answer: str, *golds: str) -> Format:
    """The same with CoT and answer in columns of their own."""

    def adapt(row: Row, reading: Reading) -> Drafts:
        split = Segmented(text_of(row, cot), text_of(row, answer), True)
        return [Draft(asked(text_of(row, prompt), row), split, golds_of(row, *golds))]

    return Format((prompt, cot), adapt)


def chat_in(column: str) -> Format:
    """Chat messages, with inline markers or a field for the reasoning.

    AM-DeepSeek-R1-Distilled keeps its gold in the `info` of a message.
    """

    def adapt(row: Row, reading: Reading) -> Drafts:
        messages = list_of(row, column)
        draft = conversation(messages, reading, row)
        infos = [m["info"] for m in messages if isinstance(m.get("info"), Mapping)]
        golds = [
            info["reference_answer"] for info in infos if info.get("reference_answer") is not None
        ]
        return [replace(draft, golds=(*golds_of(row, "gold", "answer"), *golds))]

    return Format((column,), adapt, texts=("system", "answer"))


def from_sections(row: Row, reading: Reading) -> Drafts:
    """`{prompt, cot, answer_text | answer, gold, meta}`: segmented already."""
    cot, answer = text_of(row, "cot"), optional_text(row, "answer_text", "answer")
    split = Segmented(bare(cot), answer, _closed(row))
    return [Draft(asked(text_of(row, "prompt"), row), split, golds_of(row))]


def _closed(row: Row) -> bool:
    meta = row.get("meta")
    closed = meta.get("closed") if isinstance(meta, Mapping) else row.get("closed")
    return closed is not False


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


def _prompt(row: Row, column: str) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The turns of a column that is a text or messages, and notes."""
    if not isinstance(row[column], list):
        return asked(text_of(row, column), row), ()
    read = read_turns(row[column])
    return with_system(turns_of(read), row), tuple(note for m in read for note in m.notes)


def from_prompt_completion(row: Row, reading: Reading) -> Drafts:
    """TRL's `prompt` and `completion`, each text or messages."""
    golds = golds_of(row, "gold", "answer")
    turns, notes = _prompt(row, "prompt")
    if isinstance(row["completion"], list):
        draft = conversation(row["completion"], reading, {})
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


def from_nemotron(row: Row, reading: Reading) -> Drafts:
    """Llama-Nemotron post-training: `input` as messages or text; rows without reasoning refused."""
    if row.get("reasoning") == "off":
        raise Unusable("reasoning_off")
    turns, notes = _prompt(row, "input")
    return [Draft(turns, reading.split(text_of(row, "output")), golds_of(row), notes=notes)]


def is_nemotron(row: Row) -> bool:
    """Whether something besides `input` and `output` says so: many data sets have these two."""
    return row.get("reasoning") in ("on", "off") or isinstance(row.get("input"), list)


def from_s1k(row: Row, reading: Reading) -> Drafts:
    """s1K: the first thinking trajectory and the attempt that followed it."""
    column = "thinking_trajectories"
    cot = text_of({column: next(iter(list_of(row, column)), None)}, column)
    split = Segmented(cot, text_of(row, "attempt"), True)
    return [Draft(asked(text_of(row, "question"), row), split, golds_of(row, "gold", "solution"))]


LIMO_HEADING = "**Final Answer**"


def is_limo(row: Row) -> bool:
    """Whether nothing but an id and a gold stands beside its columns: many data sets have these."""
    return not row.keys() - {"question", "solution", "answer", "gold", *ID_COLUMNS}


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


_S1K = "deepseek_thinking_trajectory", "deepseek_attempt"
_OPENTHOUGHTS = "deepseek_reasoning", "deepseek_solution"
FORMATS: dict[str, Format] = {
    "sections": Format(("prompt", "cot"), from_sections, texts=("answer_text", "answer", "system")),
    "openr1": Format(
        ("problem", "generations"), from_openr1, texts=("answer", "solution", "messages")
    ),
    "synthetic1": with_markers(
        "prompt", "llm_response", "verification_info", "gold_standard_solution"
    ),
    "nemotron": Format(
        ("input", "output"), from_nemotron, when=is_nemotron, texts=("system_prompt",)
    ),
    "alpaca": Format(("instruction", "output"), from_alpaca, texts=("input", "system")),
    "s1k": Format(("question", "thinking_trajectories"), from_s1k, texts=("attempt", "solution")),
    "s1k-1.1": in_parts("question", *_S1K, "gold", "solution"),
    "openthoughts-metadata": in_parts("problem", *_OPENTHOUGHTS, "gold", "ground_truth_solution"),
    "openmath": with_markers("problem", "generated_solution"),
    "deepmath": Format(
        ("question", "r1_solution_1"), from_deepmath, texts=(*DEEPMATH_SOLUTIONS, "final_answer")
    ),
    **dict.fromkeys(
        ("openthoughts", "openthoughts3", "bespoke-stratos", "sky-t1"), chat_in("conversations")
    ),
    **dict.fromkeys(("messages", "mixture-of-thoughts", "am", "gpt-oss"), chat_in("messages")),
    "dolphin-r1": Format(
        ("messages", "reasoning", "answer"), from_dolphin, when=ends_in_question, texts=("system",)
    ),
    "prompt_completion": Format(
        ("prompt", "completion"), from_prompt_completion, texts=("answer", "system")
    ),
    "limo": Format(("question", "solution", "answer"), from_limo, when=is_limo),
}


PROMPT_COLUMNS = ("prompt", "problem", "question")


def asks_in(column: str) -> Format:
    """A question alone, as text or messages."""

    def adapt(row: Row, reading: Reading) -> Drafts:
        turns, notes = _prompt(row, column)
        return [Draft(turns, None, golds_of(row, "gold", "answer"), notes=notes)]

    return Format((column,), adapt, texts=("answer", "solution", "system"))


def _asked_alone(row: Row, known: Format | None) -> Format | None:
    """How the question of a row without a completion is read; None for a row that may have one."""
    filled = {name for name, value in row.items() if not _is_blank(value)}
    if any(_fits(one, row, filled) for one in ([known] if known else FORMATS.values())):
        return None
    there = [name for name in PROMPT_COLUMNS if name in row]
    chosen = next((name for name in there if name in filled), next(iter(there), None))
    return asks_in(chosen) if chosen else None


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _fits(known: Format, row: Row, filled: set[str]) -> bool:
    return filled.issuperset(known.columns) and (known.when is None or known.when(row))


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
        if _fits(known, row, filled):
            fitting.setdefault(known, name)
    ranks = {known: (len(mapped & {*known.columns}), len(known.columns)) for known in fitting}
    best = [known for known in fitting if ranks[known] == max(ranks.values())]
    if len(best) > 1:
        raise Unusable(f"ambiguous_format:{','.join(fitting[known] for known in best)}")
    return best[0] if best else _with_gaps(row, filled)


def _with_gaps(row: Row, filled: set[str]) -> Format:
    """The format whose columns are all there, some of them null: its adapter says which."""
    plain = [known for known in FORMATS.values() if known.when is None]
    there = [known for known in plain if row.keys() >= {*known.columns}]
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
        alone = _asked_alone(row, known) if reading.takes_prompts else None
        found = alone or known or detect(row, mapped)
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
