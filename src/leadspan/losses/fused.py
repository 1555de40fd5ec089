"""(1 - kd_ratio) * CE + kd_ratio * KD from hidden states, without ever holding all the logits.

One autograd function: rows are projected chunk by chunk, and the gradients are computed in the
forward pass from the logits at hand, so that nothing of size [N, V] outlives its chunk. It takes
rows already selected after the label shift ([N, H]), and knows nothing about sequences or masks.

Shape suffixes: N scored rows, n rows of one chunk, H hidden, V vocabulary, K kept ids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from leadspan.config import LossConfig
from leadspan.losses import kernels
from leadspan.losses.divergences import LOG_OF_NOTHING
from leadspan.losses.heads import DenseTeacher, Head, SampledTeacher, SparseTeacher, Teacher

HALVES = (torch.bfloat16, torch.float16)


def _keeps_accumulator(a: Tensor) -> bool:
    return a.device.type == "cuda" and a.dtype in HALVES and torch.version.hip is None


def product_into(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Write a @ b into `out`, whose dtype is that of the factors or wider; return `out`."""
    if a.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    if _keeps_accumulator(a):
        return torch.mm(a, b, out_dtype=out.dtype, out=out)
    return out.copy_(torch.mm(a, b))


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total` in the dtype of `total`; the factors share one dtype."""
    if _keeps_accumulator(a) and total.dtype != a.dtype:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))


CHUNK_BYTES = {"cpu": 256 * 2**20, "cuda": 1024 * 2**20}


class Projection:
    """Hidden states to logits over the vocabulary; products in `dtype`, logits float32 or wider.

    A token that the head masks by a bias of -inf gets the logit `LOG_OF_NOTHING` and no gradient: its
    probability is 0, and nothing here multiplies 0 by infinity.

    Args:
        head: Any head at least `vocab_size` wide; its later rows are left out.
        vocab_size: Width of the logits.
        dtype: Of the matrix product.
    """

    def __init__(self, head: Head, vocab_size: int, dtype: torch.dtype) -> None:
        self.weight_VH: Tensor = head.weight_VH.detach()[:vocab_size].to(dtype)
        self._bias_V = None if head.bias_V is None else head.bias_V.detach()[:vocab_size]
        self._masked = _masked_columns(self._bias_V)
        self._scale, self._cap = head.logit_scale, head.soft_cap
        self._dtype = dtype
        self._buffer_nV: Tensor | None = None

    def __call__(self, hidden_nH: Tensor) -> Tensor:
        """Logits [n, V], for the caller to overwrite; the next call writes into the same memory."""
        logits_nV = self._room_for(len(hidden_nH), hidden_nH.device)
        product_into(logits_nV, hidden_nH.to(self._dtype), self.weight_VH.t())
        if self._bias_V is not None:
            logits_nV += self._bias_V
        if self._scale != 1.0:
            logits_nV *= self._scale
        if self._masked is not None:
            logits_nV[:, self._masked] = LOG_OF_NOTHING
        if self._cap is not None:
            logits_nV.div_(self._cap).tanh_().mul_(self._cap)
        return logits_nV

    def _room_for(self, num_rows: int, device: torch.device) -> Tensor:
        # Fresh memory costs a page fault every 4 KiB on a CPU, more than an elementwise pass.
        if self._buffer_nV is None or len(self._buffer_nV) < num_rows:
            wide = torch.promote_types(self._dtype, torch.float32)
            width = len(self.weight_VH)
            self._buffer_nV = torch.empty(num_rows, width, dtype=wide, device=device)
        return self._buffer_nV[:num_rows]

    def cap_slope(self, logits_nV: Tensor) -> Tensor | None:
        """Derivative of the soft cap, read off its output: 1 - (logit / cap) ** 2."""
        if self._cap is None:
            return None
        return (logits_nV / self._cap).square_().neg_().add_(1)

    def to_raw(self, grad_nV: Tensor, slope_nV: Tensor | None) -> Tensor:
        """Turn a gradient by the logits into one by the bare product (before bias), in place."""
        if slope_nV is not None:
            grad_nV *= slope_nV
        if self._scale != 1.0:
            grad_nV *= self._scale
        if self._masked is not None:
            grad_nV[:, self._masked] = 0
        return grad_nV


def _masked_columns(bias_V: Tensor | None) -> Tensor | None:
    """Indices of the tokens that a head can never say; None where there are none."""
    if bias_V is None:
        return None
    masked = torch.isneginf(bias_V).nonzero().squeeze(1)
    return masked if len(masked) else None


def rows_in_budget(
    device: torch.device, vocab_size: int, dtype: torch.dtype, num_buffers: int
) -> int:
    """Rows of a chunk of which `num_buffers` logits of `dtype`, or float32, fit the budget."""
    itemsize = torch.promote_types(dtype, torch.float32).itemsize
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    return max(1, budget // (vocab_size * itemsize * num_buffers))


BLOCK_BYTES = {"cpu": 2560 * 2**10, "cuda": 160 * 2**20}
"""Logits whose loss is formed together: on a CPU so few that they stay in its cache, on a GPU enough to
fill it, while temporaries stay small."""

__all__ = [
    "DenseTeacher",
    "FusedLoss",
    "SampledTeacher",
    "SparseTeacher",
    "Teacher",
    "fused_loss",
]


@dataclass(frozen=True, slots=True)
class FusedLoss:
    """The loss of a set of rows. Only `total` carries gradient."""

    total: Tensor
    """Shape [], the sum over rows; float32 (float64 for float64 rows)."""
    ce_N: Tensor
    """Cross-entropy of each row, in nats, float32."""
    kd_N: Tensor
    """Divergence of each row times kd_temperature**2, float32; zeros where kd_ratio is 0. With a sampled
    teacher an estimate, which may be negative."""
    teacher_kept_N: Tensor | None = None
    """Sparse teacher only: its mass on the kept ids."""
    student_kept_N: Tensor | None = None
    """Sparse teacher only: the student's mass on the kept ids."""


def fused_loss(
    student_hidden_NH: Tensor,
    head: Head,
    labels_N: Tensor,
    teacher: Teacher | None,
    loss: LossConfig,
    vocab_size: int,
    chunk_rows: int | None = None,
) -> FusedLoss:
    """Sum over rows of (1 - kd_ratio) * CE + kd_ratio * KD.

    Gradients reach the hidden states and, where they require it, the head's weight and bias; they
    are accumulated in float32. Under autocast the products run in the autocast dtype.

    Args:
        student_hidden_NH: Final hidden states of the scored rows, after the label shift.
        head: The student's head, `vocab_size` rows or more; rows past it are left out.
        labels_N: Integer ids in [0, vocab_size).
        teacher: Dense, sparse or sampled, N rows; None needs `loss.kd_ratio` 0, which ignores any teacher.
        loss: The mix, the divergence, its parameter and temperature.
        vocab_size: Number of tokens that both models share.
        chunk_rows: Rows projected at a time; chosen from a memory budget by default.

    Returns:
        The sum, a graph-safe zero for N = 0, and the per-row terms.

    Raises:
        ValueError: Shapes do not fit, the teacher is missing, or a sparse teacher cannot give the
            distribution asked for.
    """
    teacher = teacher if loss.kd_ratio > 0 else None
    _check(student_hidden_NH, head, labels_N, teacher, loss, vocab_size)
    if isinstance(teacher, SparseTeacher):
        teacher = _prepare_sparse(teacher, loss, vocab_size, student_hidden_NH)
    elif isinstance(teacher, SampledTeacher):
        teacher = _prepare_sampled(teacher, loss, student_hidden_NH)
    dtype = _compute_dtype(student_hidden_NH)
    buffers = 2 if isinstance(teacher, DenseTeacher) else 1
    job = _Job(
        labels_N=labels_N.long(),
        head=head,
        teacher=teacher,
        loss=loss,
        vocab_size=vocab_size,
        chunk_rows=chunk_rows or _even_chunks(student_hidden_NH, vocab_size, dtype, buffers),
        dtype=dtype,
        want_gradients=torch.is_grad_enabled(),
    )
    outputs = _FusedLoss.apply(student_hidden_NH, head.weight_VH, head.bias_V, job)  # type: ignore[no-untyped-call]
    total, ce_N, kd_N, kept_N = outputs
    if not isinstance(teacher, SparseTeacher):
        return FusedLoss(total, ce_N, kd_N)
    return FusedLoss(total, ce_N, kd_N, -torch.expm1(teacher.tail_logprob_N.float()), kept_N)


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything about a call that takes no gradient."""

    labels_N: Tensor
    head: Head
    teacher: Teacher | None
    loss: LossConfig
    vocab_size: int
    chunk_rows: int
    dtype: torch.dtype
    want_gradients: bool


@dataclass(slots=True)
class _Gradients:
    hidden_NH: Tensor | None
    weight_VH: Tensor | None
    bias_V: Tensor | None


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, job: _Job
    ) -> tuple[Tensor, ...]:
        wanted = tuple(need and job.want_gradients for need in ctx.needs_input_grad[:3])
        terms, ctx.gradients = _run(hidden_NH, weight_VH, bias_V, job, wanted)
        ctx.job, ctx.wanted = job, wanted
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V)
        ratio = job.loss.kd_ratio
        total = (1 - ratio) * terms[0].sum() + ratio * terms[1].sum()
        rows = tuple(term_N.float() for term_N in terms)
        ctx.mark_non_differentiable(*rows)
        return (total, *rows)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients: _Gradients | None = ctx.gradients
        # The buffers are handed over, scaled in place; a second backward computes them again.
        ctx.gradients = None
        if gradients is None:
            hidden_NH, weight_VH, bias_V = ctx.saved_tensors
            _, gradients = _run(hidden_NH, weight_VH, bias_V, ctx.job, ctx.wanted)
        scaled = [
            None if buffer is None else buffer.mul_(grad_total.to(buffer.dtype)).to(tensor.dtype)
            for buffer, tensor in zip(
                (gradients.hidden_NH, gradients.weight_VH, gradients.bias_V),
                ctx.saved_tensors,
                strict=True,
            )
        ]
        return (*scaled, None)


def _run(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    job: _Job,
    wanted: tuple[bool, ...],
) -> tuple[tuple[Tensor, Tensor, Tensor], _Gradients]:
    """All chunks: the per-row terms and the wanted gradients of their sum."""
    wide = torch.promote_types(job.dtype, torch.float32)
    num_rows, rows = hidden_NH.shape[0], job.chunk_rows
    with torch.no_grad(), torch.autocast(hidden_NH.device.type, enabled=False):
        student = Projection(
            replace(job.head, weight_VH=weight_VH, bias_V=bias_V), job.vocab_size, job.dtype
        )
        teacher = _teacher_projection(job)
        gradients = _Gradients(
            *(
                torch.zeros_like(tensor, dtype=wide) if want and tensor is not None else None
                for want, tensor in zip(wanted, (hidden_NH, weight_VH, bias_V), strict=True)
            )
        )
        terms = tuple(hidden_NH.new_zeros(num_rows, dtype=wide) for _ in range(3))
        for start in range(0, num_rows, rows):
            chunk = slice(start, min(start + rows, num_rows))
            hidden_nH = hidden_NH[chunk].to(job.dtype)
            logits_nV = student(hidden_nH)
            slope_nV = student.cap_slope(logits_nV) if any(wanted) else None
            _chunk_terms(logits_nV, teacher, chunk, job, terms)
            if any(wanted):
                grad_nV = student.to_raw(logits_nV, slope_nV)
                _accumulate(gradients, chunk, grad_nV, hidden_nH, student.weight_VH)
    return terms, gradients  # type: ignore[return-value]


def _chunk_terms(
    logits_nV: Tensor,
    teacher: Projection | None,
    chunk: slice,
    job: _Job,
    terms: tuple[Tensor, ...],
) -> None:
    """Write the rows' terms; the logits become their gradient, block by block."""
    ce_N, kd_N, kept_N = terms
    num_rows = logits_nV.shape[0]
    teacher_nV = None
    if teacher is not None:
        assert isinstance(job.teacher, DenseTeacher)
        teacher_nV = teacher(job.teacher.hidden_NH[chunk])
    block_bytes = BLOCK_BYTES.get(logits_nV.device.type, BLOCK_BYTES["cpu"])
    step = max(1, block_bytes // logits_nV[0].nbytes)
    for low in range(0, num_rows, step):
        block_nV = logits_nV[low : low + step]
        rows = slice(chunk.start + low, chunk.start + low + block_nV.shape[0])
        labels_n = job.labels_N[rows]
        if teacher_nV is not None:
            ce_N[rows], kd_N[rows] = kernels.dense_block(
                block_nV, teacher_nV[low : low + step], labels_n, job.loss
            )
        elif isinstance(job.teacher, SparseTeacher):
            sparse = job.teacher
            ce_N[rows], kd_N[rows], kept_N[rows] = kernels.sparse_block(
                block_nV,
                sparse.topk_ids_NK[rows],
                sparse.topk_logprobs_NK[rows],
                sparse.tail_logprob_N[rows],
                labels_n,
                job.loss,
            )
        elif isinstance(job.teacher, SampledTeacher):
            ce_N[rows], kd_N[rows] = kernels.sampled_block(
                block_nV, job.teacher.logprob_N[rows], labels_n, job.loss
            )
        else:
            ce_N[rows] = kernels.cross_entropy_block(block_nV, labels_n)


def _accumulate(
    gradients: _Gradients, chunk: slice, grad_nV: Tensor, hidden_nH: Tensor, weight_VH: Tensor
) -> None:
    """Add a chunk's share; the products run in the compute dtype, the sums stay wide."""
    width = grad_nV.shape[1]
    if gradients.bias_V is not None:
        gradients.bias_V[:width] += grad_nV.sum(0)
    # A CPU has no product of halves with a wide sum, so there the head's gradient is formed wide.
    narrow_nV = grad_nV.to(weight_VH.dtype)
    if gradients.hidden_NH is not None:
        product_into(gradients.hidden_NH[chunk], narrow_nV, weight_VH)
    if gradients.weight_VH is not None:
        factor_nV = narrow_nV if grad_nV.device.type == "cuda" else grad_nV
        add_product(gradients.weight_VH[:width], factor_nV.t(), hidden_nH)


def _teacher_projection(job: _Job) -> Projection | None:
    if not isinstance(job.teacher, DenseTeacher):
        return None
    return Projection(job.teacher.head, job.vocab_size, job.dtype)


def _compute_dtype(hidden_NH: Tensor) -> torch.dtype:
    device = hidden_NH.device.type
    if torch.is_autocast_enabled(device) and hidden_NH.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden_NH.dtype


def _even_chunks(hidden_NH: Tensor, vocab_size: int, dtype: torch.dtype, num_buffers: int) -> int:
    """Rows of a chunk within the budget, all chunks of about one size."""
    most = rows_in_budget(hidden_NH.device, vocab_size, dtype, num_buffers)
    num_chunks = max(1, math.ceil(len(hidden_NH) / most))
    return max(1, math.ceil(len(hidden_NH) / num_chunks))


def _prepare_sparse(
    teacher: SparseTeacher, loss: LossConfig, vocab_size: int, hidden_NH: Tensor
) -> SparseTeacher:
    """The kept distribution at the temperature and in the form that the loss asks for."""
    everything = teacher.topk_ids_NK.shape[1] >= vocab_size
    if loss.sparse_target == "renormalised" or (everything and loss.kd_temperature != 1.0):
        teacher = teacher.renormalised(loss.kd_temperature)
    elif loss.kd_temperature != 1.0:
        raise ValueError(
            f"loss.kd_temperature must be 1 with a top-k teacher and its tail; got "
            f"{loss.kd_temperature!r}. The softened tail is unknown: use a hidden-state cache, a "
            "live teacher, or sparse_target renormalised."
        )
    wide = torch.promote_types(hidden_NH.dtype, torch.float32)
    device = hidden_NH.device
    return SparseTeacher(
        teacher.topk_ids_NK.to(device, torch.int64),
        teacher.topk_logprobs_NK.detach().to(device, wide),
        teacher.tail_logprob_N.detach().to(device, wide),
    )


def _prepare_sampled(
    teacher: SampledTeacher, loss: LossConfig, hidden_NH: Tensor
) -> SampledTeacher:
    if loss.divergence != "reverse_kl" or loss.kd_temperature != 1.0:
        raise ValueError(
            "loss.divergence must be reverse_kl at kd_temperature 1 where the teacher knows the sampled "
            f"tokens alone; got {loss.divergence!r} at {loss.kd_temperature!r}. Ask it for its likeliest "
            "ids too."
        )
    wide = torch.promote_types(hidden_NH.dtype, torch.float32)
    return SampledTeacher(teacher.logprob_N.detach().to(hidden_NH.device, wide))


def _check(
    hidden_NH: Tensor,
    head: Head,
    labels_N: Tensor,
    teacher: Teacher | None,
    loss: LossConfig,
    vocab_size: int,
) -> None:
    if hidden_NH.dim() != 2:
        raise ValueError(
            f"student_hidden_NH: must be [N, H]; got shape {tuple(hidden_NH.shape)}. "
            "Select the scored rows after the label shift."
        )
    num_rows = hidden_NH.shape[0]
    if labels_N.shape != (num_rows,):
        raise ValueError(f"labels_N: must be [{num_rows}]; got shape {tuple(labels_N.shape)}.")
    if loss.kd_ratio > 0 and teacher is None:
        raise ValueError("teacher: must be given where loss.kd_ratio > 0; got None.")
    if teacher is not None and len(teacher) != num_rows:
        raise ValueError(f"teacher: must have {num_rows} rows; got {len(teacher)}.")
    heads = {"head": head}
    if isinstance(teacher, DenseTeacher):
        heads["teacher.head"] = teacher.head
    for name, each in heads.items():
        if each.num_rows < vocab_size:
            raise ValueError(
                f"{name}: must have at least vocab_size = {vocab_size} rows; got {each.num_rows}."
            )
