"""The engine on a card: the fused loss against float64, and one step against the CPU's.

Run by `pytest -m gpu` where there is a CUDA device; skipped, saying so, elsewhere.

Shape suffixes: N scored tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from leadspan.config import PACKING, LossConfig, TrainingConfig
from leadspan.losses import divergences
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from leadspan.precision import bf16_products
from leadspan.records import Sequence, Span
from leadspan.teachers.capture_live import reduce_to_topk
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import collate
from leadspan.traces.cut import supervise
from leadspan.training.objective import Objective
from leadspan.training.optimizer import build_optimizer
from tests.conftest import build_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

N, H, H_TEACHER, V = 700, 64, 96, 5000
LOSS = LossConfig(kd_ratio=0.5)
TOLERANCE = 2e-2


def random_rows(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """float64 numbers that bfloat16 holds exactly, so that both sides start from the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).bfloat16().double()


def relative_error(found: Tensor, expected: Tensor) -> float:
    difference = found.detach().cpu().double() - expected.detach()
    return (difference.norm() / expected.detach().norm()).item()


@pytest.mark.parametrize("kind", ["dense", "sparse", "none"])
def test_the_fused_loss_in_bfloat16_is_that_of_float64(kind):
    hidden_NH = random_rows(N, H, seed=0).requires_grad_()
    weight_VH = random_rows(V, H, seed=1, scale=2 / H**0.5).requires_grad_()
    teacher_NH = random_rows(N, H_TEACHER, seed=2)
    teacher_VH = random_rows(V, H_TEACHER, seed=3, scale=2 / H_TEACHER**0.5)
    labels_N = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(4))
    teacher_logits_NV = teacher_NH @ teacher_VH.T
    kept = reduce_to_topk(teacher_logits_NV.clone(), 32)

    student_logits_NV = hidden_NH @ weight_VH.T
    ce_N = divergences.cross_entropy(student_logits_NV, labels_N)
    if kind == "sparse":
        kd_N = merged_kl(student_logits_NV, *kept)
    else:
        kd_N = divergences.forward_kl(student_logits_NV, teacher_logits_NV)
    expected = ce_N.sum() if kind == "none" else (0.5 * ce_N + 0.5 * kd_N).sum()
    expected.backward()

    on_card = hidden_NH.detach().float().cuda().requires_grad_()
    weight = weight_VH.detach().float().cuda().requires_grad_()
    teacher: DenseTeacher | SparseTeacher | None = None
    if kind == "dense":
        teacher = DenseTeacher(teacher_NH.bfloat16().cuda(), Head(teacher_VH.bfloat16().cuda()))
    elif kind == "sparse":
        teacher = SparseTeacher(kept[0].cuda(), *(part.float().cuda() for part in kept[1:]))
    loss = LossConfig(kd_ratio=0.0) if kind == "none" else LOSS
    with bf16_products(torch.device("cuda"), enabled=True):
        found = fused_loss(on_card, Head(weight), labels_N.cuda(), teacher, loss, V, chunk_rows=128)
    found.total.backward()

    assert found.total.item() == pytest.approx(expected.item(), rel=TOLERANCE)
    assert relative_error(found.ce_N, ce_N) < TOLERANCE
    if kind != "none":
        assert relative_error(found.kd_N, kd_N) < TOLERANCE
    assert relative_error(on_card.grad, hidden_NH.grad) < TOLERANCE
    assert relative_error(weight.grad, weight_VH.grad) < TOLERANCE


def merged_kl(
    student_logits_NV: Tensor, ids_NK: Tensor, logprobs_NK: Tensor, tail_N: Tensor
) -> Tensor:
    """KL over the kept ids and one class for the rest."""
    q_NV = student_logits_NV.softmax(1)
    kept_NK = q_NV.gather(1, ids_NK)
    rest_N = q_NV.scatter(1, ids_NK, 0.0).sum(1)
    kl_N = (logprobs_NK.exp() * (logprobs_NK - kept_NK.log())).sum(1)
    return kl_N + tail_N.exp() * (tail_N - rest_N.log())


@pytest.mark.parametrize("attention", ["sdpa", *PACKING])
def test_one_step_on_the_card_is_the_step_on_the_cpu(attention):
    """Packed sequences on the card, where the attention takes them, against padded ones."""
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    # Kernels of these attentions want heads of 16 numbers or more.
    student = build_tiny_model(50, seed=1, hidden=64)
    teacher = build_tiny_model(50, seed=2, hidden=96).eval().requires_grad_(False)
    on_cpu = take_step(student, teacher, "cpu", "sdpa")
    on_card = take_step(student, teacher, "cuda", attention)
    assert on_card["loss"] == pytest.approx(on_cpu["loss"], rel=TOLERANCE)
    assert relative_error(on_card["gradient"], on_cpu["gradient"].double()) < 2 * TOLERANCE
    assert torch.isfinite(on_card["weights"]).all()
    # AdamW's first step moves every weight by about the learning rate, whatever the gradient's size.
    moved = (on_card["weights"].cpu() - on_cpu["weights"]).abs()
    assert moved.max() <= 2.1e-3
    assert (moved < 1e-4).float().mean() > 0.95


def take_step(student, teacher, device, attention):
    """One step of the engine: bfloat16 on the card, float32 on the CPU."""
    bf16 = device == "cuda"
    model = copy.deepcopy(student).to(device).train()
    model.set_attn_implementation(attention)
    objective = Objective(model, LOSS, 50)
    training = TrainingConfig(steps=1, learning_rate=1e-3, weight_decay=0.0)
    optimizer = build_optimizer(objective, training, torch.device(device))
    tokens = np.random.default_rng(0).integers(4, 50, (3, 40)).astype(np.int32)
    examples = [
        supervise(Sequence(str(end), row[:end], Span(0, 6), Span(6, 20), Span(20, end)))
        for row, end in zip(tokens, (25, 32, 40), strict=True)
    ]
    batch = collate(examples, packed=attention in PACKING).to(torch.device(device))
    rows = LiveTeacher(copy.deepcopy(teacher).to(device), bf16=bf16).rows(batch)
    with bf16_products(torch.device(device), bf16):
        total = objective(batch, rows)[0]
    (total / len(batch.labels_N)).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    optimizer.step()
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {"loss": total.item(), "gradient": gradient, "weights": weights}
