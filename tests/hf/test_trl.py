"""What `lead_span` made goes through TRL's SFTTrainer token by token, with the loss of leadspan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from leadspan import lead_span
from leadspan.config import LossConfig, StudentConfig
from leadspan.hf.rows import example_of
from leadspan.models import load_student
from leadspan.traces.batches import collate
from leadspan.traces.prepare import IGNORED
from leadspan.training.objective import Objective
from tests.conftest import build_tiny_tokenizer
from tests.hf.test_dataset import raw

trl = pytest.importorskip("trl", reason="trl is a development extra (pip install trl)")


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))
    return lead_span(Dataset.from_list(raw(4)), build_tiny_tokenizer(), lsp=0.9)


def trainer_for(prepared: Dataset, model: Path, output: Path) -> Any:
    return trl.SFTTrainer(
        model=str(model),
        args=trl.SFTConfig(
            output_dir=str(output),
            max_steps=1,
            per_device_train_batch_size=4,
            max_length=None,
            report_to=[],
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=prepared,
        processing_class=build_tiny_tokenizer(),
    )


def test_no_token_is_added_and_none_is_lost(
    prepared: Dataset, tiny_student: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(prepared, tiny_student, tmp_path / "out")
    assert trainer.train_dataset["input_ids"][:] == prepared["input_ids"][:]
    assert trainer.train_dataset["labels"][:] == prepared["labels"][:]
    (batch,) = trainer.get_train_dataloader()
    lengths = sorted(batch["attention_mask"].sum(1).tolist())
    assert lengths == sorted(map(len, prepared["input_ids"]))
    scored = sum(label != IGNORED for row in prepared["labels"] for label in row)
    assert int((batch["labels"] != IGNORED).sum()) == scored > 0


def test_the_loss_is_that_of_leadspan_without_a_teacher(
    prepared: Dataset, tiny_student: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(prepared, tiny_student, tmp_path / "out")
    trainer.train()
    theirs = trainer.state.log_history[0]["loss"]
    objective = Objective(
        load_student(StudentConfig(path=str(tiny_student))),
        LossConfig(kd_ratio=0),
        len(build_tiny_tokenizer()),
    )
    batch = collate([example_of(row) for row in prepared])
    with torch.no_grad():
        total, ce_N, _, _ = objective(batch, None)
    ours = float(total) / len(ce_N)
    assert ours > 1.0
    # float32, and sums in another order
    assert theirs == pytest.approx(ours, abs=1e-5)
