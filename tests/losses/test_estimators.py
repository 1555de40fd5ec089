"""Estimates of a divergence from one sampled token, against the exact divergence of the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leadspan.config import LossConfig
from leadspan.losses import divergences
from leadspan.losses.fused import SampledTeacher, SparseTeacher, fused_loss
from leadspan.losses.heads import Head

V, DRAWS = 12, 20_000
REVERSE = LossConfig(kd_ratio=1.0, divergence="reverse_kl")


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(V, generator=generator, dtype=torch.float64)


def exact(student_V: Tensor, teacher_V: Tensor, loss: LossConfig) -> tuple[Tensor, Tensor]:
    """The divergence and its gradient by the student's logits."""
    leaf_V = student_V.clone().requires_grad_()
    value = divergences.divergence(leaf_V[None], teacher_V[None], loss).sum()
    (gradient_V,) = torch.autograd.grad(value, leaf_V)
    return value.detach(), gradient_V


def fused(
    student_NV: Tensor, labels_N: Tensor, teacher: object, loss: LossConfig
) -> tuple[Tensor, ...]:
    """Values [N] and gradients [N, V] of the fused loss; the identity for a head makes logits of rows."""
    rows_NV = student_NV.clone().requires_grad_()
    head = Head(torch.eye(V, dtype=torch.float64))
    result = fused_loss(rows_NV, head, labels_N, teacher, loss, V)  # type: ignore[arg-type]
    (gradient_NV,) = torch.autograd.grad(result.total, rows_NV)
    return result.kd_N.double(), gradient_NV


def agree(draws_NX: Tensor, expected_X: Tensor, errors: float = 3.0) -> bool:
    """Whether the mean of the draws is within so many of its standard errors of what is expected."""
    error_X = draws_NX.std(0) / len(draws_NX) ** 0.5
    return bool(((draws_NX.mean(0) - expected_X).abs() <= errors * error_X + 1e-12).all())


@pytest.mark.parametrize("seed", range(3))
def test_the_score_function_estimates_the_reverse_kl_without_bias(seed: int) -> None:
    student_V, teacher_V = logits(seed), logits(100 + seed)
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.multinomial(
        student_V.softmax(-1), DRAWS, replacement=True, generator=generator
    )
    teacher = SampledTeacher(teacher_V.log_softmax(-1)[labels_N])
    values_N, gradients_NV = fused(student_V.expand(DRAWS, V), labels_N, teacher, REVERSE)
    value, gradient_V = exact(student_V, teacher_V, REVERSE)
    assert value > 0.2
    assert gradient_V.abs().max() > 0.1
    assert agree(values_N[:, None], value[None])
    assert agree(gradients_NV, gradient_V)


def test_tokens_of_another_distribution_bias_it() -> None:
    # Stale weights, top_p or another temperature: what is sampled is not what is trained.
    student_V, teacher_V = logits(0), logits(100)
    generator = torch.Generator().manual_seed(0)
    colder_V = (student_V / 0.6).softmax(-1)
    labels_N = torch.multinomial(colder_V, DRAWS, replacement=True, generator=generator)
    teacher = SampledTeacher(teacher_V.log_softmax(-1)[labels_N])
    _, gradients_NV = fused(student_V.expand(DRAWS, V), labels_N, teacher, REVERSE)
    assert not agree(gradients_NV, exact(student_V, teacher_V, REVERSE)[1], errors=10)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_the_likeliest_ids_and_a_tail_are_a_lower_bound(name: str) -> None:
    loss = LossConfig(kd_ratio=1.0, divergence=name)  # type: ignore[arg-type]
    student_V, teacher_V = logits(0), logits(100)
    value, gradient_V = exact(student_V, teacher_V, loss)
    log_p_V = teacher_V.log_softmax(-1)
    labels_N = torch.zeros(1, dtype=torch.long)
    found = []
    for k in (3, 8, V):
        top = log_p_V.topk(k)
        rest = log_p_V.index_fill(0, top.indices, -torch.inf).logsumexp(0)
        teacher = SparseTeacher(top.indices[None], top.values[None], rest[None])
        values_N, gradients_NV = fused(student_V[None], labels_N, teacher, loss)
        found.append((float(values_N), float((gradients_NV[0] - gradient_V).abs().max())))
    values, errors = zip(*found, strict=True)
    # Merging tokens into one class hides their differences: never more, and exact with all of them.
    assert values[0] < values[1] < values[2] == pytest.approx(float(value), rel=1e-6)
    assert errors[0] > errors[1] > 1e-3
    assert errors[2] < 1e-9


def test_cross_entropy_keeps_its_share() -> None:
    student_NV = torch.stack([logits(seed) for seed in range(4)])
    labels_N = torch.tensor([0, 3, 3, 11])
    teacher = SampledTeacher(logits(100).log_softmax(-1)[labels_N])
    half = LossConfig(kd_ratio=0.5, divergence="reverse_kl")
    _, whole = fused(student_NV, labels_N, teacher, REVERSE)
    _, mixed = fused(student_NV, labels_N, teacher, half)
    rows_NV = student_NV.clone().requires_grad_()
    ce = divergences.cross_entropy(rows_NV, labels_N).sum()
    (plain,) = torch.autograd.grad(ce, rows_NV)
    torch.testing.assert_close(mixed, (plain + whole) / 2)


@pytest.mark.parametrize("change", [{"divergence": "forward_kl"}, {"kd_temperature": 2.0}])
def test_what_one_token_cannot_tell_is_refused(change: dict[str, object]) -> None:
    teacher = SampledTeacher(torch.zeros(1))
    loss = REVERSE.model_copy(update=change)
    with pytest.raises(ValueError, match=r"loss.divergence must be reverse_kl at kd_temperature 1"):
        fused(logits(0)[None], torch.zeros(1, dtype=torch.long), teacher, loss)
