"""Capture what a run.yaml needs: its traces, uncut where the cut keeps a lead, its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from leadspan.config import EndpointConfig, RunConfig, TeacherConfig, TruncationConfig
from leadspan.devices import explain_bf16, resolve_bf16, resolve_dtype
from leadspan.distill.cache_format import CacheMode, LogprobFormat
from leadspan.distill.capture import DEFAULT_SHARD_MIB, CaptureBackend, CaptureReport, capture
from leadspan.distill.capture_local import LocalBackend, build_identity
from leadspan.distill.capture_server import ServerBackend
from leadspan.distill.parallel import Ranks, join_ranks
from leadspan.distill.teacher_source import load_teacher
from leadspan.errors import ConfigError
from leadspan.models import load_tokenizer, real_vocab_size
from leadspan.progress import say
from leadspan.records import Sequence
from leadspan.runs import CAPTURE_DATE_FILE, with_date, write_json_atomic
from leadspan.traces.cut import Cut
from leadspan.traces.dataset import build_sequences


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How a capture is made."""

    mode: CacheMode = "topk"
    """topk keeps the likeliest ids and the tail's mass, sampled unbiased draws, hidden everything."""
    k: int = 64
    """Kept ids, or draws, a row; at most the vocabulary."""
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
    config = with_date(without_lead_cut(config), output)
    if config.teacher is None:
        raise ConfigError("capture: run.yaml must name a teacher. Set teacher.path.")
    if config.truncation.lsp_end is not None:
        raise ConfigError(
            "capture: truncation.lsp_end must be null where the cut keeps no lead: every step would be a "
            "capture of its own. Use a live teacher."
        )
    with join_ranks() as ranks:
        tokenizer = load_tokenizer(
            config.student.path, config.student.revision, config.render.chat_template
        )
        data = build_sequences(config, tokenizer)
        backend, reads = _build_backend(config, config.teacher, tokenizer, settings, ranks)
        asked = list(sequences_to_capture(config, [*data.train, *data.validation]))
        sequences = [sequence for sequence in asked if reads(sequence)]
        if ranks.is_first and len(sequences) < len(asked):
            unread = len(asked) - len(sequences)
            say(f"capture: {unread} sequences hold tokens that the teacher lacks and are left out.")
        if ranks.is_first:  # before the first shard, so that a resumed capture knows its day
            kept = {"render": {"date": str(config.render.date)}}
            write_json_atomic(output / CAPTURE_DATE_FILE, kept)
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
    k = min(k, shared.size) if mode == "topk" else k
    identity = build_identity(teacher, theirs, mode, k, logprobs, bf16, shared.size)
    backend = LocalBackend(
        model,
        identity,
        ranks.device,
        batch_tokens=config.training.micro_batch_tokens,
        bf16=bf16,
    )
    return backend, shared.reads
