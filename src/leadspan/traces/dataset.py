"""The one way from `traces` and `render` of a run.yaml to uncut sequences, split and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from leadspan.config import RunConfig
from leadspan.records import Sequence
from leadspan.traces.render import render
from leadspan.traces.sources import load_traces


@dataclass(slots=True)
class SequenceSet:
    """Uncut sequences of a run, and what became of the rows that are not among them."""

    train: list[Sequence]
    validation: list[Sequence]
    refused: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def build_sequences(config: RunConfig, tokenizer: Any) -> SequenceSet:
    """Load, render, filter by length, sample and split."""
    loaded = load_traces(config.traces)
    sequences = render(loaded.traces, tokenizer, config.render)
    limit = config.traces.max_tokens
    if limit is not None:
        kept = [sequence for sequence in sequences if len(sequence) <= limit]
        loaded.refused["over_max_tokens"] += len(sequences) - len(kept)
        sequences = kept
    train, validation = split_validation(sequences, config.traces.validation_fraction, config.seed)
    return SequenceSet(train, validation, loaded.refused, loaded.notes)


def draw(trace_id: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but the trace, the seed and the purpose."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{trace_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_validation(
    sequences: list[Sequence], fraction: float, seed: int
) -> tuple[list[Sequence], list[Sequence]]:
    """Train and validation share; a trace stays on its side when rows are appended."""
    held_out = [draw(sequence.trace_id, seed, "validation") < fraction for sequence in sequences]
    train = [s for s, out in zip(sequences, held_out, strict=True) if not out]
    validation = [s for s, out in zip(sequences, held_out, strict=True) if out]
    return train, validation
