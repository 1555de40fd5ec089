"""`LeadSpanTrainer` against the loop of `leadspan train`, and what a user of Trainer expects of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

from leadspan import LeadSpanTrainer
from leadspan.errors import ConfigError, DataError
from leadspan.parallel import Ranks
from leadspan.runs import RunFolder
from tests.conftest import build_tiny_model, build_tiny_tokenizer
from tests.hf.prepared import STEPS, arguments, examples, ordered, rows, train_by_loop
from tests.training.launching import torchrun

MEANS = ("loss", "ce_cot", "kd_cot", "grad_norm")


def teacher_keys(folder: Path) -> dict[str, str]:
    return {"path": str(folder), "dtype": "float32"}


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def assert_same(history: list[dict[str, Any]], weights: dict[str, torch.Tensor], run: Any) -> None:
    """Each step's numbers and the final weights are those of the loop."""
    expected = [r for r in RunFolder(run.path).read_metrics() if r["kind"] == "train"]
    found = [record for record in history if "loss" in record]
    assert len(found) == len(expected) == STEPS
    for mine, theirs in zip(found, expected, strict=True):
        for name in MEANS:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name
    for name, weight in load_file(run.student_path / "model.safetensors").items():
        # float32 sums of gradients in another order, over five steps of AdamW
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def by_loop(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> Any:
    folder = tmp_path_factory.mktemp("loop") / "run"
    teacher = teacher_keys(tiny_teacher)
    return train_by_loop(
        examples(), folder, student=tiny_student, teacher=teacher, validation=examples()[:7]
    )


@pytest.fixture
def trainer(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> LeadSpanTrainer:
    return LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path / "out"),
        train_dataset=ordered(examples()),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
    )


def test_a_live_teacher_gives_the_losses_and_weights_of_the_loop(
    trainer: LeadSpanTrainer, by_loop: Any, tmp_path: Path
) -> None:
    result = trainer.train()
    assert_same(trainer.state.log_history, trainer.model.state_dict(), by_loop)
    assert result.metrics["train_loss"] == pytest.approx(
        np.mean([r["loss"] for r in trainer.state.log_history if "loss" in r]), rel=1e-6
    )
    # 7 rows in batches of 3: the mean is over tokens, not over batches.
    validation = [r for r in RunFolder(by_loop.path).read_metrics() if r["kind"] == "validation"]
    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(validation[-1]["val_loss"], rel=1e-5)
    assert evaluated["eval_kd_answer"] == pytest.approx(validation[-1]["kd_answer"], rel=1e-5)
    # What is saved is an ordinary folder, and plain calls of the model are plain.
    trainer.save_model()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ids = torch.arange(5)[None]
    with torch.no_grad():
        assert torch.equal(saved(ids).logits, trainer.model.eval()(ids).logits)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_raw_logits_are_there_for_compute_metrics(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    seen: list[tuple[int, ...]] = []

    def metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction.predictions.shape)
        return {"accuracy": float((prediction.predictions.argmax(-1) == 0).mean())}

    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
        compute_metrics=metrics,
    )
    found = trainer.evaluate()
    plain = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
    ).evaluate()
    assert found["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-6)
    assert seen[0][0] == 7
    assert "eval_accuracy" in found
