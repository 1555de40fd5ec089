"""Capture from a teacher on this machine: hidden states, projected in chunks, reduced to rows.

Knows nothing about files beyond the head that a cache of hidden states needs.

Shape suffixes: B sequences side by side, T tokens, R rows, n rows of a chunk, V vocabulary, K kept
ids, H hidden.
"""

from __future__ import annotations

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
    pack_rows,
    write_head,
)
from leadspan.teachers.live import compute_teacher_hidden


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
    if mode == "topk" and not 1 <= k <= vocab_size:
        raise ConfigError(f"capture: k must be in [1, {vocab_size}] for mode topk; got {k}.")
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
    """

    def __init__(
        self,
        model: Any,
        identity: CacheIdentity,
        device: torch.device,
        batch_tokens: int = 16384,
        bf16: bool = False,
    ) -> None:
        self.identity = identity
        self._model = model
        self._head: Head = head_of(model)
        self._device = device
        self._batch_tokens = batch_tokens
        self._bf16 = bf16

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
            yield CapturedSequence(trace_id, tokens, self._pack(hidden_RH))

    def _pack(self, hidden_RH: Tensor) -> dict[str, Tensor]:
        if self.identity.mode == "hidden":
            return {"hidden": hidden_RH.bfloat16().cpu()}
        dtype = torch.bfloat16 if self._bf16 else hidden_RH.dtype
        project = Projection(self._head, self.identity.vocab_size, dtype)
        chunk = rows_in_budget(hidden_RH.device, self.identity.vocab_size, hidden_RH.dtype, 2)
        reduced = []
        for start in range(0, len(hidden_RH), chunk):
            logits_nV = project(hidden_RH[start : start + chunk])
            reduced.append(reduce_to_topk(logits_nV, self.identity.k))
        ids_RK, logprobs_RK, tail_R = (torch.cat(parts) for parts in zip(*reduced, strict=True))
        return pack_rows(self.identity, ids_RK, logprobs_RK, tail_R)


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
