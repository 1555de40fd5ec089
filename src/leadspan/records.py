"""The records that flow from room to room. They know nothing about files, tokenizers or models.

Shape suffixes: T tokens of one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leadspan.display import block, counted, line

Section = Literal["prompt", "cot", "answer"]
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The message's other keys that a chat template may read: tool_calls, tool_call_id, name."""

    def __repr__(self) -> str:
        return line(self, self.role, counted(len(self.content), "character"))


@dataclass(frozen=True, slots=True)
class Trace:
    """One reasoning trace as text, already segmented: nobody looks for think markers after this."""

    trace_id: str
    messages: tuple[Message, ...]
    """What the student is asked: everything before the completion, system prompt included."""
    cot: str
    """The exact text between the think markers."""
    answer: str
    """The exact text after the closing marker; empty when there is none."""
    golds: tuple[str, ...] = ()
    """The accepted answers as written; empty when the source gives none."""
    closed: bool = True
    """False where the source never closed the think block, so the CoT has no end."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    """Schemas of the tools that the row offers, as its chat template takes them."""
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    """What the row itself asks of the chat template (`chat_template_kwargs`)."""
    notes: tuple[str, ...] = ()
    """What reading took off or passed over, for the counts: `end_token_stripped`, `null_part`."""

    @property
    def gold(self) -> str | None:
        """The first of the accepted answers."""
        return self.golds[0] if self.golds else None

    @property
    def is_prompt(self) -> bool:
        """A question alone, for rollouts: nobody has answered it."""
        return not (self.closed or self.cot or self.answer)

    @property
    def prompt(self) -> str:
        """Text of the last user turn."""
        return next((turn.content for turn in reversed(self.messages) if turn.role == "user"), "")

    def __repr__(self) -> str:
        return line(
            self,
            self.trace_id,
            counted(len(self.messages), "message"),
            f"CoT of {counted(len(self.cot), 'character')}{'' if self.closed else ', never closed'}",
            f"answer of {counted(len(self.answer), 'character')}",
            counted(len(self.golds), "gold"),
        )

    def _repr_html_(self) -> str:
        parts = [(message.role, message.content) for message in self.messages]
        parts += [("CoT", self.cot), ("answer", self.answer)]
        texts = [(f"{name}: {counted(len(text), 'character')}", text) for name, text in parts]
        return block(repr(self), ("gold",), ((gold,) for gold in self.golds), texts)


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of token positions, `start <= end`."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"Span: need 0 <= start <= end; got [{self.start}, {self.end}).")

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One trace as tokens. The three spans partition `[0, T)` in the order prompt, cot, answer.

    The think markers belong to the CoT, the end-of-turn token to the answer.
    """

    trace_id: str
    input_ids_T: NDArray[np.int32]
    prompt: Span
    cot: Span
    answer: Span
    was_cut: bool = False
    """True where tokens of the trace are missing, so nothing ends it."""
    num_full_tokens: int = 0
    """Length of the uncut sequence."""
    closed: bool = True
    """True where the close marker is the last part of the CoT span."""
    is_prefix: bool = True
    """False where some token stands behind another left context than in the uncut sequence."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """The trace's `meta`, with `gold` where it is known."""

    def __post_init__(self) -> None:
        spans = (self.prompt, self.cot, self.answer)
        edges = [0, *(span.end for span in spans)]
        if [span.start for span in spans] != edges[:-1] or edges[-1] != len(self.input_ids_T):
            raise ValueError(
                f"Sequence {self.trace_id}: the spans must partition [0, {len(self.input_ids_T)}) "
                f"as prompt, cot, answer; got {spans}."
            )
        if not self.num_full_tokens:
            object.__setattr__(self, "num_full_tokens", len(self.input_ids_T))

    def __len__(self) -> int:
        return len(self.input_ids_T)

    @property
    def is_prompt(self) -> bool:
        """A question alone, for rollouts: uncut, nothing stands behind it."""
        return self.prompt.end == self.num_full_tokens

    def __repr__(self) -> str:
        length = counted(len(self), "token")
        if self.was_cut:
            length = f"{len(self):,} of {counted(self.num_full_tokens, 'token')}"
        return line(self, self.trace_id, length, *(f"{s} {len(self.span(s)):,}" for s in SECTIONS))

    def span(self, section: Section) -> Span:
        """The span of a section by name."""
        return {"prompt": self.prompt, "cot": self.cot, "answer": self.answer}[section]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A sequence and which of its tokens are scored.

    `supervised_T[t]` is True where token `t` is a label, predicted from the tokens before it;
    `supervised_T[0]` is always False because nothing stands before the first token.
    """

    sequence: Sequence
    supervised_T: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if len(self.supervised_T) != len(self.sequence):
            raise ValueError(
                f"Example {self.sequence.trace_id}: {len(self.sequence)} tokens "
                f"but a mask of {len(self.supervised_T)}."
            )
        if len(self.supervised_T) and self.supervised_T[0]:
            raise ValueError(
                f"Example {self.sequence.trace_id}: the first token cannot be a label."
            )

    @property
    def num_scored_tokens(self) -> int:
        """How many labels the example has."""
        return int(self.supervised_T.sum())

    def __repr__(self) -> str:
        scored = f"{self.num_scored_tokens:,} scored"
        return line(self, self.sequence.trace_id, counted(len(self.sequence), "token"), scored)
