"""What of a sequence goes through the model. Pure: positions and spans, no text, no scoring.

Every policy chooses the positions it keeps; `select` turns them into a sequence. A cut writes
nothing over its edge: no end token, no close marker (only `bridge` keeps the one that was there).
Shape suffixes: T tokens of the uncut sequence, K kept positions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leadspan.config import TruncationConfig
from leadspan.config_file import validate
from leadspan.records import Sequence, Span

OPEN_TOKENS, CLOSE_TOKENS = "num_open_tokens", "num_close_tokens"
"""Keys of `Sequence.meta`: how many tokens at the start and end of the CoT span are its markers."""


class Policy(ABC):
    """A way to cut."""

    @abstractmethod
    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """The positions of the uncut `sequence` that are kept, ascending, shape [K]."""

    def cut(self, sequence: Sequence) -> Sequence:
        """The part of the uncut `sequence` that is kept."""
        return select(sequence, self.positions(sequence))


def share_of(length: int, share: float) -> int:
    """`max(1, floor(share * length))`, and 0 of nothing.

    The product is nudged by 1e-9 so that 0.29 * 100 counts as 29, not as 28.999999999999996.
    """
    return min(length, max(1, math.floor(share * length + 1e-9)))


def select(sequence: Sequence, positions_K: NDArray[np.int64]) -> Sequence:
    """Keep the tokens at these ascending positions."""
    if len(positions_K) == len(sequence):
        return sequence
    edges = np.searchsorted(
        positions_K, [sequence.prompt.end, sequence.cot.end, sequence.answer.end]
    ).tolist()
    last_of_cot = sequence.cot.end - 1
    kept = int(np.searchsorted(positions_K, last_of_cot))
    closed = sequence.closed and kept < len(positions_K) and positions_K[kept] == last_of_cot
    return Sequence(
        trace_id=sequence.trace_id,
        input_ids_T=sequence.input_ids_T[positions_K],
        prompt=Span(0, edges[0]),
        cot=Span(edges[0], edges[1]),
        answer=Span(edges[1], edges[2]),
        was_cut=True,
        num_full_tokens=sequence.num_full_tokens,
        closed=bool(closed),
        is_prefix=sequence.is_prefix
        and (len(positions_K) == 0 or int(positions_K[-1]) == len(positions_K) - 1),
        meta=sequence.meta,
    )


def _lead(sequence: Sequence, count: int) -> NDArray[np.int64]:
    return np.arange(min(count, len(sequence)))


@dataclass(frozen=True, slots=True)
class LeadOfSequence(Policy):
    """The first `max(1, floor(lsp * |S|))` tokens: the paper's cut."""

    lsp: float

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        return _lead(sequence, share_of(len(sequence), self.lsp))


@dataclass(frozen=True, slots=True)
class PartOfSequence(Policy):
    """As many tokens as the lead would keep, but from the middle or the tail."""

    lsp: float
    tail: bool
    keep_prompt: bool

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """Keep the prompt in context (it counts), or cut it away as the paper's code does."""
        count = share_of(len(sequence), self.lsp)
        first = min(sequence.prompt.end, count) if self.keep_prompt else 0
        rest = count - first
        room = len(sequence) - first - rest
        start = first + (room if self.tail else room // 2)
        return np.concatenate([np.arange(first), np.arange(start, start + rest)])


@dataclass(frozen=True, slots=True)
class LeadOfCot(Policy):
    """The prompt and the first share of the CoT; the answer only where nothing is cut."""

    lsp: float

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        if self.lsp == 1.0:
            return np.arange(len(sequence))
        return _lead(sequence, sequence.cot.start + share_of(len(sequence.cot), self.lsp))


@dataclass(frozen=True, slots=True)
class EndOfCot(Policy):
    """Everything but the answer."""

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        return _lead(sequence, sequence.cot.end)


@dataclass(frozen=True, slots=True)
class Bridge(Policy):
    """The prompt, the first share of the CoT, then its close marker and the answer.

    The kept share is of the CoT without its close marker; an unclosed trace has nothing to bridge to
    and is cut like `of: cot`.
    """

    lsp: float

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        close = sequence.cot.end - int(sequence.meta.get(CLOSE_TOKENS, 0))
        kept = sequence.cot.start + share_of(close - sequence.cot.start, self.lsp)
        return np.concatenate([np.arange(kept), np.arange(close, len(sequence))])


@dataclass(frozen=True, slots=True)
class AtColumn(Policy):
    """Each trace up to its own cut point plus a margin; traces without one by `otherwise`.

    Cut points count tokens of the uncut sequence, or are shares of the CoT's tokens. Characters are
    turned into tokens before (`dataset`), under the key with TOKENS_SUFFIX.
    """

    column: str
    unit: str
    margin: float
    otherwise: Policy

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        key = self.column + TOKENS_SUFFIX if self.unit == "characters" else self.column
        point = cut_point(sequence.meta.get(key))
        if point is None:
            return self.otherwise.positions(sequence)
        if self.unit == "fraction":
            point = sequence.cot.start + math.floor(min(point, 1.0) * len(sequence.cot) + 1e-9)
        margin = math.floor(self.margin * len(sequence.cot) + 1e-9)
        return _lead(sequence, max(1, int(min(point, len(sequence))) + margin))


def cut_point(value: Any) -> float | None:
    """`value` where it can be a place to cut at, a number from 0 on, infinity among them; else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and value >= 0 else None


TOKENS_SUFFIX = ".tokens"
"""Ends the key of `Sequence.meta` under which a cut point in characters stands as tokens."""


@dataclass(frozen=True, slots=True)
class Budget(Policy):
    """Another policy's cut, and of that at most the first `max_tokens` tokens."""

    first: Policy
    max_tokens: int

    def positions(self, sequence: Sequence) -> NDArray[np.int64]:
        """See the class."""
        return self.first.positions(sequence)[: self.max_tokens]


def build_policy(config: TruncationConfig, progress: float = 0.0) -> Policy:
    """The policy of a config at a moment of training.

    Args:
        config: The `truncation` part of run.yaml.
        progress: Share of the training that is done, in [0, 1]; only a schedule looks at it.
    """
    policy = _policy(config, scheduled_lsp(config, progress))
    return policy if config.max_tokens is None else Budget(policy, config.max_tokens)


def scheduled_lsp(config: TruncationConfig, progress: float) -> float:
    """The share at this moment of the training: linear from `lsp` to `lsp_end`."""
    if config.lsp_end is None:
        return config.lsp
    return config.lsp + (config.lsp_end - config.lsp) * min(max(progress, 0.0), 1.0)


def _policy(config: TruncationConfig, lsp: float) -> Policy:
    if config.policy == "end_of_cot":
        return EndOfCot()
    if config.policy == "bridge":
        return Bridge(lsp)
    span: Policy = LeadOfCot(lsp) if config.of == "cot" else LeadOfSequence(lsp)
    if config.column is not None:
        return AtColumn(config.column, config.column_unit, config.margin, span)
    if config.keep != "lead":
        return PartOfSequence(lsp, config.keep == "tail", config.keep_prompt)
    return span


def truncate(
    sequences: Iterable[Sequence], how: Policy | TruncationConfig | None = None, /, **options: Any
) -> list[Sequence]:
    """Cut uncut sequences.

    Args:
        sequences: As `render` returns them.
        how: A policy, or the `truncation` part of a config.
        **options: Fields of TruncationConfig instead, such as `lsp=0.5, keep="tail"`.

    Raises:
        ConfigError: An option is wrong.
        ValueError: A policy and options are given.
    """
    if isinstance(how, Policy):
        if options:
            raise ValueError(
                f"truncate: give a policy or options; got both ({', '.join(options)})."
            )
        return [how.cut(sequence) for sequence in sequences]
    content = {**(how or TruncationConfig()).model_dump(), **options}
    policy = build_policy(validate(TruncationConfig, content, "truncate"))
    return [policy.cut(sequence) for sequence in sequences]
