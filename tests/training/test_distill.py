"""`leadspan.distill` on each kind of input: rows, a Dataset, sequences, examples, models in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from leadspan import distill, render, supervise, truncate
from leadspan.config import LossConfig, RunConfig, SupervisionConfig, TruncationConfig
from leadspan.config_io import load_run_config, read_yaml
from leadspan.errors import ConfigError, RunError
from leadspan.study.report.card import write_model_card
from leadspan.training.run import TrainedRun, train
from tests.conftest import build_tiny_tokenizer, build_traces

OPTIONS: dict[str, Any] = {"steps": 2, "bf16": False, "learning_rate": 3e-3}


@pytest.fixture
def models(tiny_student: Path, tiny_teacher: Path) -> dict[str, Any]:
    return {"student": tiny_student, "teacher": {"path": str(tiny_teacher), "dtype": "float32"}}


def _rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer, "gold": t.gold}
        for t in build_traces(count)
    ]


def _weights(run: TrainedRun) -> dict[str, torch.Tensor]:
    return load_file(run.student_path / "model.safetensors")


def _same(left: TrainedRun, right: TrainedRun) -> bool:
    mine, theirs = _weights(left), _weights(right)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_rows_a_dataset_and_a_run_yaml_train_the_same_student(
    tmp_path: Path, models: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*_rows(), {"nothing": 1}]))
    content = {
        "student": {"path": str(models["student"])},
        "teacher": models["teacher"],
        "traces": {"path": str(file), "validation_fraction": 0},
        "truncation": {"lsp": 0.5},
        "loss": {"kd_ratio": 1.0},
        "training": OPTIONS,
    }
    expected = train(RunConfig.model_validate(content), tmp_path / "yaml")
    how = {"truncation": {"lsp": 0.5}, "loss": {"kd_ratio": 1.0}}
    rows = [*_rows(), {"nothing": 1}]
    of_rows = distill(rows, output=tmp_path / "rows", **models, **how, **OPTIONS)
    said = capsys.readouterr().err
    assert "data: 11 rows are not used: duplicate 10" in said
    assert "unknown_format 1 (first at row[20])" in said
    refused = {"duplicate": 10, "unknown_format": 1}
    assert of_rows.manifest["refused"] == expected.manifest["refused"] == refused
    of_set = distill(
        Dataset.from_list(_rows()),
        output=tmp_path / "set",
        truncation=TruncationConfig(lsp=0.5),
        loss=LossConfig(kd_ratio=1.0),
        **models,
        **OPTIONS,
    )
    assert _same(expected, of_rows)
    assert _same(expected, of_set)
    config = load_run_config(tmp_path / "rows" / "run.yaml")
    assert (config.traces.path, config.truncation.lsp) == ("<rows in memory>", 0.5)
    assert (config.loss.kd_ratio, str(config.render.date)[:2]) == (1.0, "20")
    assert of_rows.manifest["kept_fraction"] == pytest.approx(0.5, abs=0.03)
    assert of_rows.manifest["num_given_cut"] == 0


def test_sequences_are_cut_here_or_said_to_have_been_cut_before(
    tmp_path: Path, models: dict[str, Any]
) -> None:
    whole = render(build_traces(20), build_tiny_tokenizer())
    here = distill(whole, output=tmp_path / "here", truncation={"lsp": 0.6}, **models, **OPTIONS)
    cut = truncate(whole, lsp=0.6)
    before = distill(cut, output=tmp_path / "before", validation=whole[:2], **models, **OPTIONS)
    assert here.manifest["kept_fraction"] == before.manifest["kept_fraction"] < 0.65
    assert (here.manifest["num_given_cut"], before.manifest["num_given_cut"]) == (0, 20)
    assert read_yaml(before.path / "run.yaml")["truncation"]["lsp"] == 1.0
    card = write_model_card(before.path).read_text()
    assert "whole sequences" not in card
    assert "cut before the run, 5" in card
    assert "the first 60 %" in write_model_card(here.path).read_text()
    with pytest.raises(ValueError, match="must be uncut"):
        distill(cut, output=tmp_path / "twice", truncation={"lsp": 0.5}, **models, **OPTIONS)


def test_examples_keep_their_own_labels(tmp_path: Path, models: dict[str, Any]) -> None:
    sequences = truncate(render(build_traces(20), build_tiny_tokenizer()), lsp=0.6)
    examples = [supervise(s, SupervisionConfig(sections=("prompt", "cot"))) for s in sequences]
    run = distill(examples, output=tmp_path / "run", validation=examples[:3], **models, **OPTIONS)
    expected = distill(
        sequences,
        output=tmp_path / "expected",
        validation=sequences[:3],
        sections=["prompt", "cot"],
        **models,
        **OPTIONS,
    )
    assert _same(run, expected)
    assert run.manifest["val_loss"] == expected.manifest["val_loss"]
    assert read_yaml(run.path / "run.yaml")["supervision"]["sections"] == ["prompt", "cot"]
    fewer = [supervise(s, SupervisionConfig(sections=("prompt", "cot"))) for s in sequences]
    fewer[0].supervised_T[np.flatnonzero(fewer[0].supervised_T)[0]] = False
    with pytest.raises(RunError, match="training sequences changed"):
        distill(fewer, output=run.path, validation=examples[:3], **models, **OPTIONS)
    with pytest.raises(ConfigError, match="bring their own cut"):
        distill(examples, output=tmp_path / "no", truncation={"lsp": 0.5}, **models, **OPTIONS)


def test_models_in_memory_train_as_those_on_disk_and_stay_as_they_were(
    tmp_path: Path, models: dict[str, Any]
) -> None:
    sequences = render(build_traces(20), build_tiny_tokenizer())
    expected = distill(sequences, output=tmp_path / "disk", **models, **OPTIONS)
    student = AutoModelForCausalLM.from_pretrained(models["student"], dtype=torch.float32)
    teacher = AutoModelForCausalLM.from_pretrained(models["teacher"]["path"], dtype=torch.float32)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    options = {"teacher": teacher, "tokenizer": build_tiny_tokenizer(), "output": tmp_path / "run"}
    run = distill(sequences, student=student, **options, **OPTIONS)
    assert _same(run, expected)
    assert all(torch.equal(before[name], w) for name, w in student.state_dict().items())
    assert read_yaml(run.path / "run.yaml")["student"]["path"] == "<model in memory>"
    assert distill(sequences, student=student, **options, **OPTIONS).manifest == run.manifest
    with torch.no_grad():
        next(student.parameters()).view(-1)[0] += 1
    with pytest.raises(RunError, match="student changed"):
        distill(sequences, student=student, **options, **OPTIONS)
    with pytest.raises(ConfigError, match="tokenizer is required with a student in memory"):
        distill(sequences, student=student, teacher=teacher, output=tmp_path / "no", **OPTIONS)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("traces.jsonl", {}, "data must be in memory; got the path 'traces.jsonl'"),
        ([1, 2], {}, "data must hold sequences, examples, rows; got int"),
        (build_traces(2), {}, "got Trace. Read a file with load_traces and render"),
        ([], {"render": {"system_prompt": "drop"}}, "render and traces go with rows"),
        ([{}], {"kd_ratio": 1.0}, "training.kd_ratio is not a known key"),
        ([{}], {"loss": {"kd_ration": 1.0}}, "loss.kd_ration is not a known key"),
        ([{}], {"student": 3}, "student must be a path, a hub id, keys of run.yaml or a causal"),
    ],
)
def test_a_wrong_argument_is_one_line(
    tmp_path: Path, models: dict[str, Any], data: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        distill(data, output=tmp_path / "run", **{**models, **OPTIONS, **options})


def test_a_mixed_list_is_refused(tmp_path: Path, models: dict[str, Any]) -> None:
    sequences = render(build_traces(2), build_tiny_tokenizer())
    with pytest.raises(ConfigError, match="data must be of one kind; got sequences and dict"):
        distill([*sequences, {}], output=tmp_path / "run", **models, **OPTIONS)
