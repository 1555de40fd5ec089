"""The references against loops over tokens in float64, written from the definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from leadspan.config import LossConfig
from leadspan.losses import divergences

N, V = 6, 23


def softmax_loop(logits: list[float], temperature: float = 1.0) -> list[float]:
    scaled = [logit / temperature for logit in logits]
    top = max(scaled)
    weights = [math.exp(logit - top) for logit in scaled]
    return [weight / math.fsum(weights) for weight in weights]


def kl_loop(a: list[float], b: list[float]) -> float:
    return math.fsum(x * (math.log(x) - math.log(y)) for x, y in zip(a, b, strict=True))


def mix(a: list[float], b: list[float], share: float) -> list[float]:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def jsd_loop(p: list[float], q: list[float], beta: float) -> float:
    m = mix(p, q, beta)
    return beta * kl_loop(p, m) + (1 - beta) * kl_loop(q, m)


def entropy_loop(p: list[float]) -> float:
    return -math.fsum(x * math.log(x) for x in p)


THRESHOLD = 1.2


# name -> (options, p, q -> value)
DEFINITIONS = {
    "forward_kl": ({}, kl_loop),
    "reverse_kl": ({}, lambda p, q: kl_loop(q, p)),
    "jsd": ({"beta": 0.3}, lambda p, q: jsd_loop(p, q, 0.3)),
    "skew_kl": ({"alpha": 0.2}, lambda p, q: kl_loop(p, mix(p, q, 0.2))),
    "reverse_skew_kl": ({"alpha": 0.2}, lambda p, q: kl_loop(q, mix(q, p, 0.2))),
    "total_variation": (
        {},
        lambda p, q: math.fsum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2,
    ),
    "mixed_kl": ({"beta": 0.7}, lambda p, q: 0.7 * kl_loop(p, q) + 0.3 * kl_loop(q, p)),
    "entropy_gated_kl": (
        {"threshold": THRESHOLD},
        lambda p, q: kl_loop(p, q) if entropy_loop(p) > THRESHOLD else kl_loop(q, p),
    ),
}


def logits(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(N, V, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_divergence_equals_its_definition(name: str, temperature: float) -> None:
    options, definition = DEFINITIONS[name]
    student, teacher = logits(0), logits(1)
    expected = [
        temperature**2 * definition(softmax_loop(t, temperature), softmax_loop(s, temperature))
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert min(expected) > 0.05
    got = divergences.DIVERGENCES[name](student, teacher, temperature, **options)
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(expected, rel=1e-12)
    single = divergences.DIVERGENCES[name](student.float(), teacher.float(), temperature, **options)
    assert single.dtype == torch.float32
    assert single.tolist() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_equals_its_definition() -> None:
    student, labels = logits(0), torch.tensor([0, 5, 22, 7, 7, 1])
    expected = [
        -math.log(softmax_loop(row)[label])
        for row, label in zip(student.tolist(), labels.tolist(), strict=True)
    ]
    assert min(expected) > 0.05
    assert divergences.cross_entropy(student, labels).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(
        divergences.cross_entropy(student, labels),
        functional.cross_entropy(student, labels, reduction="none"),
    )


def test_ends_agree_with_torch_kl_div() -> None:
    student, teacher = logits(0), logits(1)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    forward = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    reverse = functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(divergences.forward_kl(student, teacher), forward)
    torch.testing.assert_close(divergences.reverse_kl(student, teacher), reverse)
    torch.testing.assert_close(divergences.mixed_kl(student, teacher, beta=1.0), forward)
    torch.testing.assert_close(divergences.mixed_kl(student, teacher, beta=0.0), reverse)
    torch.testing.assert_close(divergences.skew_kl(student, teacher, alpha=0.0), forward)
    torch.testing.assert_close(divergences.reverse_skew_kl(student, teacher, alpha=0.0), reverse)
    torch.testing.assert_close(divergences.forward_kl(teacher, student), reverse)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_zero_for_equal_and_never_negative(name: str) -> None:
    options, _ = DEFINITIONS[name]
    compute = divergences.DIVERGENCES[name]
    near = logits(0, torch.float32) + 1e-3 * logits(1, torch.float32)
    assert compute(logits(0), logits(0), **options).abs().max() < 1e-12
    assert (compute(logits(0, torch.float32), near, **options) >= 0).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradcheck(name: str, temperature: float) -> None:
    options, _ = DEFINITIONS[name]
    student, teacher = logits(0)[:3, :9].clone().requires_grad_(), logits(1)[:3, :9]

    def compute(student: Tensor) -> Tensor:
        return divergences.DIVERGENCES[name](student, teacher, temperature, **options)

    assert torch.autograd.gradcheck(compute, student)


def test_temperature_squared_keeps_the_gradient() -> None:
    # For large T the gradient of T**2 * KL tends to (q logits - p logits, centred) / V: Hinton.
    student, teacher = (logits(0) / 3).requires_grad_(), logits(1) / 3
    divergences.forward_kl(student, teacher, 1000.0).sum().backward()
    centred = lambda x: x - x.mean(-1, keepdim=True)  # noqa: E731
    expected = (centred(student.detach()) - centred(teacher)) / V
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(student.grad, expected, rtol=1e-2, atol=1e-4)


def test_teacher_gets_no_gradient_and_half_precision_is_upcast() -> None:
    student, teacher = logits(0).bfloat16().requires_grad_(), logits(1).bfloat16().requires_grad_()
    value = divergences.forward_kl(student, teacher)
    assert value.dtype == torch.float32
    value.sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    torch.testing.assert_close(
        value.detach(), divergences.forward_kl(student.detach().float(), teacher.detach().float())
    )


def test_config_chooses_the_function_and_its_parameter() -> None:
    student, teacher = logits(0), logits(1)
    loss = LossConfig(divergence="skew_kl", beta=0.2, kd_temperature=2.0)
    torch.testing.assert_close(
        divergences.divergence(student, teacher, loss),
        divergences.skew_kl(student, teacher, 2.0, alpha=0.2),
    )


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"teacher_logits_NV: shape must be .* Slice both"):
        divergences.forward_kl(logits(0), logits(1)[:, :-1])
    with pytest.raises(ValueError, match=r"jsd: beta must be in \(0, 1\); got 0"):
        divergences.jsd(logits(0), logits(1), beta=0)
    with pytest.raises(ValueError, match=r"skew_kl: alpha must be in \[0, 1\); got 1"):
        divergences.skew_kl(logits(0), logits(1), alpha=1)
    with pytest.raises(ValueError, match=r"mixed_kl: beta must be in \[0, 1\]; got 1.5"):
        divergences.mixed_kl(logits(0), logits(1), beta=1.5)
