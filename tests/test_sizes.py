"""Bytes of a run folder: one estimate for plan and doctor, held against what a run leaves behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from leadspan import distill, render
from leadspan.analysis.cost import predict_cost, stated_workload
from leadspan.config import RunConfig, StudentConfig
from leadspan.sizes import count_parameters, count_stored_parameters, run_folder_bytes, shape_of
from leadspan.traces.doctor import examine
from tests.conftest import build_tiny_tokenizer, build_traces
from tests.study.test_sweep import write_traces

GIB = 2**30


def _config(folder: Path, student: dict[str, Any]) -> RunConfig:
    content = {
        "student": student,
        "traces": {"path": str(write_traces(folder / "traces.jsonl"))},
        "training": {"steps": 2, "bf16": False},
        "loss": {"kd_ratio": 0},
    }
    return RunConfig.model_validate(content)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_plan_and_doctor_say_the_same(
    dtype: str, lora: Any, tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"path": str(tiny_student), "dtype": dtype, "lora": lora}
    config, shape = _config(tmp_path, student), shape_of(str(tiny_student))
    workload = stated_workload(20, 50, 5, config, 1.0)
    planned = predict_cost(config, workload, shape, []).disk_gib * GIB

    def free(_: Path, bytes_free: float) -> Any:
        return shutil._ntuple_diskusage(0, 0, int(bytes_free))  # type: ignore[attr-defined]

    for room, level in ((planned, "ok"), (planned - 1, "error")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, room=room: free(path, room))
        (found,) = [finding for finding in examine(config) if finding.check == "disk"]
        assert found.level == level


def test_the_estimate_covers_what_a_run_leaves(tmp_path: Path, tiny_student: Path) -> None:
    sequences = render(build_traces(40), build_tiny_tokenizer())
    student = {"path": str(tiny_student), "dtype": "float32"}
    out = tmp_path / "out"
    distill(
        sequences,
        student=student,
        output=out,
        validation=sequences[:4],
        loss={"kd_ratio": 0},
        steps=6,
        checkpoint_every_steps=2,
        bf16=False,
    )
    tensors = [file for glob in ("*.safetensors", "*.distcp") for file in out.rglob(glob)]
    left = sum(file.stat().st_size for file in tensors)
    estimate = run_folder_bytes(StudentConfig(**student), shape_of(str(tiny_student)))
    assert left <= estimate <= 3 * left


def test_parameters_are_read_off_stored_weights(tmp_path: Path, tiny_student: Path) -> None:
    assert count_stored_parameters(tmp_path) is None
    assert (
        count_stored_parameters(tiny_student) == count_parameters(shape_of(str(tiny_student))).total
    )
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=48))
    model.save_pretrained(tmp_path)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert count_stored_parameters(tmp_path) == parameters
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    assert count_stored_parameters(tmp_path) is None
