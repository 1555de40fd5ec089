"""Adapters: what is trained, what is exported, and that a run goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from leadspan import distill, render, supervise, truncate
from leadspan.integrity import check_checksums
from leadspan.losses.divergences import cross_entropy, forward_kl
from leadspan.records import Sequence
from leadspan.runs import RunFolder
from leadspan.training.run import TrainedRun
from tests.conftest import build_tiny_tokenizer, build_traces

peft = pytest.importorskip("peft")
RANK = 3


def _sequences() -> list[Sequence]:
    return truncate(render(build_traces(24), build_tiny_tokenizer()), lsp=0.6)


def _run(folder: Path, student: Path, teacher: Path, dora: bool) -> TrainedRun:
    sequences = _sequences()
    return distill(
        sequences[6:],
        student={"path": str(student), "lora": {"rank": RANK, "alpha": 6.0, "dora": dora}},
        teacher={"path": str(teacher), "dtype": "float32"},
        output=folder,
        validation=sequences[:6],
        steps=6,
        learning_rate=1e-2,
        bf16=False,
        checkpoint_every_steps=2,
    )


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_adapters_are_trained_merged_and_resumed(
    dora: bool,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = _run(tmp_path / "whole", tiny_student, tiny_teacher, dora)
    base = AutoModelForCausalLM.from_pretrained(tiny_student, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(whole.student_path, dtype=torch.float32).eval()

    # An ordinary folder: the same weights by name, the adapted ones changed, the others as they were.
    assert not list(whole.student_path.glob("adapter*"))
    before, after = base.state_dict(), merged.state_dict()
    assert before.keys() == after.keys()
    for name, weight in after.items():
        change = weight - before[name]
        if (".self_attn." not in name and ".mlp." not in name) or "norm" in name:
            assert torch.equal(weight, before[name]), name
        else:
            assert change.abs().max() > 1e-4, name
            assert dora or torch.linalg.matrix_rank(change, rtol=1e-3) <= RANK, name

    # The adapter beside it is the same student, on the base model.
    adapted = peft.PeftModel.from_pretrained(base, whole.path / "adapter").merge_and_unload()
    for name, weight in adapted.state_dict().items():
        torch.testing.assert_close(weight, after[name], rtol=0, atol=1e-6)
    check_checksums(whole.path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_student, dtype=torch.float32)

    # It is the student that was validated.
    assert whole.manifest["val_loss"] == pytest.approx(
        _validation_loss(merged, tiny_teacher), rel=1e-5
    )
    assert whole.manifest["val_loss"] < _validation_loss(base.eval(), tiny_teacher) - 0.01

    # Stopped behind the checkpoint of step 4 and started again, it comes out the same.
    append = RunFolder.append_metrics

    def fail_at_step_5(self: RunFolder, record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise RuntimeError("stopped")
        append(self, record)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "append_metrics", fail_at_step_5)
        with pytest.raises(RuntimeError, match="stopped"):
            _run(tmp_path / "stopped", tiny_student, tiny_teacher, dora)
    resumed = _run(tmp_path / "stopped", tiny_student, tiny_teacher, dora)
    expected = load_file(whole.student_path / "model.safetensors")
    for name, weight in load_file(resumed.student_path / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name


@torch.no_grad()
def _validation_loss(student: Any, teacher_path: Path) -> float:
    """The token mean of the default loss over the validation sequences, each alone."""
    teacher = AutoModelForCausalLM.from_pretrained(teacher_path, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for sequence in _sequences()[:6]:
        example = supervise(sequence)
        scored = torch.from_numpy(example.supervised_T)
        ids = torch.from_numpy(sequence.input_ids_T).long()[None]
        logits, target = (model(ids).logits[0, :-1][scored[1:]] for model in (student, teacher))
        loss_N = 0.5 * cross_entropy(logits, ids[0][scored]) + 0.5 * forward_kl(logits, target)
        total += float(loss_N.sum())
        count += len(loss_N)
    return total / count
