"""What must be equal, however it is computed: the loss and gradients of a step.

The reference forwards every sequence alone, uncut by any trimming, in float64, and sums the pure
per-token losses over the supervised tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from leadspan import render, supervise, truncate
from leadspan.config import LossConfig, SupervisionConfig
from leadspan.losses.divergences import cross_entropy, forward_kl
from leadspan.records import Example
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import collate, plan_micro_batches
from leadspan.training.objective import Objective
from tests.conftest import build_tiny_tokenizer, build_traces

Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def models(tiny_student: Path, tiny_teacher: Path) -> tuple[Any, Any]:
    """Student and teacher in float64."""
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
        for path in (tiny_student, tiny_teacher)
    )
    return student, teacher.eval()


def _examples(lsp: float, sections: Sequence[str]) -> list[Example]:
    sequences = truncate(render(build_traces(8), build_tiny_tokenizer()), lsp=lsp)
    config = SupervisionConfig(sections=tuple(sections))  # type: ignore[arg-type]
    examples = [supervise(sequence, config) for sequence in sequences]
    return [example for example in examples if example.num_scored_tokens]


def _reference(models: tuple[Any, Any], examples: list[Example]) -> tuple[float, Gradients]:
    student, teacher = copy.deepcopy(models[0]), models[1]
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for example in examples:
        ids = torch.from_numpy(example.sequence.input_ids_T.astype("int64"))[None]
        mask = torch.from_numpy(example.supervised_T)[1:]
        student_logits = student(ids).logits[0, :-1][mask]
        with torch.no_grad():
            teacher_logits = teacher(ids).logits[0, :-1][mask]
        labels = ids[0, 1:][mask]
        ce = cross_entropy(student_logits, labels).sum()
        kd = forward_kl(student_logits, teacher_logits).sum()
        total = total + 0.5 * ce + 0.5 * kd
        count += int(mask.sum())
    (total / count).backward()
    return float(total.detach()) / count, {n: p.grad for n, p in student.named_parameters()}


def _ours(
    models: tuple[Any, Any], examples: list[Example], max_tokens: int, packed: bool
) -> tuple[float, Gradients]:
    student = copy.deepcopy(models[0]).train()
    objective = Objective(student, LossConfig(), len(build_tiny_tokenizer()))
    teacher = LiveTeacher(models[1], bf16=False)
    count = sum(example.num_scored_tokens for example in examples)
    lengths = [len(example.sequence) for example in examples]
    loss = 0.0
    for members in plan_micro_batches(lengths, max_tokens, packed=packed)[0]:
        batch = collate([examples[index] for index in members], packed)
        total, *_ = objective(batch, teacher.rows(batch))
        (total / count).backward()
        loss += float(total.detach()) / count
    return loss, {name: p.grad for name, p in student.named_parameters()}


@pytest.mark.parametrize(
    ("lsp", "sections"),
    [
        (0.5, ["cot"]),
        (0.5, ["prompt", "cot"]),
        (1.0, ["cot"]),
        (1.0, ["cot", "answer"]),
        (1.0, ["answer"]),
    ],
)
@pytest.mark.parametrize("max_tokens", [1, 120, 100_000], ids=["8x1", "some", "1x8"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_step_is_the_reference_however_it_is_shared_out(
    models: tuple[Any, Any], sections: list[str], lsp: float, max_tokens: int, packed: bool
) -> None:
    examples = _examples(lsp, sections)
    expected_loss, expected = _reference(models, examples)
    loss, gradients = _ours(models, examples, max_tokens, packed)
    assert expected_loss > 0.5
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in expected.items():
        # float64 models, but the loss works in float32 inside: 1e-6 of the largest gradient.
        scale = float(gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-6 * scale)
