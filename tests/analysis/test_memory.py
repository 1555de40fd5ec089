"""Predicted against measured peaks of real training steps, on small models of three families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen3Config

from leadspan.analysis.memory import StepShape, TeacherMemory, predict_memory
from leadspan.config import LossConfig, TrainingConfig
from leadspan.errors import ConfigError
from leadspan.flops import model_shape
from leadspan.precision import bf16_products
from leadspan.sizes import (
    QWEN3_CONFIGS,
    count_parameters,
    load_model_config,
    shape_of,
)
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import Batch
from leadspan.training.objective import Objective
from leadspan.training.trainer import build_optimizer
from tests.analysis.live_memory import LiveMemory

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "intermediate_size": 384,
    "vocab_size": 1500,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
FAMILIES = {
    "qwen3": (Qwen3Config, {"tie_word_embeddings": True}),
    "llama": (LlamaConfig, {"tie_word_embeddings": False}),
    "gemma3": (Gemma3TextConfig, {"sliding_window": 64}),
}


def _measure(config: Any, step: StepShape, teacher_config: Any = None) -> int:
    """Peak bytes of the second of two training steps, weights of both models included."""
    student = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    if step.gradient_checkpointing:
        student.gradient_checkpointing_enable({"use_reentrant": False})
    bf16 = step.compute == "autocast"
    kd_ratio = 0.5 if teacher_config else 0.0
    objective = Objective(student, LossConfig(kd_ratio=kd_ratio), config.vocab_size)
    optimizer = build_optimizer(objective, TrainingConfig(steps=1), torch.device("cpu"))
    teacher = None
    if teacher_config:
        model = AutoModelForCausalLM.from_config(teacher_config, attn_implementation="sdpa")
        teacher = LiveTeacher(model.bfloat16().eval(), bf16)
    scored = step.scored // step.rows
    places = torch.arange(step.tokens - scored, step.tokens)
    rows_N = torch.cat([places + row * step.tokens for row in range(step.rows)])
    ids_BT = torch.randint(1, config.vocab_size, (step.rows, step.tokens))
    labels_N = torch.randint(0, config.vocab_size, (len(rows_N),))
    batch = Batch((), ids_BT, None, rows_N, labels_N, torch.zeros_like(rows_N), step.padded_tokens)
    models = [student] + ([teacher._model] if teacher else [])
    there = [t for m in models for t in (*m.parameters(), *m.buffers())]
    with LiveMemory([*there, ids_BT, rows_N, labels_N]) as meter:
        for _ in range(2):
            meter.peak = meter.live
            for _ in range(step.passes_per_step):
                rows = teacher.rows(batch) if teacher else None
                with bf16_products(torch.device("cpu"), bf16):
                    total, *_ = objective(batch, rows)
                total.backward()
                del total, rows
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return meter.peak + sum(parameter.nbytes for m in models for parameter in m.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"compute": "float32"},
        {"gradient_checkpointing": True},
        {"passes_per_step": 2},
        {"rows": 1, "tokens": 16, "scored": 8, "passes_per_step": 2},
    ],
    ids=["autocast", "float32", "checkpointing", "accumulated", "weights rule"],
)
def test_peak(family: str, change: dict[str, Any]) -> None:
    kind, more = FAMILIES[family]
    config = kind(**SIZES, **more)
    fields = {"rows": 4, "tokens": 160, "scored": 320, "device": "cpu", **change}
    step = StepShape(**fields)
    predicted = predict_memory(model_shape(config), step).total
    assert predicted == pytest.approx(_measure(config, step), rel=0.15)


def test_peak_with_a_live_teacher() -> None:
    config = Qwen3Config(**SIZES)
    larger = Qwen3Config(**SIZES | {"hidden_size": 256, "intermediate_size": 512})
    step = StepShape(rows=4, tokens=160, scored=320, device="cpu")
    teacher = TeacherMemory(model_shape(larger))
    predicted = predict_memory(model_shape(config), step, [teacher])
    assert predicted.teacher > 1e6
    assert predicted.total == pytest.approx(_measure(config, step, larger), rel=0.15)


def test_parts_add_up() -> None:
    shape = shape_of("Qwen/Qwen3-4B-Base")
    parts = predict_memory(shape, StepShape(rows=4, tokens=4096, scored=12000))
    assert parts.weights == 4 * count_parameters(shape).total
    assert parts.optimizer == 2 * parts.weights
    in_gib = parts.in_gib()
    assert sum(v for k, v in in_gib.items() if k != "total") == pytest.approx(in_gib["total"])


def test_adapters_need_little() -> None:
    shape = shape_of("Qwen/Qwen3-4B")
    step = StepShape(rows=1, tokens=512, scored=400)
    full = predict_memory(shape, step)
    lora = predict_memory(shape, StepShape(rows=1, tokens=512, scored=400, lora_rank=16))
    assert lora.optimizer < full.optimizer / 50
    assert lora.weights >= full.weights


@pytest.mark.parametrize(
    ("name", "billions"),
    [("0.6B", 0.596), ("1.7B", 1.72), ("4B", 4.02), ("8B", 8.19), ("14B", 14.77), ("32B", 32.76)],
)
def test_published_sizes(name: str, billions: float) -> None:
    counted = count_parameters(shape_of(f"Qwen/Qwen3-{name}")).total
    assert counted / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_real_models(family: str) -> None:
    kind, more = FAMILIES[family]
    config = kind(**SIZES, **more)
    real = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    assert count_parameters(model_shape(config)).total == real


def test_unknown_model() -> None:
    assert len(QWEN3_CONFIGS) == 6
    with pytest.raises(ConfigError, match=r"must be a folder with config\.json"):
        load_model_config("nobody/nothing")
