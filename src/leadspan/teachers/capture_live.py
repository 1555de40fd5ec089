"""Capture from a teacher on this machine: hidden states, projected in chunks, reduced to rows.

Knows nothing about files beyond the head that a cache of hidden states needs.

Shape suffixes: B sequences side by side, T tokens, R rows, n rows of a chunk, V vocabulary, K kept
ids, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as SequenceABC
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leadspan.config import TeacherConfig
from leadspan.errors import ConfigError
from leadspan.identity import model_fingerprint, resolved_revision, vocabulary_fingerprint
from leadspan.losses.fused import Projection, rows_in_budget
from leadspan.losses.heads import Head, head_of
from leadspan.losses.kernels import exp_in_place
from leadspan.models import real_vocab_size
from leadspan.teachers.cache_format import (
    CacheIdentity,
    CacheMode,
    CapturedSequence,
    LogprobFormat,
    content_key,
    pack_rows,
    write_head,
)
from leadspan.teachers.live import compute_teacher_hidden

MAX_DRAWS = 255
"""Counts of the sampled mode are one byte."""


def build_identity(
    config: TeacherConfig,
    tokenizer: Any,
    mode: CacheMode,
    k: int,
    logprobs: LogprobFormat = "8bit",
    bf16: bool = False,
    vocab_size: int | None = None,
) -> CacheIdentity:
    """Describe the cache that a teacher would make over the first `vocab_size` ids (all by default).

    Raises:
        ConfigError: `k` does not fit the mode or the vocabulary.
    """
    vocab_size = vocab_size or real_vocab_size(tokenizer)
    limit = vocab_size if mode == "topk" else MAX_DRAWS
    if mode != "hidden" and not 1 <= k <= limit:
        raise ConfigError(f"capture: k must be in [1, {limit}] for mode {mode}; got {k}.")
    quantised = f" in {config.quantization}" if config.quantization else ""
    return CacheIdentity(
        teacher=config.path,
        revision=resolved_revision(config.path, config.revision),
        weights=model_fingerprint(config.path, config.revision),
        dtype=config.dtype + quantised + (" under bfloat16 autocast" if bf16 else ""),
        tokenizer=str(tokenizer.name_or_path),
        vocabulary=vocabulary_fingerprint(tokenizer, vocab_size),
        vocab_size=vocab_size,
        mode=mode,
        k=0 if mode == "hidden" else k,
        logprobs=logprobs,
    )


class LocalBackend:
    """A teacher model in memory.

    Args:
        model: A causal language model in evaluation mode.
        identity: Of the cache to be written.
        device: Where the model lies.
        batch_tokens: Padded tokens of a forward pass; a longer sequence goes alone.
        bf16: Compute in bfloat16 under autocast, as the training run does.
        seed: Of the draws in the sampled mode.
    """

    def __init__(
        self,
        model: Any,
        identity: CacheIdentity,
        device: torch.device,
        batch_tokens: int = 16384,
        bf16: bool = False,
        seed: int = 0,
    ) -> None:
        self.identity = identity
        self._model = model
        self._head: Head = head_of(model)
        self._device = device
        self._batch_tokens = batch_tokens
        self._bf16 = bf16
        self._seed = seed

    def prepare(self, output: Path) -> None:
        """Write the head where rows are hidden states."""
        if self.identity.mode == "hidden":
            write_head(output, self._head, self.identity.vocab_size)

    def capture(
        self, sequences: SequenceABC[tuple[str, NDArray[np.int32]]]
    ) -> Iterator[CapturedSequence]:
        """Yield sequences batch by batch; neighbours in `sequences` should be of like length."""
        batch: list[tuple[str, NDArray[np.int32]]] = []
        width = 0
        for item in sequences:
            width = max(width, len(item[1]))
            if batch and (len(batch) + 1) * width > self._batch_tokens:
                yield from self._capture_batch(batch)
                batch, width = [], len(item[1])
            batch.append(item)
        if batch:
            yield from self._capture_batch(batch)

    @torch.no_grad()
    def _capture_batch(
        self, batch: list[tuple[str, NDArray[np.int32]]]
    ) -> Iterator[CapturedSequence]:
        # Padding stands on the right, where causal attention never looks.
        input_ids_BT = torch.zeros(
            len(batch), max(len(tokens) for _, tokens in batch), dtype=torch.int64
        )
        for row, (_, tokens) in enumerate(batch):
            input_ids_BT[row, : len(tokens)] = torch.from_numpy(tokens)
        hidden_BTH = compute_teacher_hidden(self._model, input_ids_BT.to(self._device), self._bf16)
        for row, (trace_id, tokens) in enumerate(batch):
            hidden_RH = hidden_BTH[row, : len(tokens) - 1]
            yield CapturedSequence(trace_id, tokens, self._pack(hidden_RH, tokens))

    def _pack(self, hidden_RH: Tensor, tokens: NDArray[np.int32]) -> dict[str, Tensor]:
        if self.identity.mode == "hidden":
            return {"hidden": hidden_RH.bfloat16().cpu()}
        dtype = torch.bfloat16 if self._bf16 else hidden_RH.dtype
        project = Projection(self._head, self.identity.vocab_size, dtype)
        chunk = rows_in_budget(hidden_RH.device, self.identity.vocab_size, hidden_RH.dtype, 2)
        reduced = []
        for start in range(0, len(hidden_RH), chunk):
            logits_nV = project(hidden_RH[start : start + chunk])
            if self.identity.mode == "topk":
                reduced.append(reduce_to_topk(logits_nV, self.identity.k))
            else:
                reduced.append(
                    draw_from(logits_nV, self.identity.k, self._generator(tokens, start))
                )
        ids_RK, logprobs_RK, tail_R = (torch.cat(parts) for parts in zip(*reduced, strict=True))
        return pack_rows(self.identity, ids_RK, logprobs_RK, tail_R)

    def _generator(self, tokens: NDArray[np.int32], start: int) -> torch.Generator:
        """Seeded by the content, so that the order of capture and its restarts change nothing."""
        content = f"{self._seed} {start} ".encode() + content_key(tokens)
        mixed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
        return torch.Generator(self._device).manual_seed(mixed)


def reduce_to_topk(logits_nV: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids [n, K], log-probabilities [n, K] and the tail's log-mass [n]; overwrites the logits.

    The tail is summed by itself, from its own largest logit: a small one is neither lost in 1 - kept
    nor in exp.
    """
    top_nK, ids_nK = logits_nV.topk(k, dim=1)
    tail_max_n, tail_total_n = exp_in_place(logits_nV.scatter_(1, ids_nK, -torch.inf))
    tail_n = tail_max_n + tail_total_n.log()
    lse_n = torch.cat([top_nK, tail_n[:, None]], dim=1).logsumexp(1)
    return ids_nK, top_nK - lse_n[:, None], tail_n - lse_n


def draw_from(
    logits_nV: Tensor, num_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """`num_draws` tokens a row, as distinct ids with log(count / num_draws), -inf in empty slots.

    The cross-entropy against these shares is an unbiased estimate of that against the whole
    distribution, and so is its gradient (Anshumann et al. 2025, arXiv:2503.16870).
    """
    draws_nK = torch.multinomial(
        logits_nV.softmax(1), num_draws, replacement=True, generator=generator
    )
    ids_nK = draws_nK.sort(dim=1).values
    is_first_nK = torch.ones_like(ids_nK, dtype=torch.bool)
    is_first_nK[:, 1:] = ids_nK[:, 1:] != ids_nK[:, :-1]
    slot_nK = is_first_nK.cumsum(1) - 1
    counts_nK = torch.zeros_like(ids_nK, dtype=logits_nV.dtype)
    counts_nK.scatter_add_(1, slot_nK, torch.ones_like(counts_nK))
    distinct_nK = torch.zeros_like(ids_nK).scatter_(1, slot_nK, ids_nK)
    logprobs_nK = (counts_nK / num_draws).log()
    return distinct_nK, logprobs_nK, torch.full_like(logprobs_nK[:, 0], -torch.inf)
