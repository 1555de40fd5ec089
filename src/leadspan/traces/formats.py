"""Which format a row has. Pure: no files, no tokenizers.

A new format is an adapter and a line in `FORMATS`; docs/data.md tables them. `checks` makes the
traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from leadspan.messages import Unusable
from leadspan.records import Trace
from leadspan.traces.adapters import (
    DEEPMATH_SOLUTIONS,
    Drafts,
    ends_in_question,
    from_alpaca,
    from_conversations,
    from_deepmath,
    from_dolphin,
    from_limo,
    from_messages,
    from_nemotron,
    from_openmath,
    from_openr1,
    from_openthoughts_parts,
    from_prompt_completion,
    from_s1k,
    from_sections,
    from_synthetic1,
    is_nemotron,
)
from leadspan.traces.checks import ID_COLUMNS, build_trace, check_row
from leadspan.traces.drafts import Reading, Row
from leadspan.traces.sections import Refusal


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
) -> Iterator[Trace | Refusal]:
    """The traces of one row, or the reason why there are none."""
    try:
        check_row(row)
        found = known or detect(row, mapped)
        for name in found.columns:
            if row.get(name) is None:
                raise Unusable(f"missing:{name}")
        drafts = found.adapt(row, reading)
    except Unusable as reason:
        yield Refusal(str(reason))
        return
    for draft in drafts:
        if isinstance(draft, Refusal):
            yield draft
            continue
        try:
            yield build_trace(row, draft, (*found.columns, *found.texts))
        except Unusable as reason:
            yield Refusal(str(reason))


def mapped(columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """A function that gives a row our names for the user's columns."""
    ours = {theirs: name for name, theirs in columns.items()}

    def rename(row: Row) -> Row:
        # A column of the user's that bears one of our names by accident must not come through.
        kept = {name: value for name, value in row.items() if name not in (*columns, *ours)}
        return {**kept, **{ours[name]: row[name] for name in ours if name in row}}

    return rename
