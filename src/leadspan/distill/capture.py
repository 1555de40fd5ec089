"""Run the teacher once over full-length sequences and write its distributions to a cache.

A killed capture goes on where its last whole shard ended; ranks under torchrun share the sequences
and one folder. Knows nothing about training.

Shape suffixes: B sequences side by side, T tokens, R rows (R = T - 1 a sequence).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from leadspan.distill.cache_format import (
    HEAD_FILE,
    IDENTITY_FILE,
    MANIFEST_FILE,
    CacheIdentity,
    CapturedSequence,
    Shard,
    content_key,
    identity_from,
    identity_json,
    read_shard,
    shard_paths,
    write_shard,
)
from leadspan.distill.parallel import Ranks
from leadspan.distill.teacher_cache import TeacherCache
from leadspan.errors import CacheError
from leadspan.progress import progress
from leadspan.records import Sequence
from leadspan.runs import lock_folder, read_json, write_json_atomic

DEFAULT_SHARD_MIB = 256
LEFTOVERS = ".*.tmp"


class CaptureBackend(Protocol):
    """Something that gives a teacher's packed rows."""

    identity: CacheIdentity

    def prepare(self, output: Path) -> None:
        """Write what the cache needs besides shards. Called once, on the first rank."""
        ...

    def capture(
        self, sequences: SequenceABC[tuple[str, NDArray[np.int32]]]
    ) -> Iterator[CapturedSequence]:
        """Yield the rows of each (trace id, tokens), as they are done, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What a capture did."""

    path: Path
    num_sequences: int
    num_tokens: int
    num_captured_now: int
    """Sequences that this call ran; the others were there already."""
    num_duplicates: int
    """Asked sequences whose tokens equal those of another."""
    num_bytes: int


def capture(
    sequences: Iterable[Sequence],
    backend: CaptureBackend,
    output: Path,
    ranks: Ranks,
    shard_mib: float = DEFAULT_SHARD_MIB,
) -> CaptureReport:
    """Capture every sequence that the folder does not hold yet, then declare the cache complete.

    Args:
        sequences: Full-length sequences, the same on every rank; a cut that drops earlier tokens is
            a sequence of its own.
        backend: The teacher.
        output: The cache folder; more sequences may be added to a complete one.
        ranks: This process among its peers, all writing to the same folder.
        shard_mib: Bound of a shard's size; a kill loses at most the shard in memory.

    Raises:
        CacheError: The folder belongs to another teacher, tokenizer or mode.
        RunError: Another process captures into the folder, or the disk is full.
    """
    if not ranks.is_first:
        return _capture(sequences, backend, output, ranks, shard_mib)
    with lock_folder(output):
        _claim(output, backend)
        return _capture(sequences, backend, output, ranks, shard_mib)


def _capture(
    sequences: Iterable[Sequence],
    backend: CaptureBackend,
    output: Path,
    ranks: Ranks,
    shard_mib: float,
) -> CaptureReport:
    ranks.barrier()
    held = {key for shard in _whole_shards(output) for key in shard.keys}
    asked: dict[bytes, tuple[str, NDArray[np.int32]]] = {}
    num_asked = 0
    for sequence in sequences:
        if len(sequence) > 1:
            num_asked += 1
            asked.setdefault(
                content_key(sequence.input_ids_T), (sequence.trace_id, sequence.input_ids_T)
            )
    todo = [asked[key] for key in sorted(asked.keys() - held)]
    # Longest first: neighbours are of like length, and memory runs out at once or never.
    todo.sort(key=lambda item: -len(item[1]))
    # Nobody may write before everybody has seen what is there.
    ranks.barrier()
    _write_all(backend, todo[ranks.rank :: ranks.size], output, shard_mib * 2**20, ranks)
    ranks.barrier()
    if ranks.is_first:
        finish(output, backend.identity)
    ranks.barrier()
    cache = TeacherCache(output)
    return CaptureReport(
        path=output,
        num_sequences=len(cache),
        num_tokens=cache.num_tokens,
        num_captured_now=len(todo),
        num_duplicates=num_asked - len(asked),
        num_bytes=sum(path.stat().st_size for path in shard_paths(output)),
    )


def finish(output: Path, identity: CacheIdentity) -> None:
    """Write the manifest over the shards that are there: from now on the cache is complete.

    Raises:
        CacheError: There is no shard.
    """
    shards = _whole_shards(output)
    if not shards:
        raise CacheError(f"{output}: nothing was captured. Give traces of at least two tokens.")
    manifest = {
        "identity": identity_json(identity),
        "shards": {shard.path.name: shard.checksum for shard in shards},
        "num_sequences": sum(len(shard.trace_ids) for shard in shards),
        "num_tokens": sum(int(shard.tensors["num_tokens"].sum()) for shard in shards),
    }
    write_json_atomic(output / MANIFEST_FILE, manifest)


def merge(sources: SequenceABC[Path], output: Path) -> CaptureReport:
    """Join caches of one identity, captured on several machines, into a new folder.

    Raises:
        CacheError: The sources differ in identity, or one of them is not complete.
    """
    caches = [TeacherCache(source) for source in sources]
    first = caches[0]
    for other in caches[1:]:
        _check_same(first.identity, other.identity, first.path, other.path)
    with lock_folder(output):
        if shard_paths(output):
            raise CacheError(f"{output}: must be empty or new. Merge into another folder.")
        held: set[bytes] = set()
        write_json_atomic(output / IDENTITY_FILE, identity_json(first.identity))
        for cache in caches:
            if (cache.path / HEAD_FILE).is_file():
                shutil.copyfile(cache.path / HEAD_FILE, output / HEAD_FILE)
            for shard in cache.shards:
                fresh = [i for i, key in enumerate(shard.keys) if key not in held]
                held.update(shard.keys)
                if fresh:
                    write_shard(output, list(_sequences_of(shard, fresh)))
        finish(output, first.identity)
    merged = TeacherCache(output)
    num_bytes = sum(path.stat().st_size for path in shard_paths(output))
    duplicates = sum(len(cache) for cache in caches) - len(merged)
    return CaptureReport(output, len(merged), merged.num_tokens, 0, duplicates, num_bytes)


def _sequences_of(shard: Shard, wanted: list[int]) -> Iterator[CapturedSequence]:
    lengths = shard.tensors["num_tokens"].numpy()
    tokens = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.concatenate([[0], np.cumsum(lengths - 1)])
    input_ids = shard.tensors["input_ids"].numpy()
    for i in wanted:
        yield CapturedSequence(
            shard.trace_ids[i],
            input_ids[tokens[i] : tokens[i + 1]],
            {name: tensor[rows[i] : rows[i + 1]] for name, tensor in shard.rows.items()},
        )


def _claim(output: Path, backend: CaptureBackend) -> None:
    for leftover in output.glob(LEFTOVERS):
        leftover.unlink()
    path = output / IDENTITY_FILE
    if path.is_file():
        _check_same(identity_from(read_json(path), output), backend.identity, output, None)
        return
    backend.prepare(output)
    write_json_atomic(path, identity_json(backend.identity))


def _check_same(held: CacheIdentity, asked: CacheIdentity, where: Path, other: Path | None) -> None:
    mine, theirs = identity_json(held), identity_json(asked)
    differing = [key for key in mine if mine[key] != theirs[key]]
    # A moved folder with the same weights and vocabulary is the same teacher.
    if held.weights is not None and held.weights == asked.weights:
        differing = [key for key in differing if key not in ("teacher", "revision")]
    if held.vocabulary == asked.vocabulary:
        differing = [key for key in differing if key != "tokenizer"]
    if differing:
        what = "; ".join(f"{key} is {mine[key]!r}, not {theirs[key]!r}" for key in differing)
        against = f" as in {other}" if other is not None else ""
        raise CacheError(
            f"{where}: belongs to another capture: {what}{against}. Give another folder."
        )


def _whole_shards(output: Path) -> list[Shard]:
    return [read_shard(path) for path in shard_paths(output)]


def _write_all(
    backend: CaptureBackend,
    todo: list[tuple[str, NDArray[np.int32]]],
    output: Path,
    shard_bytes: float,
    ranks: Ranks,
) -> None:
    waiting: list[CapturedSequence] = []
    size = 0
    total = sum(len(tokens) for _, tokens in todo)
    label = "capture" if ranks.size == 1 else f"capture (rank {ranks.rank})"
    with progress(label, total, "tokens") as advance:
        for captured in backend.capture(todo):
            added = 4 * len(captured.input_ids_T) + sum(
                tensor.numel() * tensor.element_size() for tensor in captured.rows.values()
            )
            if waiting and size + added > shard_bytes:
                write_shard(output, waiting)
                waiting, size = [], 0
            waiting.append(captured)
            size += added
            advance(len(captured.input_ids_T))
        if waiting:
            write_shard(output, waiting)
