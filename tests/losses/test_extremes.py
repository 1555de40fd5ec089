"""Losses where probabilities underflow or are 0: references and fused loss against loops in float64.

The loops work on lists of logits with `math` alone; gradients are central differences of their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from leadspan.config import LossConfig
from leadspan.losses import divergences
from leadspan.losses.fused import DenseTeacher, SparseTeacher, Teacher, fused_loss
from leadspan.losses.heads import Head
from leadspan.teachers.capture_live import reduce_to_topk

V = 6
INF = math.inf
BETA = 0.3


def log_softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    scaled = [logit / temperature for logit in logits]
    top = max(scaled)
    lse = top + math.log(math.fsum(math.exp(x - top) for x in scaled))
    return [x - lse for x in scaled]


def log_sum(logs: Sequence[float]) -> float:
    top = max(logs, default=-INF)
    return -INF if top == -INF else top + math.log(math.fsum(math.exp(x - top) for x in logs))


def kl(log_a: Sequence[float], log_b: Sequence[float]) -> float:
    pairs = zip(log_a, log_b, strict=True)
    return math.fsum(math.exp(a) * (a - b) for a, b in pairs if math.exp(a) > 0)


def mix(log_a: Sequence[float], log_b: Sequence[float], share: float) -> list[float]:
    shares = math.log(share), math.log(1 - share)
    return [log_sum([a + shares[0], b + shares[1]]) for a, b in zip(log_a, log_b, strict=True)]


def oracle(name: str, p: Sequence[float], q: Sequence[float]) -> float:
    """Divergence of two lists of log-probabilities."""
    if name == "forward_kl":
        return kl(p, q)
    if name == "reverse_kl":
        return kl(q, p)
    if name == "entropy_gated_kl":
        entropy = -math.fsum(math.exp(a) * a for a in p if math.exp(a) > 0)
        return kl(p, q) if entropy > LossConfig().entropy_threshold else kl(q, p)
    if name == "mixed_kl":
        return BETA * kl(p, q) + (1 - BETA) * kl(q, p)
    if name == "total_variation":
        return math.fsum(abs(math.exp(a) - math.exp(b)) for a, b in zip(p, q, strict=True)) / 2
    if name == "jsd":
        return BETA * kl(p, mix(p, q, BETA)) + (1 - BETA) * kl(q, mix(p, q, BETA))
    if name == "skew_kl":
        return kl(p, mix(p, q, BETA))
    assert name == "reverse_skew_kl"
    return kl(q, mix(q, p, BETA))


def total_of(
    loss: LossConfig, label: int, student: Sequence[float], teacher: Any
) -> tuple[float, float]:
    """The whole loss and its divergence for one row; `teacher` is logits, or (ids, log p, log tail)."""
    temperature = loss.kd_temperature
    q = log_softmax(student, temperature)
    if isinstance(teacher, tuple):
        ids, p, tail = teacher
        rest = [q[i] for i in range(len(q)) if i not in ids]
        if loss.sparse_target == "renormalised":
            p, tail = log_softmax(p, temperature), -INF
        divergence = oracle(loss.divergence, [*p, tail], [*(q[i] for i in ids), log_sum(rest)])
    else:
        divergence = oracle(loss.divergence, log_softmax(teacher, temperature), q)
    divergence *= temperature**2
    ce = -log_softmax(student)[label]
    return (1 - loss.kd_ratio) * ce + loss.kd_ratio * divergence, divergence


def slope(loss: LossConfig, label: int, student: list[float], teacher: Any, place: int) -> float:
    step = 1e-5
    ends = []
    for sign in (1, -1):
        moved = list(student)
        moved[place] += sign * step
        ends.append(total_of(loss, label, moved, teacher)[0])
    return (ends[0] - ends[1]) / (2 * step)


def fused(
    student: list[float], teacher: Any, label: int, loss: LossConfig, dtype: torch.dtype
) -> tuple[float, list[float]]:
    """Divergence and the gradient by the finite logits, as a head's bias and as hidden states."""

    def split(logits: list[float]) -> tuple[torch.Tensor, Head]:
        hidden = [0.0 if x == -INF else x for x in logits]
        bias = torch.tensor([-INF if x == -INF else 0.0 for x in logits], dtype=dtype)
        return torch.tensor([hidden], dtype=dtype), Head(torch.eye(V, dtype=dtype), bias)

    given: Teacher
    if isinstance(teacher, tuple):
        ids, p, tail = teacher
        wide = torch.float64
        given = SparseTeacher(
            torch.tensor([ids]), torch.tensor([p], dtype=wide), torch.tensor([tail], dtype=wide)
        )
    else:
        given = DenseTeacher(*split(teacher))
    hidden, head = split(student)
    hidden.requires_grad_()
    assert head.bias_V is not None
    head.bias_V.requires_grad_()
    got = fused_loss(hidden, head, torch.tensor([label]), given, loss, V)
    got.total.backward()
    assert hidden.grad is not None
    assert head.bias_V.grad is not None
    assert torch.equal(head.bias_V.grad, hidden.grad[0])
    return got.kd_N.item(), hidden.grad[0].tolist()


DENSE = {
    "underflow": ([0.0, -118.0, 3.0, -300.0, 1.0, -2.0], [0.0, 2.0, -150.0, 1.0, -90.0, -1.0]),
    "far apart": ([900.0, 0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 900.0, 1.0, 2.0, 3.0, 4.0]),
    "both masked": ([0.0, -INF, 3.0, 1.0, 2.0, -1.0], [1.0, -INF, 0.5, 2.0, 0.0, 3.0]),
    "teacher masked": ([0.0, 1.0, 3.0, 1.0, 2.0, -1.0], [1.0, -INF, 0.5, -INF, 0.0, 3.0]),
    "student masked": ([0.0, -INF, 3.0, 1.0, 2.0, -INF], [1.0, 0.0, 0.5, 2.0, 0.0, -1.0]),
    "each masks one": ([0.0, -INF, 3.0, 1.0, 2.0, -1.0], [1.0, 0.5, -INF, 2.0, 0.0, 3.0]),
    "equal": ([0.0, -INF, 3.0, 1.0, 2.0, -1.0], [0.0, -INF, 3.0, 1.0, 2.0, -1.0]),
}
LOW = [0.0, 1.0, -118.5, 2.0, -121.0, 0.5]
SPARSE = {
    "kept id underflows": (LOW, ([2, 0], [math.log(0.9), math.log(0.05)], math.log(0.05))),
    "all kept underflow": (LOW, ([2, 4], [math.log(0.6), math.log(0.3)], math.log(0.1))),
    "tail underflows": (
        [0.0, 1.0, -130.0, 2.0, -121.0, -119.0],
        ([0, 1, 3], [math.log(0.2)] * 3, math.log(0.4)),
    ),
    "no tail at the teacher": (
        LOW,
        ([2, 0, 1], [math.log(0.5), math.log(0.3), math.log(0.2)], -INF),
    ),
    "tail is everything": (LOW, ([2, 0], [-200.0, -250.0], 0.0)),
    "all ids kept": (LOW, (list(range(V)), log_softmax([1.0, 2.0, 0.0, 3.0, -1.0, 0.0]), -INF)),
    "student masks the tail": (
        [0.0, 1.0, -INF, 2.0, -INF, -INF],
        ([0, 1, 3], [math.log(0.2), math.log(0.5), math.log(0.3)], -INF),
    ),
    "kept id masked by the student": (
        [0.0, 1.0, -INF, 2.0, 0.5, 0.2],
        ([2, 0], [math.log(0.01), math.log(0.5)], math.log(0.49)),
    ),
}


def compare(case: tuple[list[float], Any], loss: LossConfig, dtype: torch.dtype) -> None:
    student, teacher = case
    divergence = total_of(loss, 3, student, teacher)[1]
    value, gradient = fused(student, teacher, 3, loss, dtype)
    finite = math.isfinite(divergence)
    if finite:
        assert value == pytest.approx(divergence, rel=2e-6, abs=1e-6)
    else:  # the stated stand-in for an infinite divergence
        assert 1 < value < 1e6
    assert value >= 0
    assert all(map(math.isfinite, gradient))
    for place, logit in enumerate(student):
        if logit == -INF:
            assert gradient[place] == 0
        elif finite:
            expected = slope(loss, 3, student, teacher, place)
            assert gradient[place] == pytest.approx(expected, rel=1e-4, abs=2e-5), place


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", DENSE)
@pytest.mark.parametrize("name", divergences.DIVERGENCES)
def test_dense(name: Any, case: str, temperature: float, dtype: torch.dtype) -> None:
    loss = LossConfig(divergence=name, beta=BETA, kd_ratio=0.6, kd_temperature=temperature)
    compare(DENSE[case], loss, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize("name", divergences.DIVERGENCES)
def test_sparse(name: Any, case: str, dtype: torch.dtype) -> None:
    compare(SPARSE[case], LossConfig(divergence=name, beta=BETA, kd_ratio=0.6), dtype)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", SPARSE)
def test_renormalised(case: str, temperature: float) -> None:
    loss = LossConfig(sparse_target="renormalised", kd_temperature=temperature, kd_ratio=0.6)
    compare(SPARSE[case], loss, torch.float32)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", DENSE)
@pytest.mark.parametrize("name", divergences.DIVERGENCES)
def test_references(name: Any, case: str, temperature: float) -> None:
    loss = LossConfig(divergence=name, beta=BETA, kd_ratio=1.0, kd_temperature=temperature)
    student, teacher = DENSE[case]
    expected = total_of(loss, 3, student, teacher)[1]
    logits = torch.tensor([student], requires_grad=True)
    value = divergences.divergence(logits, torch.tensor([teacher]), loss)
    (gradient,) = torch.autograd.grad(value.sum(), [logits])
    assert value.item() >= 0
    assert gradient.isfinite().all()
    if math.isfinite(expected):
        assert value.item() == pytest.approx(expected, rel=2e-6, abs=1e-6)
        for place, logit in enumerate(student):
            slope_there = 0 if logit == -INF else slope(loss, 3, student, teacher, place)
            assert gradient[0, place].item() == pytest.approx(slope_there, rel=1e-4, abs=2e-5)
    else:
        assert 1 < value.item() < 1e6


def test_the_reported_case() -> None:
    # log q of the teacher's favourite is -118.5 - log(sum): exp of it is 0 in float32.
    student, teacher = SPARSE["kept id underflows"]
    value = fused(student, teacher, 3, LossConfig(kd_ratio=1), torch.float32)[0]
    assert 100 < value < 120
    assert value == pytest.approx(
        total_of(LossConfig(kd_ratio=1), 3, student, teacher)[1], rel=1e-6
    )


@pytest.mark.parametrize("name", divergences.DIVERGENCES)
@pytest.mark.parametrize("soft_cap", [None, 4.0])
@pytest.mark.parametrize("scale", [0.0625, 1.0])
def test_masked_tokens_of_scaled_and_capped_heads(
    name: Any, soft_cap: float | None, scale: float
) -> None:
    """Only a soft cap brings a masked token back, at -cap, as it does in the model itself."""
    bias = torch.tensor([0.0, -INF, 0.0, 0.0, -INF, 0.0])
    hidden = torch.tensor([[2.0, 5.0, -3.0, 1.0, 9.0, 0.5]], requires_grad=True)
    head = Head(torch.eye(V), bias, scale, soft_cap)
    other = torch.tensor([[0.5, 5.0, 3.0, -1.0, 9.0, 1.0]])

    def logits(row: torch.Tensor) -> torch.Tensor:
        raw = scale * (row + bias)
        return raw if soft_cap is None else soft_cap * torch.tanh(raw / soft_cap)

    loss = LossConfig(divergence=name, beta=BETA, kd_ratio=1)
    got = fused_loss(hidden, head, torch.tensor([3]), DenseTeacher(other, head), loss, V)
    expected = divergences.divergence(logits(hidden), logits(other), loss)
    assert expected.item() > 1e-3
    assert got.total.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(got.total, [hidden]),
        torch.autograd.grad(expected.sum(), [hidden]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert ours[0, [1, 4]].tolist() == [0, 0]


@pytest.mark.parametrize("kd_ratio", [0.0, 0.5, 1.0])
def test_a_masked_label_costs_the_stand_in_and_only_where_it_is_scored(kd_ratio: float) -> None:
    bias = torch.tensor([0.0, -INF, 0.0, 0.0, 0.0, 0.0])
    hidden, label = torch.tensor([[0.5, 0.0, 3.0, 1.0, 2.0, 0.0]]), torch.tensor([1])
    teacher = DenseTeacher(torch.ones(1, V), Head(torch.eye(V), bias))
    loss = LossConfig(kd_ratio=kd_ratio)
    got = fused_loss(hidden, Head(torch.eye(V), bias), label, teacher, loss, V)
    assert got.ce_N.item() == pytest.approx(1e4, rel=1e-3)
    assert got.ce_N.item() == pytest.approx(
        divergences.cross_entropy(hidden + bias, label).item(), rel=1e-3
    )
    expected = (1 - kd_ratio) * got.ce_N.item() + kd_ratio * got.kd_N.item()
    assert got.total.item() == pytest.approx(expected)


def test_a_captured_tail_far_below_exp_is_kept() -> None:
    logits = torch.tensor([[0.0, 1.0, -130.0, -125.0]])
    ids, kept, tail = reduce_to_topk(logits.clone(), 2)
    log_p = log_softmax(logits[0].tolist())
    assert ids[0].tolist() == [1, 0]
    assert kept[0].tolist() == pytest.approx([log_p[1], log_p[0]])
    assert tail.item() == pytest.approx(log_sum(log_p[2:]))
