"""Is a cache whole, and how far is it from the teacher it stands for?

Shape suffixes: R rows of a sequence, V vocabulary, K kept ids, C classes (K and the tail).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadspan.errors import CacheError
from leadspan.losses.divergences import LOG_OF_NOTHING
from leadspan.losses.fused import Projection
from leadspan.losses.heads import SparseTeacher, head_of
from leadspan.teachers.cache import TeacherCache
from leadspan.teachers.live import compute_teacher_hidden


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cached against live, in nats unless said; means over rows."""

    num_rows: int
    mean_kl: float
    """KL(live || cached) over the classes that the cache has; of all tokens in mode hidden."""
    max_kl: float
    max_logprob_error: float
    """Largest |difference| of a log-probability whose live value is above log(0.001)."""
    mass_kept: float
    """Teacher's probability on kept ids, in [0, 1]."""
    tail_spread: float
    """What the tail class hides: KL(live || cached with its tail spread evenly) beyond mean_kl."""


def verify(cache: TeacherCache) -> list[str]:
    """Read every byte; one line for each thing that is wrong."""
    problems = []
    for shard in cache.shards:
        listed = cache.manifest["shards"][shard.path.name]
        try:
            if listed != shard.checksum:
                raise CacheError(f"{shard.path}: is not the shard that the manifest lists.")
            shard.check()
        except CacheError as error:
            problems.append(str(error))
    if cache.manifest["num_sequences"] != len(cache):
        listed = cache.manifest["num_sequences"]
        problems.append(
            f"{cache.path}: {len(cache)} sequences are there, {listed} in the manifest."
        )
    return problems


@torch.no_grad()
def compare(
    cache: TeacherCache, model: Any, num_sequences: int, bf16: bool = False, seed: int = 0
) -> Comparison:
    """Run the live teacher over a sample of the captured sequences and compare the distributions."""
    device = next(model.parameters()).device
    chosen = np.random.default_rng(seed).permutation(len(cache))[:num_sequences]
    parts = []
    for index in chosen.tolist():
        tokens = np.array(cache.input_ids(index))
        hidden_BTH = compute_teacher_hidden(
            model, torch.from_numpy(tokens).long()[None].to(device), bf16
        )
        dtype = torch.bfloat16 if bf16 else hidden_BTH.dtype
        live = Projection(head_of(model), cache.identity.vocab_size, dtype)
        log_p_RV = live(hidden_BTH[0, :-1]).double().log_softmax(1)
        teacher = cache.rows(tokens, np.arange(len(tokens) - 1))
        if isinstance(teacher, SparseTeacher):
            parts.append(compare_rows(log_p_RV, teacher))
        else:
            hidden_RH = teacher.hidden_NH.to(device)
            cached = Projection(cache.head_on(device), cache.identity.vocab_size, dtype)
            parts.append(_compare_dense(log_p_RV, cached(hidden_RH).double().log_softmax(1)))
    kl, error, kept, spread = (torch.cat(column) for column in zip(*parts, strict=True))
    return Comparison(
        num_rows=len(kl),
        mean_kl=kl.mean().item(),
        max_kl=kl.max().item(),
        max_logprob_error=error.max().item(),
        mass_kept=kept.mean().item(),
        tail_spread=spread.mean().item(),
    )


def compare_rows(log_p_RV: Tensor, teacher: SparseTeacher) -> tuple[Tensor, ...]:
    """Cached rows against whole distributions, each result [R], as in `Comparison`.

    Returns:
        KL over the cached classes, largest log-probability error, mass kept, tail spread.
    """
    ids_RK = teacher.topk_ids_NK.to(log_p_RV.device)
    is_kept_RK = teacher.topk_logprobs_NK.to(log_p_RV.device) > -torch.inf
    live_RK = log_p_RV.gather(1, ids_RK)
    kept_R = (live_RK.exp() * is_kept_RK).sum(1)
    outside_RV = log_p_RV.scatter(1, ids_RK, -torch.inf)
    live_tail_R = outside_RV.logsumexp(1)
    live_RC = torch.cat([live_RK, live_tail_R[:, None]], 1)
    cached_RC = torch.cat([teacher.topk_logprobs_NK, teacher.tail_logprob_N[:, None]], 1)
    cached_RC = cached_RC.to(live_RC).clamp(min=LOG_OF_NOTHING)
    kl_R = _kl(live_RC, cached_RC)
    num_outside = log_p_RV.shape[1] - ids_RK.shape[1]
    even_R = live_tail_R - float(np.log(max(1, num_outside)))
    spread_R = _kl(outside_RV, even_R[:, None])
    return kl_R, _worst(live_RC, cached_RC), kept_R, spread_R


def _compare_dense(log_p_RV: Tensor, log_q_RV: Tensor) -> tuple[Tensor, ...]:
    ones_R = torch.ones_like(log_p_RV[:, 0])
    return _kl(log_p_RV, log_q_RV), _worst(log_p_RV, log_q_RV), ones_R, 0 * ones_R


def _kl(log_p_RC: Tensor, log_q_RC: Tensor) -> Tensor:
    log_p_RC, log_q_RC = log_p_RC.clamp(min=LOG_OF_NOTHING), log_q_RC.clamp(min=LOG_OF_NOTHING)
    return (log_p_RC.exp() * (log_p_RC - log_q_RC)).sum(1)


def _worst(live_RC: Tensor, cached_RC: Tensor) -> Tensor:
    matters_RC = live_RC > float(np.log(1e-3))
    return ((live_RC - cached_RC).abs() * matters_RC).nan_to_num(0).amax(1)
