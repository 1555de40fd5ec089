"""Read a teacher cache: look sequences up by content, give their rows to the loss.

A prefix of a captured sequence is a hit and nothing else is: the distribution at a position depends on
the tokens up to it alone. No teacher model is loaded. Knows nothing about how the rows were captured.

Shape suffixes: T tokens, N asked rows, S sequences, H hidden.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, cmp_to_key
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leadspan.config import LossConfig, TeacherConfig
from leadspan.errors import CacheError, ConfigError
from leadspan.identity import model_fingerprint, vocabulary_fingerprint
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from leadspan.records import Sequence as TokenSequence
from leadspan.runs import read_json
from leadspan.teachers.cache_format import (
    IDENTITY_FILE,
    MANIFEST_FILE,
    CacheIdentity,
    Shard,
    identity_from,
    read_head,
    read_shard,
    unpack_rows,
)
from leadspan.teachers.live import TeacherVocabulary
from leadspan.traces.batches import Batch


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Rows wanted of one sequence."""

    input_ids_T: NDArray[np.int32]
    """The tokens as the student sees them, up to the last asked position or further."""
    positions_N: NDArray[np.int64]
    """Position t asks for the distribution of token t + 1 given tokens 0..t."""
    trace_id: str | None = None
    """Where to look first; the tokens are compared all the same."""


@dataclass(frozen=True, slots=True)
class _Place:
    shard: int
    first_token: int
    first_row: int
    num_tokens: int


class TeacherCache:
    """A complete cache, memory-mapped, with random access by content.

    Raises:
        CacheError: The folder holds no complete cache of this format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / MANIFEST_FILE).is_file():
            what = (
                "the capture was not finished. Run the same capture again; it goes on"
                if (self.path / IDENTITY_FILE).is_file()
                else "not a teacher cache. Write one with `leadspan capture`"
            )
            raise CacheError(f"{self.path}: {what}.")
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST_FILE)
        self.identity: CacheIdentity = identity_from(self.manifest["identity"], self.path)
        self._shards = [read_shard(self.path / name) for name in self.manifest["shards"]]
        self._places: list[_Place] = []
        self._by_trace: dict[str, list[int]] = {}
        self._heads: dict[torch.device | None, Head] = {}
        for number, shard in enumerate(self._shards):
            self._index(number, shard)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shards(self) -> Sequence[Shard]:
        """The shards, in the manifest's order."""
        return self._shards

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(place.num_tokens for place in self._places)

    def input_ids(self, index: int) -> NDArray[np.int32]:
        """The captured tokens of a sequence, shape [T], a view of the file."""
        place = self._places[index]
        tokens = self._shards[place.shard].tensors["input_ids"].numpy()
        return tokens[place.first_token : place.first_token + place.num_tokens]

    def rows(
        self,
        input_ids_T: NDArray[np.int32],
        positions_N: NDArray[np.int64],
        trace_id: str | None = None,
    ) -> SparseTeacher | DenseTeacher:
        """The teacher's distributions at some positions of one sequence or of a prefix of one.

        Raises:
            CacheError: No captured sequence starts with these tokens.
        """
        return self.rows_of([Query(input_ids_T, positions_N, trace_id)])

    def rows_of(
        self, queries: Sequence[Query], device: torch.device | None = None
    ) -> SparseTeacher | DenseTeacher:
        """The rows of several sequences, one after another, unpacked on `device`.

        Raises:
            CacheError: Some sequence was not captured, or a position has no row.
        """
        parts = [self._packed(query) for query in queries]
        if not parts:
            parts = [{name: tensor[:0] for name, tensor in self._shards[0].rows.items()}]
        packed = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if self.identity.mode == "hidden":
            return DenseTeacher(packed["hidden"].to(device), self.head_on(device))
        return unpack_rows(self.identity, packed, device)

    def holds(self, sequence: TokenSequence) -> bool:
        """Whether a captured sequence starts with the tokens of this one."""
        try:
            self.find(sequence.input_ids_T, sequence.trace_id)
        except CacheError:
            return False
        return True

    def find(self, input_ids_T: NDArray[np.int32], trace_id: str | None = None) -> int:
        """Index of a captured sequence that starts with these tokens.

        Raises:
            CacheError: There is none; says how far the nearest agrees.
        """
        for index in self._by_trace.get(trace_id or "", ()):
            if _shared_length(self.input_ids(index), input_ids_T) == len(input_ids_T):
                return index
        place = bisect_left(
            self._sorted,
            0,
            key=lambda index: _compare(self.input_ids(index)[: len(input_ids_T)], input_ids_T),
        )
        near = [self._sorted[i] for i in (place, place - 1) if 0 <= i < len(self)]
        shared = [_shared_length(self.input_ids(index), input_ids_T) for index in near]
        if shared and shared[0] == len(input_ids_T):
            return near[0]
        which = f"sequence {trace_id!r}" if trace_id else "a sequence"
        raise CacheError(
            f"{self.path}: {which} of {len(input_ids_T)} tokens must be a prefix of a captured one; "
            f"the nearest agrees for {max(shared, default=0)} tokens. Cuts that keep the lead, and "
            "any choice of sections, share one capture; other traces, another rendering, and cuts "
            "that drop earlier tokens (bridge, middle, tail) need their own: run `leadspan capture` "
            "with this run.yaml, or use the live teacher."
        )

    def head_on(self, device: torch.device | None = None) -> Head:
        """The teacher's head, which a cache of hidden states holds; moved to a device once."""
        if device not in self._heads:
            self._heads[device] = read_head(self.path, device)
        return self._heads[device]

    def check_fits(self, teacher: TeacherConfig, tokenizer: Any) -> None:
        """Check that the cache was made by this teacher with this vocabulary.

        Raises:
            CacheError: It was not; names both.
        """
        mine = self.identity
        if vocabulary_fingerprint(tokenizer, mine.vocab_size) != mine.vocabulary:
            raise CacheError(
                f"{self.path}: was captured with the tokenizer of {mine.tokenizer}, whose vocabulary "
                f"differs from that of {tokenizer.name_or_path} in its first {mine.vocab_size} ids. "
                "Capture with the same tokenizer."
            )
        weights = model_fingerprint(teacher.path, teacher.revision)
        if weights is not None and mine.weights is not None:
            same = weights == mine.weights
        else:
            same = teacher.path == mine.teacher and teacher.revision in (None, mine.revision)
        if not same:
            asked = teacher.path + (f" at {teacher.revision}" if teacher.revision else "")
            made = mine.teacher + (f" at {mine.revision}" if mine.revision else "")
            raise CacheError(
                f"{self.path}: was captured from teacher {made} (weights {mine.weights}), not from "
                f"{asked} (weights {weights}). Capture again, or set teacher.path to {mine.teacher}."
            )

    def _index(self, number: int, shard: Shard) -> None:
        first_token = first_row = 0
        lengths = shard.tensors["num_tokens"].tolist()
        for trace_id, length in zip(shard.trace_ids, lengths, strict=True):
            self._by_trace.setdefault(trace_id, []).append(len(self._places))
            self._places.append(_Place(number, first_token, first_row, length))
            first_token += length
            first_row += length - 1

    def _packed(self, query: Query) -> dict[str, Tensor]:
        place = self._places[self.find(query.input_ids_T, query.trace_id)]
        positions_N = torch.as_tensor(query.positions_N, dtype=torch.int64)
        limit = min(len(query.input_ids_T), place.num_tokens - 1)
        if len(positions_N) and not 0 <= int(positions_N.min()) <= int(positions_N.max()) < limit:
            raise CacheError(
                f"{self.path}: positions must be in [0, {limit}) for {len(query.input_ids_T)} asked "
                f"of {place.num_tokens} captured tokens; got up to {int(positions_N.max())}. Ask for "
                "the position before each label."
            )
        wanted_N = positions_N + place.first_row
        shard = self._shards[place.shard]
        return {name: tensor[wanted_N] for name, tensor in shard.rows.items()}

    @cached_property
    def _sorted(self) -> list[int]:
        """All sequences in the order of their tokens, so that a prefix is found by bisection."""

        def by_tokens(a: int, b: int) -> int:
            return _compare(self.input_ids(a), self.input_ids(b))

        return sorted(range(len(self)), key=cmp_to_key(by_tokens))


def _shared_length(a_T: NDArray[np.int32], b_T: NDArray[np.int32]) -> int:
    length = min(len(a_T), len(b_T))
    differing = np.flatnonzero(a_T[:length] != b_T[:length])
    return int(differing[0]) if len(differing) else length


def _compare(a_T: NDArray[np.int32], b_T: NDArray[np.int32]) -> int:
    """-1, 0 or 1 in lexicographic order."""
    shared = _shared_length(a_T, b_T)
    if shared < min(len(a_T), len(b_T)):
        return -1 if a_T[shared] < b_T[shared] else 1
    return (len(a_T) > len(b_T)) - (len(a_T) < len(b_T))


def load_cached_teacher(teacher: TeacherConfig, loss: LossConfig, tokenizer: Any) -> CachedTeacher:
    """Open `teacher.cache` and check that it serves this teacher, this vocabulary and this loss.

    Raises:
        CacheError: It is not complete, or belongs to another teacher or tokenizer.
        ConfigError: Its mode does not hold the distribution that the loss asks for.
    """
    assert teacher.cache is not None
    cache = TeacherCache(teacher.cache)
    cache.check_fits(teacher, tokenizer)
    made = cache.identity
    softened = loss.kd_temperature != 1.0 and loss.sparse_target == "tail"
    if made.mode == "topk" and made.k < made.vocab_size and softened:
        raise ConfigError(
            f"{cache.path}: loss.kd_temperature must be 1 with a top-k cache and its tail; got "
            f"{loss.kd_temperature:g}. Capture with --mode hidden, or set loss.sparse_target to "
            "renormalised."
        )
    return CachedTeacher(cache)


class CachedTeacher:
    """Rows of a `TeacherCache` for the scored tokens of a batch."""

    model_config: Any = None
    """No model is run."""

    def __init__(self, cache: TeacherCache) -> None:
        self.cache = cache

    def vocabulary(self) -> TeacherVocabulary:
        """The ids that were captured; capture left out the sequences that the teacher could not read."""
        size = self.cache.identity.vocab_size

        def reads(sequence: TokenSequence) -> bool:
            return bool(sequence.input_ids_T.max(initial=0) < size) or self.cache.holds(sequence)

        return TeacherVocabulary(
            size, reads, f"{self.cache.path} holds the first {size:,} token ids"
        )

    def prepare(self, batches: Sequence[Batch], keep: bool = False) -> None:
        """Nothing: rows are read when they are asked for."""

    def rows(self, batch: Batch) -> DenseTeacher | SparseTeacher:
        """The teacher's distributions for `batch.labels_N`, in that order, on the batch's device.

        Raises:
            CacheError: A sequence of the batch was not captured.
        """
        queries = [
            Query(
                example.sequence.input_ids_T,
                np.flatnonzero(example.supervised_T) - 1,
                example.sequence.trace_id,
            )
            for example in batch.examples
        ]
        return self.cache.rows_of(queries, batch.input_ids_BT.device)
