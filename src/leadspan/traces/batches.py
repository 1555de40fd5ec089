"""Which examples make a step, and how they lie side by side in a forward pass.

The order depends on the seed and the number of examples alone, never on workers or ranks. Examples
lie side by side, padded on the right: under causal attention no real token ever sees padding, so no
mask is needed. Packed, they lie end to end in one row, told apart by positions that start anew, and an
attention for sequences of any length computes nothing but them. Knows nothing about models or losses.

Shape suffixes: B rows (1 when packed), T tokens (padded or packed), N scored tokens of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leadspan.records import SECTIONS, Example

PAD_ID = 0
"""Any id does: nothing attends to padding and it is never scored."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One forward pass.

    Row `b` holds tokens `[0, last label)` of `examples[b]`: what stands after the last scored label
    cannot change the loss, and the last label itself is only predicted.
    """

    examples: tuple[Example, ...]
    input_ids_BT: torch.Tensor
    """int64, padded with `PAD_ID` on the right, or packed."""
    positions_BT: torch.Tensor | None
    """int64, packed: each token's place in its own sequence. None where rows are sequences."""
    rows_N: torch.Tensor
    """int64, flat positions in [0, B * T): the token before each label, so its prediction."""
    labels_N: torch.Tensor
    """int64, the scored token ids, in the order of `rows_N`."""
    sections_N: torch.Tensor
    """int64, index of each label's section in `SECTIONS`."""
    num_tokens: int
    """Real tokens forwarded, padding apart."""

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(
            self.examples,
            self.input_ids_BT.to(device),
            None if self.positions_BT is None else self.positions_BT.to(device),
            self.rows_N.to(device),
            self.labels_N.to(device),
            self.sections_N.to(device),
            self.num_tokens,
        )


def num_forwarded_tokens(example: Example) -> int:
    """How many tokens of the example must go through the model: those before its last label."""
    labels = np.flatnonzero(example.supervised_T)
    return int(labels[-1]) if len(labels) else 0


def compute_order(num_examples: int, num_needed: int, seed: int) -> NDArray[np.int64]:
    """Indices of the examples in the order of training: one shuffle after another, `num_needed` long."""
    num_epochs = math.ceil(num_needed / num_examples)
    shuffles = [
        np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_examples)
        for epoch in range(num_epochs)
    ]
    return np.concatenate(shuffles)[:num_needed]


def plan_micro_batches(
    lengths: SequenceABC[int], max_tokens: int, num_ranks: int = 1, packed: bool = False
) -> list[list[list[int]]]:
    """Share out one step's examples over ranks and forward passes.

    Args:
        lengths: Forwarded tokens of each example of the step.
        max_tokens: Tokens that one forward pass may hold, padding (to the longest row) included; a
            longer example goes alone.
        num_ranks: Over how many ranks.
        packed: Without padding.

    Returns:
        For each rank its forward passes, each a list of indices into `lengths`. Every rank has the same
        number of passes, as collectives need; a rank with less to do ends in empty ones.
    """
    by_length = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    passes: list[list[int]] = []
    room = 0
    for index in by_length:
        cost = lengths[index] if packed or not passes else lengths[passes[-1][0]]
        if passes and cost <= room:
            passes[-1].append(index)
            room -= cost
        else:
            passes.append([index])
            room = max_tokens - lengths[index]
    if num_ranks > 1:
        passes = _even_out(passes, num_ranks)
    ranks: list[list[list[int]]] = [passes[rank::num_ranks] for rank in range(num_ranks)]
    most = max(len(rank) for rank in ranks)
    return [rank + [[] for _ in range(most - len(rank))] for rank in ranks]


def _even_out(passes: list[list[int]], num_ranks: int) -> list[list[int]]:
    """Halve the largest passes until every rank has work, where there are examples enough."""
    while len(passes) % num_ranks and max(len(members) for members in passes) > 1:
        largest = max(range(len(passes)), key=lambda place: len(passes[place]))
        members = passes.pop(largest)
        half = (len(members) + 1) // 2
        passes[largest:largest] = [members[:half], members[half:]]
    return passes


def collate(examples: SequenceABC[Example], packed: bool = False) -> Batch:
    """Lay examples side by side, or end to end where `packed`.

    No examples make a batch of one padding token with nothing scored.
    """
    lengths = [num_forwarded_tokens(example) for example in examples] or [1]
    width = max(1, sum(lengths) if packed else max(lengths))
    starts = np.cumsum([0, *lengths[:-1]]) if packed else np.arange(len(lengths)) * width
    flat_ids = np.full(width if packed else len(lengths) * width, PAD_ID, dtype=np.int64)
    rows: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    sections: list[NDArray[Any]] = []
    for example, start, length in zip(examples, starts, lengths, strict=False):
        sequence = example.sequence
        flat_ids[start : start + length] = sequence.input_ids_T[:length]
        positions = np.flatnonzero(example.supervised_T)
        rows.append(positions - 1 + start)
        labels.append(sequence.input_ids_T[positions])
        ends = [sequence.span(section).end for section in SECTIONS]
        sections.append(np.searchsorted(ends, positions, side="right"))
    return Batch(
        examples=tuple(examples),
        input_ids_BT=torch.from_numpy(flat_ids.reshape(-1, width)),
        positions_BT=_join([np.arange(length) for length in lengths])[None] if packed else None,
        rows_N=_join(rows),
        labels_N=_join(labels),
        sections_N=_join(sections),
        num_tokens=sum(lengths) if examples else 0,
    )


def _join(parts: list[NDArray[Any]]) -> torch.Tensor:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return torch.from_numpy(joined.astype(np.int64))
