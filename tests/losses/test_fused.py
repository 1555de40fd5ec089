"""The fused loss against the dense references: values, gradients, and every shape of head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from leadspan.config import LossConfig
from leadspan.losses import divergences
from leadspan.losses.fused import DenseTeacher, SparseTeacher, Teacher, fused_loss
from leadspan.losses.heads import Head

N, H, H_TEACHER, V = 7, 6, 9, 31
DIVERGENCES = list(divergences.DIVERGENCES)
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"logit_scale": 0.3},
    "soft cap": {"soft_cap": 2.0},
    "wider": {"extra_rows": 5},
    "all": {"bias": True, "logit_scale": 0.7, "soft_cap": 3.0, "extra_rows": 4},
}


def rows(dtype: torch.dtype = torch.float64, num_rows: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden_NH = torch.randn(num_rows, H, generator=generator, dtype=torch.float64).to(dtype)
    return hidden_NH.requires_grad_(), torch.randint(0, V, (num_rows,), generator=generator)


def make_head(
    width: int = H,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    bias: bool = False,
    extra_rows: int = 0,
    **options: Any,
) -> Head:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(V + extra_rows, width, generator=generator, dtype=torch.float64).to(dtype)
    shift = torch.randn(V + extra_rows, generator=generator, dtype=torch.float64).to(dtype)
    return Head(weight.requires_grad_(), shift.requires_grad_() if bias else None, **options)


def dense_teacher(dtype: torch.dtype = torch.float64, **options: Any) -> DenseTeacher:
    generator = torch.Generator().manual_seed(9)
    hidden = torch.randn(N, H_TEACHER, generator=generator, dtype=torch.float64).to(dtype)
    head = make_head(H_TEACHER, seed=8, dtype=dtype, extra_rows=2, **options)
    return DenseTeacher(hidden, replace(head, weight_VH=head.weight_VH.detach()))


def logits_of(hidden_NH: Tensor, head: Head) -> Tensor:
    """The head the ordinary way, by autograd."""
    logits = hidden_NH @ head.weight_VH.T + (0 if head.bias_V is None else head.bias_V)
    logits = logits * head.logit_scale
    if head.soft_cap is not None:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    return logits[:, :V]


def reference(
    hidden: Tensor, head: Head, labels: Tensor, teacher: Teacher, loss: LossConfig
) -> Any:
    student = logits_of(hidden, head)
    ce = divergences.cross_entropy(student, labels)
    if isinstance(teacher, DenseTeacher):
        kd = divergences.divergence(
            student, logits_of(teacher.hidden_NH, teacher.head).detach(), loss
        )
    else:
        kd = sparse_reference(student, teacher, loss)
    return ((1 - loss.kd_ratio) * ce + loss.kd_ratio * kd).sum(), ce, kd


def sparse_reference(student: Tensor, teacher: SparseTeacher, loss: LossConfig) -> Tensor:
    """Merge the classes by a loop, then use the dense reference on the merged distributions."""
    log_q = torch.log_softmax(student, -1)
    kept = [
        [int(i) for i, lp in zip(ids, lps, strict=True) if lp > -torch.inf]
        for ids, lps in zip(teacher.topk_ids_NK, teacher.topk_logprobs_NK, strict=True)
    ]
    values = []
    for row, ids in enumerate(kept):
        rest = [v for v in range(student.shape[1]) if v not in ids]
        q = [log_q[row, i] for i in ids]
        p = [lp for lp in teacher.topk_logprobs_NK[row] if lp > -torch.inf]
        if rest:
            q.append(torch.logsumexp(log_q[row, rest], 0))
            p.append(teacher.tail_logprob_N[row].clamp(min=-700))
        values.append(
            divergences.divergence(
                torch.stack(q)[None], torch.stack(p)[None].to(student.dtype), loss
            )
        )
    return torch.cat(values)


def topk_of(teacher: DenseTeacher, k: int) -> SparseTeacher:
    log_p = logits_of(teacher.hidden_NH, teacher.head).detach().log_softmax(-1)
    top = log_p.topk(k)
    rest = log_p.scatter(1, top.indices, -torch.inf).logsumexp(-1)
    return SparseTeacher(top.indices, top.values, rest)


def gradients(total: Tensor, hidden: Tensor, head: Head) -> list[Tensor]:
    inputs = [hidden, head.weight_VH, *([] if head.bias_V is None else [head.bias_V])]
    return list(torch.autograd.grad(total, inputs))


def compare(
    head: Head, teacher: Teacher, loss: LossConfig, chunk_rows: int | None = 3, rtol: float = 1e-10
) -> None:
    dtype = head.weight_VH.dtype
    hidden, labels = rows(dtype)
    got = fused_loss(hidden, head, labels, teacher, loss, V, chunk_rows)
    total, ce, kd = reference(hidden, head, labels, teacher, loss)
    assert kd.abs().min() > 1e-3
    torch.testing.assert_close(got.total, total, rtol=rtol, atol=rtol)
    torch.testing.assert_close(got.ce_N, ce.detach().float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.kd_N, kd.detach().float(), rtol=1e-5, atol=1e-5)
    assert not got.ce_N.requires_grad
    assert not got.kd_N.requires_grad
    # A factor that is not 1, as the normalisation by the count of tokens brings.
    found, expected = gradients(got.total / 5, hidden, head), gradients(total / 5, hidden, head)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_dense_equals_reference(divergence: Any, temperature: float) -> None:
    loss = LossConfig(divergence=divergence, beta=0.3, kd_ratio=0.6, kd_temperature=temperature)
    compare(make_head(), dense_teacher(), loss)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [1, 5, V])
def test_sparse_equals_reference(divergence: Any, k: int) -> None:
    loss = LossConfig(divergence=divergence, beta=0.3, kd_ratio=0.6)
    compare(make_head(extra_rows=3), topk_of(dense_teacher(), k), loss)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_ids_kept_equals_dense(divergence: Any, temperature: float) -> None:
    loss = LossConfig(divergence=divergence, beta=0.3, kd_ratio=0.6, kd_temperature=temperature)
    hidden, labels = rows()
    head, dense = make_head(), dense_teacher()
    one = fused_loss(hidden, head, labels, dense, loss, V, 3)
    other = fused_loss(hidden, head, labels, topk_of(dense, V), loss, V, 2)
    torch.testing.assert_close(one.total, other.total)
    torch.testing.assert_close(one.kd_N, other.kd_N)
    for a, b in zip(
        gradients(one.total, hidden, head), gradients(other.total, hidden, head), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("k", [None, 4])
def test_heads(head: str, k: int | None) -> None:
    teacher = dense_teacher(soft_cap=2.5, logit_scale=0.5)
    loss = LossConfig(kd_ratio=0.4)
    compare(make_head(**HEADS[head]), teacher if k is None else topk_of(teacher, k), loss)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [None, 4])
def test_float32_is_close_to_float64(divergence: Any, k: int | None) -> None:
    loss = LossConfig(divergence=divergence, kd_ratio=0.5)
    hidden, labels = rows()
    head = make_head()
    dense = dense_teacher()
    total = reference(hidden, head, labels, dense if k is None else topk_of(dense, k), loss)[0]
    expected = gradients(total, hidden, head)

    single = replace(head, weight_VH=head.weight_VH.detach().float().requires_grad_())
    narrow = DenseTeacher(
        dense.hidden_NH.float(), replace(dense.head, weight_VH=dense.head.weight_VH.float())
    )
    hidden = hidden.detach().float().requires_grad_()
    teacher = narrow if k is None else topk_of(narrow, k)
    got = fused_loss(hidden, single, labels, teacher, loss, V, 2)
    assert got.total.dtype == torch.float32
    assert got.total.item() == pytest.approx(total.item(), rel=1e-5)
    for ours, theirs in zip(gradients(got.total, hidden, single), expected, strict=True):
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_bf16_accumulates_in_float32() -> None:
    # 4,096 rows in chunks of 16: 256 additions, which bf16 buffers would lose at 1e-1.
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, H, generator=generator).bfloat16().requires_grad_()
    labels = torch.randint(0, V, (4096,), generator=generator)
    weight = make_head(dtype=torch.bfloat16).weight_VH
    head = Head(weight)
    got = fused_loss(hidden, head, labels, None, LossConfig(kd_ratio=0), V, 16)
    wide = replace(head, weight_VH=weight.detach().double().requires_grad_())
    exact = fused_loss(
        hidden.detach().double(), wide, labels, None, LossConfig(kd_ratio=0), V, 4096
    )
    (ours,) = torch.autograd.grad(got.total, [weight])
    (theirs,) = torch.autograd.grad(exact.total, [wide.weight_VH])
    assert ours.dtype == torch.bfloat16
    # bf16 logits and the last rounding each cost 2**-9.
    assert (ours.double() - theirs).norm() < 1e-2 * theirs.norm()


def test_autocast_computes_in_bf16_and_returns_float32_gradients() -> None:
    hidden, labels = rows(torch.float32)
    head, teacher = make_head(dtype=torch.float32), dense_teacher(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fused_loss(hidden, head, labels, teacher, LossConfig(), V)
    plain = fused_loss(hidden, head, labels, teacher, LossConfig(), V)
    assert got.total.dtype == torch.float32
    assert got.total.item() != plain.total.item()
    assert got.total.item() == pytest.approx(plain.total.item(), rel=2e-2)
    for a, b in zip(
        gradients(got.total, hidden, head), gradients(plain.total, hidden, head), strict=True
    ):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 2e-2 * b.norm()


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [None, 4])
def test_gradcheck(divergence: Any, k: int | None) -> None:
    hidden, labels = rows()
    head = make_head(bias=True, soft_cap=3.0)
    teacher = dense_teacher() if k is None else topk_of(dense_teacher(), k)
    loss = LossConfig(divergence=divergence, beta=0.3)

    def compute(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inner = replace(head, weight_VH=weight, bias_V=bias)
        return fused_loss(hidden, inner, labels, teacher, loss, V, 3).total

    assert torch.autograd.gradcheck(compute, (hidden, head.weight_VH, head.bias_V), fast_mode=False)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_chunked_equals_unchunked(divergence: Any) -> None:
    hidden, labels = rows()
    head, teacher = make_head(), dense_teacher()
    loss = LossConfig(divergence=divergence, kd_ratio=0.7)
    results = []
    for chunk_rows in (1, 3, N, 100, None):
        got = fused_loss(hidden, head, labels, teacher, loss, V, chunk_rows)
        results.append([got.total, *gradients(got.total, hidden, head)])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["none", "dense", "sparse"])
def test_no_rows_is_a_zero_in_the_graph(kind: str) -> None:
    hidden, labels = rows(num_rows=0)
    head = make_head(bias=True)
    dense = DenseTeacher(torch.zeros(0, H_TEACHER, dtype=torch.float64), dense_teacher().head)
    teacher = {"none": None, "dense": dense, "sparse": topk_of(dense, 4)}[kind]
    loss = LossConfig(kd_ratio=0.0 if teacher is None else 0.5)
    got = fused_loss(hidden, head, labels, teacher, loss, V)
    got.total.backward()
    assert got.total.item() == 0
    assert got.ce_N.shape == got.kd_N.shape == (0,)
    assert hidden.grad is not None
    assert hidden.grad.shape == (0, H)
    assert head.weight_VH.grad is not None
    assert head.weight_VH.grad.abs().max() == 0


def test_tied_head_sums_both_gradients() -> None:
    embedding = make_head().weight_VH
    ids = torch.tensor([1, 5, 5, 8, 30, 2, 0])
    labels = rows()[1]
    loss, teacher = LossConfig(), dense_teacher()
    got = fused_loss(embedding[ids].tanh(), Head(embedding), labels, teacher, loss, V, 2)
    (ours,) = torch.autograd.grad(got.total, [embedding])
    total = reference(embedding[ids].tanh(), Head(embedding), labels, teacher, loss)[0]
    (theirs,) = torch.autograd.grad(total, [embedding])
    torch.testing.assert_close(ours, theirs)


def test_frozen_head_gets_no_gradient_buffer() -> None:
    hidden, labels = rows()
    head = Head(make_head().weight_VH.detach())
    got = fused_loss(hidden, head, labels, dense_teacher(), LossConfig(), V, 3)
    assert got.total.grad_fn.gradients.weight_VH is None
    got.total.backward()
    assert head.weight_VH.grad is None
    total = reference(hidden, head, labels, dense_teacher(), LossConfig())[0]
    torch.testing.assert_close(hidden.grad, torch.autograd.grad(total, [hidden])[0])


def test_frozen_student_still_teaches_the_head() -> None:
    hidden, labels = rows()
    head = make_head()
    got = fused_loss(hidden.detach(), head, labels, dense_teacher(), LossConfig(), V, 3)
    total = reference(hidden, head, labels, dense_teacher(), LossConfig())[0]
    torch.testing.assert_close(
        torch.autograd.grad(got.total, [head.weight_VH])[0],
        torch.autograd.grad(total, [head.weight_VH])[0],
    )


def test_rows_past_the_vocabulary_change_nothing() -> None:
    hidden, labels = rows()
    head = make_head(extra_rows=5)
    narrow = Head(head.weight_VH[:V].detach())
    wide = fused_loss(hidden, head, labels, dense_teacher(), LossConfig(), V)
    torch.testing.assert_close(
        wide.total, fused_loss(hidden, narrow, labels, dense_teacher(), LossConfig(), V).total
    )
    wide.total.backward()
    assert head.weight_VH.grad is not None
    assert head.weight_VH.grad[V:].abs().max() == 0
    assert head.weight_VH.grad[:V].abs().max() > 0.01


def test_second_backward_repeats_the_first() -> None:
    hidden, labels = rows()
    head = make_head()
    total = fused_loss(hidden, head, labels, dense_teacher(), LossConfig(), V, 3).total
    inputs = [hidden, head.weight_VH]
    first = torch.autograd.grad(total, inputs, 2 * torch.ones_like(total), retain_graph=True)
    second = torch.autograd.grad(total, inputs, torch.ones_like(total))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, 2 * b)


def test_validation_computes_no_gradients() -> None:
    hidden, labels = rows()
    with torch.no_grad():
        got = fused_loss(hidden, make_head(), labels, dense_teacher(), LossConfig(), V)
    assert not got.total.requires_grad
    total = reference(hidden, make_head(), labels, dense_teacher(), LossConfig())[0]
    torch.testing.assert_close(got.total, total.detach())


def test_sparse_reports_the_mass_on_kept_ids() -> None:
    hidden, labels = rows()
    head, dense = make_head(), dense_teacher()
    teacher = topk_of(dense, 5)
    got = fused_loss(hidden, head, labels, teacher, LossConfig(), V, 3)
    kept = teacher.topk_logprobs_NK.exp().sum(-1).float()
    q = logits_of(hidden, head).detach().softmax(-1).gather(1, teacher.topk_ids_NK).sum(-1).float()
    assert 0.1 < kept.min() < kept.max() < 1
    torch.testing.assert_close(got.teacher_kept_N, kept)
    torch.testing.assert_close(got.student_kept_N, q)


def test_small_student_tail_is_exact_in_float32() -> None:
    # Tail mass 1e-9: computed as 1 - kept it would be 0 or noise.
    logits = torch.tensor([[10.0, 9.0, -11.0, -12.0]])
    head = Head(torch.eye(4))
    log_q = logits.double().log_softmax(-1)[0]
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    teacher = SparseTeacher(torch.tensor([[0, 1]]), p[None, :2].log(), p[2:].log())
    got = fused_loss(logits, head, torch.tensor([0]), teacher, LossConfig(kd_ratio=1), 4)
    q = torch.stack([log_q[0], log_q[1], log_q[2:].logsumexp(0)])
    assert got.kd_N.item() == pytest.approx((p * (p.log() - q)).sum().item(), rel=1e-6)


def test_unbelievable_requests_are_refused() -> None:
    hidden, labels = rows()
    head, dense = make_head(), dense_teacher()
    with pytest.raises(ValueError, match=r"must be \[N, H\]; got shape \(1, 7, 6\)"):
        fused_loss(hidden[None], head, labels, dense, LossConfig(), V)
    with pytest.raises(ValueError, match=r"labels_N: must be \[7\]"):
        fused_loss(hidden, head, labels[:-1], dense, LossConfig(), V)
    with pytest.raises(ValueError, match=r"teacher: must be given where loss\.kd_ratio > 0"):
        fused_loss(hidden, head, labels, None, LossConfig(), V)
    short = DenseTeacher(dense.hidden_NH[:-1], dense.head)
    with pytest.raises(ValueError, match="teacher: must have 7 rows; got 6"):
        fused_loss(hidden, head, labels, short, LossConfig(), V)
    with pytest.raises(ValueError, match=r"head: must have at least vocab_size = 40 rows; got 31"):
        fused_loss(hidden, head, labels, dense, LossConfig(), 40)
    softened = LossConfig(kd_temperature=2.0)
    with pytest.raises(ValueError, match="kd_temperature must be 1 with a top-k teacher"):
        fused_loss(hidden, head, labels, topk_of(dense, 4), softened, V)


def test_empty_entries_belong_to_the_tail() -> None:
    hidden, labels = rows()
    head, dense = make_head(), dense_teacher()
    full = topk_of(dense, 3)
    # Ids of empty entries may repeat, even a kept one.
    padded = SparseTeacher(
        torch.cat([full.topk_ids_NK, full.topk_ids_NK[:, :1], 0 * full.topk_ids_NK[:, :1]], 1),
        torch.cat([full.topk_logprobs_NK, torch.full((N, 2), -torch.inf)], 1),
        full.tail_logprob_N,
    )
    for divergence in ("forward_kl", "jsd", "reverse_kl"):
        loss = LossConfig(divergence=divergence)
        one = fused_loss(hidden, head, labels, full, loss, V, 3)
        two = fused_loss(hidden, head, labels, padded, loss, V, 3)
        torch.testing.assert_close(one.total, two.total)
        for a, b in zip(
            gradients(one.total, hidden, head), gradients(two.total, hidden, head), strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_renormalised_is_cross_entropy_against_the_kept_part(temperature: float) -> None:
    hidden, labels = rows()
    head, teacher = make_head(), topk_of(dense_teacher(), 4)
    loss = LossConfig(kd_ratio=1, sparse_target="renormalised", kd_temperature=temperature)
    got = fused_loss(hidden, head, labels, teacher, loss, V, 3)
    p = (teacher.topk_logprobs_NK / temperature).softmax(-1)
    log_q = (logits_of(hidden, head) / temperature).log_softmax(-1).gather(1, teacher.topk_ids_NK)
    expected = temperature**2 * (p * (p.log() - log_q)).sum()
    assert expected > 1
    torch.testing.assert_close(got.total, expected)
    for a, b in zip(
        gradients(got.total, hidden, head), gradients(expected, hidden, head), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_renormalised_targets_are_biased_as_said() -> None:
    hidden, labels = rows()
    head, dense = make_head(), dense_teacher()
    loss = LossConfig(kd_ratio=1)
    exact = gradients(fused_loss(hidden, head, labels, dense, loss, V).total, hidden, head)[0]
    renormalised = LossConfig(kd_ratio=1, sparse_target="renormalised")
    biased = gradients(
        fused_loss(hidden, head, labels, topk_of(dense, 3), renormalised, V).total, hidden, head
    )[0]
    assert (biased - exact).norm() > 0.1 * exact.norm()
