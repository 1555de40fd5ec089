"""What a cut keeps and scores at each moment of a training, how that is said, and counted for a set."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leadspan.config import DERIVATION_COLUMN, SupervisionConfig, TruncationConfig
from leadspan.config_io import validate
from leadspan.records import SECTIONS, Example, Sequence, Span

OPEN_TOKENS, CLOSE_TOKENS = "num_open_tokens", "num_close_tokens"
"""Keys of `Sequence.meta`: how many tokens at the start and end of the CoT span are its markers."""
TOKENS_SUFFIX = ".tokens"
"""Ends the key of `Sequence.meta` under which a cut point in characters stands as tokens."""

Positions = NDArray[np.int64]


class Cut:
    """Policy, schedule and supervision of a run, as one object.

    `progress` is the share of the training that is done, in [0, 1]; only a schedule (`lsp_end`) looks
    at it. Every method takes uncut sequences, or cut ones of which it keeps everything.
    """

    def __init__(
        self,
        truncation: TruncationConfig | None = None,
        supervision: SupervisionConfig | None = None,
    ) -> None:
        self.truncation: TruncationConfig = truncation or TruncationConfig()
        self.supervision: SupervisionConfig = supervision or SupervisionConfig()

    @property
    def moves(self) -> bool:
        """True where the share changes over the training."""
        return self.truncation.lsp_end not in (None, self.truncation.lsp)

    @property
    def longest_at(self) -> float:
        """The progress at which most is kept; every other moment keeps a part of that."""
        return float(self.moves and self.lsp_at(1.0) > self.lsp_at(0.0))

    def lsp_at(self, progress: float) -> float:
        """The share at a moment of training: linear from `lsp` to `lsp_end`."""
        start, end = self.truncation.lsp, self.truncation.lsp_end
        return start if end is None else start + (end - start) * min(max(progress, 0.0), 1.0)

    def at_lsp(self, lsp: float) -> Cut:
        """The same cut with a fixed share."""
        fixed = self.truncation.model_copy(update={"lsp": lsp, "lsp_end": None})
        return Cut(fixed, self.supervision)

    def positions(self, sequence: Sequence, progress: float = 0.0) -> Positions:
        """The kept positions, ascending, shape [K].

        Raises:
            ValueError: The sequence is cut already, so that its shares would be shares of a share.
        """
        kept_K = _positions(sequence, self.truncation, self.lsp_at(progress))
        kept_K = kept_K[: self.truncation.max_tokens]
        if sequence.was_cut and len(kept_K) < len(sequence):
            raise ValueError(
                f"sequence {sequence.trace_id}: must be uncut; got {len(sequence)} of "
                f"{sequence.num_full_tokens} tokens. Cut the sequence that render returned."
            )
        return kept_K

    def apply(self, sequence: Sequence, progress: float = 0.0) -> Sequence:
        """The part of the sequence that is kept."""
        return select(sequence, self.positions(sequence, progress))

    def example(self, sequence: Sequence, progress: float = 0.0) -> Example:
        """The kept part and which of its tokens are scored."""
        return supervise(self.apply(sequence, progress), self.supervision)

    def ever_scores(self, sequence: Sequence) -> bool:
        """True where some token of the sequence is scored at some moment of training."""
        return any(self.example(sequence, end).num_scored_tokens for end in self._ends)

    def longest(self, sequence: Sequence) -> int:
        """The most tokens that are kept at any moment of training."""
        return len(self.positions(sequence, self.longest_at))

    def keeps_lead(self, sequence: Sequence, num_tokens: int, progress: float = 0.0) -> bool:
        """True where the first `num_tokens` tokens are all kept, as a derivation needs them."""
        kept_K = self.positions(sequence, progress)
        return num_tokens <= len(kept_K) and (
            num_tokens == 0 or int(kept_K[num_tokens - 1]) == num_tokens - 1
        )

    @property
    def _ends(self) -> tuple[float, ...]:
        return (0.0, 1.0) if self.moves else (0.0,)

    def __str__(self) -> str:
        """In words, to stand behind "trained on": `the first 50 % of each sequence`."""
        config = self.truncation
        if config.max_tokens is None:
            return self._in_words()
        return f"{self._in_words()}, at most {config.max_tokens:,} tokens"

    def _in_words(self) -> str:
        config = self.truncation
        if config.policy == "end_of_cot":
            return "each prompt and its whole chain of thought, without the answer"
        if config.policy in ("column", "derivation"):
            place = f"its {config.column}"
            if config.policy == "derivation":
                place = "its first derivation of the answer"
            margin = f" plus {_percent(config.margin)} of its chain of thought"
            return f"each trace up to {place}{margin if config.margin else ''}"
        if not self.moves and config.lsp == 1.0:
            return "whole sequences"
        share = _percent(config.lsp)
        if self.moves:
            share = f"{share} (moving to {_percent(self.lsp_at(1.0))} over the training)"
        if config.policy == "bridge":
            return f"the first {share} of each chain of thought, its end marker and its answer"
        where = {"lead": "first", "middle": "middle", "tail": "last"}[config.keep]
        whole = "chain of thought" if config.of == "cot" else "sequence"
        prompt = ""
        if config.keep != "lead":
            prompt = ", prompt included" if config.keep_prompt else ", prompt cut away"
        return f"the {where} {share} of each {whole}{prompt}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def share_of(length: int, share: float) -> int:
    """`max(1, floor(share * length))`, and 0 of nothing.

    The product is nudged by 1e-9 so that 0.29 * 100 counts as 29, not as 28.999999999999996.
    """
    return min(length, max(1, math.floor(share * length + 1e-9)))


def _positions(sequence: Sequence, config: TruncationConfig, lsp: float) -> Positions:
    """The kept positions before `max_tokens`; docs/data.md tables the policies."""
    if config.policy == "end_of_cot":
        return _lead(sequence, sequence.cot.end)
    if config.policy == "bridge":
        return _bridge(sequence, lsp)
    if config.column is not None:
        point = _own_point(sequence, config)
        if point is not None:
            margin = math.floor(config.margin * len(sequence.cot) + 1e-9)
            return _lead(sequence, max(1, point + margin))
    if config.keep != "lead":
        return _middle_or_tail(sequence, config, lsp)
    if config.of == "sequence":
        return _lead(sequence, share_of(len(sequence), lsp))
    if lsp == 1.0:
        return _lead(sequence, len(sequence))
    return _lead(sequence, sequence.cot.start + share_of(len(sequence.cot), lsp))


def _lead(sequence: Sequence, count: int) -> Positions:
    return np.arange(min(count, len(sequence)))


def _middle_or_tail(sequence: Sequence, config: TruncationConfig, lsp: float) -> Positions:
    """As many tokens as the lead would keep; a kept prompt counts as part of them."""
    count = share_of(len(sequence), lsp)
    first = min(sequence.prompt.end, count) if config.keep_prompt else 0
    rest = count - first
    room = len(sequence) - first - rest
    start = first + (room if config.keep == "tail" else room // 2)
    return np.concatenate([np.arange(first), np.arange(start, start + rest)])


def _bridge(sequence: Sequence, lsp: float) -> Positions:
    """The prompt, the first share of the CoT without its close marker, then that and the answer.

    An unclosed trace has nothing to bridge to and is cut like `of: cot`.
    """
    close = sequence.cot.end - int(sequence.meta.get(CLOSE_TOKENS, 0))
    kept = sequence.cot.start + share_of(close - sequence.cot.start, lsp)
    return np.concatenate([np.arange(kept), np.arange(close, len(sequence))])


def _own_point(sequence: Sequence, config: TruncationConfig) -> int | None:
    """The trace's own cut point in tokens of the uncut sequence; None where it has none.

    Characters were turned into tokens before (`dataset`), under the key with TOKENS_SUFFIX.
    """
    column = str(config.column)
    key = column + TOKENS_SUFFIX if config.column_unit == "characters" else column
    point = cut_point(sequence.meta.get(key))
    if point is None:
        return None
    if config.column_unit == "fraction":
        return sequence.cot.start + math.floor(min(point, 1.0) * len(sequence.cot) + 1e-9)
    return int(min(point, len(sequence)))


def cut_point(value: Any) -> float | None:
    """`value` where it can be a place to cut at, a number from 0 on, infinity among them; else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and value >= 0 else None


def select(sequence: Sequence, positions_K: Positions) -> Sequence:
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
        is_prefix=len(positions_K) == 0 or int(positions_K[-1]) == len(positions_K) - 1,
        meta=sequence.meta,
    )


def truncate(
    sequences: Iterable[Sequence], how: TruncationConfig | None = None, /, **options: Any
) -> list[Sequence]:
    """Cut uncut sequences.

    Args:
        sequences: As `render` returns them.
        how: The `truncation` part of a config; its start where the cut moves over the training.
        **options: Fields of TruncationConfig on top of it, such as `lsp=0.5, keep="tail"`.

    Raises:
        ConfigError: An option is wrong.
        ValueError: A sequence is cut already.
    """
    content = {**(how or TruncationConfig()).model_dump(exclude_unset=True), **options}
    cut = Cut(validate(TruncationConfig, content, "truncate"))
    return [cut.apply(sequence) for sequence in sequences]


def supervise(sequence: Sequence, config: SupervisionConfig | None = None) -> Example:
    """Mark the tokens of the chosen sections as labels.

    Args:
        sequence: Cut or uncut.
        config: Sections and masked share; the defaults of run.yaml where None.

    Returns:
        The sequence with its mask. The first token is never a label.
    """
    config = config or SupervisionConfig()
    supervised_T = np.zeros(len(sequence), dtype=np.bool_)
    for section in config.sections:
        span = sequence.span(section)
        supervised_T[span.start : span.end] = True
    supervised_T[:1] = False
    if config.mask_fraction:
        supervised_T &= ~_masked(sequence, config)
    return Example(sequence, supervised_T)


def _masked(sequence: Sequence, config: SupervisionConfig) -> NDArray[np.bool_]:
    """A draw for each position of the trace, the same in every epoch and for every cut."""
    key = f"{config.mask_seed}:{sequence.trace_id}".encode()
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
    return generator.random(len(sequence)) < config.mask_fraction


DERIVATION_TOKENS = DERIVATION_COLUMN + TOKENS_SUFFIX
"""Key of `Sequence.meta`: where the first derivation ends, in tokens of the uncut sequence."""


@dataclass(slots=True)
class CutReport:
    """Counts over all sequences; shares are of the traces that had the thing in question."""

    sequences: int = 0
    dropped: int = 0
    """Sequences of which no token is scored at any moment of training."""
    full_tokens: int = 0
    kept_tokens: int = 0
    """Of sequences that are not dropped, at the start of the training."""
    scored_tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SECTIONS, 0))
    longest_tokens: int = 0
    """The longest that any sequence is at any moment of training."""
    close_marker_kept: float | None = None
    answer_kept: float | None = None
    """Whole answers, end token included."""
    derivation_kept: float | None = None
    """None where no trace says where its first derivation ends."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class CutCounter:
    """Counts what a cut keeps, a sequence at a time."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._report = CutReport()
        self._kept: Counter[tuple[str, bool]] = Counter()

    def add(self, sequence: Sequence) -> Example:
        """Cut, mask and count an uncut sequence."""
        example = self.cut.example(sequence)
        cut, report = example.sequence, self._report
        report.sequences += 1
        report.full_tokens += len(sequence)
        report.longest_tokens = max(report.longest_tokens, self.cut.longest(sequence))
        if example.num_scored_tokens or self.cut.ever_scores(sequence):
            report.kept_tokens += len(cut)
        else:
            report.dropped += 1
        for section in SECTIONS:
            span = cut.span(section)
            scored = int(example.supervised_T[span.start : span.end].sum())
            report.scored_tokens[section] += scored
        if sequence.closed:
            self._kept["close_marker_kept", cut.closed] += 1
            self._kept["answer_kept", len(cut.answer) == len(sequence.answer)] += 1
        end = sequence.meta.get(DERIVATION_TOKENS)
        if isinstance(end, int):
            self._kept["derivation_kept", self.cut.keeps_lead(sequence, end)] += 1
        return example

    def report(self) -> CutReport:
        """The counts so far."""
        shares: dict[str, Any] = {
            name: self._kept[name, True] / (self._kept[name, True] + self._kept[name, False])
            for name in {name for name, _ in self._kept}
        }
        return replace(self._report, **shares)


def report_cuts(sequences: Iterable[Sequence], cut: Cut) -> CutReport:
    """Cut and mask uncut sequences, and count."""
    counter = CutCounter(cut)
    for sequence in sequences:
        counter.add(sequence)
    return counter.report()
