"""Capture what a run.yaml needs: its traces, uncut where the cut keeps a lead, its teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from leadspan.config import EndpointConfig, RunConfig, TeacherConfig, TruncationConfig
from leadspan.errors import CacheError, ConfigError
from leadspan.models import load_tokenizer, real_vocab_size
from leadspan.parallel import Ranks, join_ranks
from leadspan.pins import CAPTURE_KEPT_FILE, KEPT, settled
from leadspan.precision import explain_bf16, resolve_bf16, resolve_dtype
from leadspan.progress import progress, say
from leadspan.records import Sequence
from leadspan.runs import lock_folder, read_json, write_json_atomic
from leadspan.teachers.cache import TeacherCache
from leadspan.teachers.cache_format import (
    HEAD_FILE,
    IDENTITY_FILE,
    MANIFEST_FILE,
    CacheIdentity,
    CacheMode,
    CapturedSequence,
    LogprobFormat,
    Shard,
    content_key,
    identity_from,
    identity_json,
    read_shard,
    shard_paths,
    write_shard,
)
from leadspan.teachers.capture_live import LocalBackend, build_identity
from leadspan.teachers.capture_served import ServerBackend
from leadspan.teachers.live import load_teacher
from leadspan.traces.cut import Cut
from leadspan.traces.dataset import build_sequences

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


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How a capture is made."""

    mode: CacheMode = "topk"
    """topk keeps the likeliest ids and the tail's mass, hidden the exact distribution."""
    k: int = 64
    """Kept ids a row in mode topk; at most the vocabulary."""
    logprobs: LogprobFormat = "8bit"
    """How a log-probability is stored in mode topk."""
    backend: Literal["local", "endpoint", "vllm"] = "local"
    """The teacher here, or a server: `echo` with `logprobs`, or vLLM's `prompt_logprobs`."""
    endpoint: EndpointConfig | None = None
    """The server."""
    shard_mib: float = DEFAULT_SHARD_MIB
    """Bound of a shard's size; a kill loses at most the one in memory."""


def capture_run(config: RunConfig, output: Path, settings: CaptureSettings) -> CaptureReport:
    """Capture the sequences of a run, training and validation share alike.

    Raises:
        LeadspanError: Config, data, teacher or folder are not fit for it.
    """
    config = without_lead_cut(config)
    if config.teacher is None:
        raise ConfigError("capture: run.yaml must name a teacher. Set teacher.path.")
    if config.truncation.lsp_end is not None:
        raise ConfigError(
            "capture: truncation.lsp_end must be null where the cut keeps no lead: every step would be a "
            "capture of its own. Use a live teacher."
        )
    with join_ranks() as ranks:
        config = ranks.from_first(partial(settled, config, output))
        assert config.teacher is not None
        tokenizer = load_tokenizer(config.student, config.render)
        # What a cache serves is traces: rows that are prompts alone are refused here.
        data = build_sequences(config.model_copy(update={"rollout": None}), tokenizer)
        backend, reads = _build_backend(config, config.teacher, tokenizer, settings, ranks)
        asked = list(sequences_to_capture(config, [*data.train, *data.validation]))
        sequences = [sequence for sequence in asked if reads(sequence)]
        if ranks.is_first and len(sequences) < len(asked):
            unread = len(asked) - len(sequences)
            say(f"capture: {unread} sequences hold tokens that the teacher lacks and are left out.")
        if ranks.is_first:  # before the first shard, so that a resumed capture goes on with these
            kept = config.model_dump(mode="json", include=KEPT)
            write_json_atomic(output / CAPTURE_KEPT_FILE, kept)
        return capture(sequences, backend, output, ranks, settings.shard_mib)


def without_lead_cut(config: RunConfig) -> RunConfig:
    """The config whose capture serves this run: whole sequences serve every cut that keeps their start.

    Each trace's own cut is one of these, so its place need not be known here.
    """
    truncation = config.truncation
    if truncation.keep != "lead" or truncation.policy == "bridge":
        return config
    return config.model_copy(update={"truncation": TruncationConfig()})


def sequences_to_capture(config: RunConfig, uncut: list[Sequence]) -> Iterator[Sequence]:
    """Each sequence whole, or as it is cut where the cut gives tokens another left context."""
    cut = Cut(config.truncation)
    for sequence in uncut:
        kept = cut.apply(sequence)
        yield sequence if kept.is_prefix else kept


def _build_backend(
    config: RunConfig,
    teacher: TeacherConfig,
    tokenizer: Any,
    settings: CaptureSettings,
    ranks: Ranks,
) -> tuple[CaptureBackend, Callable[[Sequence], bool]]:
    """What captures, and which sequences it can be run on."""
    mode, k, logprobs = settings.mode, settings.k, settings.logprobs
    if settings.backend != "local":
        if settings.endpoint is None or mode != "topk":
            raise ConfigError(
                f"capture: backend {settings.backend} needs a server and mode topk; got mode {mode}. "
                "Give --base-url and --served-model."
            )
        k = min(k, real_vocab_size(tokenizer))
        identity = build_identity(teacher, tokenizer, mode, k, logprobs)
        return ServerBackend(settings.endpoint, identity, settings.backend), lambda sequence: True
    bf16 = resolve_bf16(config.training.bf16, ranks.device)
    if ranks.is_first and config.training.bf16 == "auto":
        say(f"capture: {explain_bf16('training.bf16', bf16, ranks.device)}")
    dtype = resolve_dtype(teacher.dtype, ranks.device)
    teacher = teacher.model_copy(update={"dtype": dtype})
    model, theirs, shared = load_teacher(teacher, tokenizer, config.student.path, str(ranks.device))
    k = min(k, shared.size)
    identity = build_identity(teacher, theirs, mode, k, logprobs, bf16, shared.size)
    backend = LocalBackend(
        model,
        identity,
        ranks.device,
        batch_tokens=config.training.micro_batch_tokens,
        bf16=bf16,
    )
    return backend, shared.reads
