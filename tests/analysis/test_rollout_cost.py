"""The planned cost of rollouts against what runs count that write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from leadspan.analysis.cost import predict_cost, stated_workload
from leadspan.analysis.plan import plan_run, plan_stated
from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.models import load_tokenizer
from leadspan.runs import RunFolder
from leadspan.sizes import kv_cache_bytes, shape_of
from leadspan.training.run import train
from tests.training.test_rollouts import END, content, rollouts_of, write_sums

COUNTED = (
    "steps",
    "tokens_forwarded",
    "tokens_scored",
    "tokens_sampled",
    "rollout_flops",
    "teacher_flops",
    "train_flops",
)


@pytest.fixture(scope="module")
def endless_student(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """It never likes the end token best: sampled greedily, every rollout reaches its horizon."""
    folder = tmp_path_factory.mktemp("endless") / "student"
    shutil.copytree(tiny_student, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_student)
    with torch.no_grad():
        model.get_input_embeddings().weight[END] = 0.0
        model.get_output_embeddings().weight[END] = 0.0
    model.save_pretrained(folder)
    return folder


def _content(student: Path, teacher: Path, traces: Path, **rollout: Any) -> dict[str, Any]:
    keys = content(student, teacher, traces, top_k=1, **rollout)
    keys["training"]["learning_rate"] = 1e-12
    keys["traces"]["validation_fraction"] = 0.0
    return keys


def _write_alike(path: Path) -> Path:
    """Sums whose prompts and chains of thought are all of one length."""
    rows = [
        {"id": f"sum-{n}", "prompt": f"{n}+1?", "cot": f"{n}+1={n + 1}.", "answer": str(n + 1)}
        for n in range(10, 40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _planned_and_counted(keys: dict[str, Any], folder: Path) -> tuple[dict[str, Any], ...]:
    """The plan's row of a run, and the manifest of the run."""
    config = validate(RunConfig, keys, "test")
    train(config, folder)
    assert not any(rollout["ended"] for rollout in rollouts_of(folder))
    (row,) = plan_run(config, load_tokenizer(config.student), lsps=[1.0]).to_json()["rows"]
    row["train_flops"] = row["student_flops"] + row["teacher_flops"]
    manifest = RunFolder(folder).manifest
    assert manifest["rollout_flops"] > 0
    planned, counted = ({name: each[name] for name in COUNTED} for each in (row, manifest))
    return planned, counted


@pytest.mark.parametrize("rollout", [{"horizon": 4}, {"horizon": 0.5}, {"prefix": 0.3}], ids=str)
def test_an_epoch_of_rollouts_of_every_length(
    rollout: dict[str, Any], endless_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    """24 prompts, 6 steps of 4: each prompt once."""
    traces = write_sums(tmp_path / "traces.jsonl", 24)
    keys = _content(endless_student, tiny_teacher, traces, **rollout)
    planned, counted = _planned_and_counted(keys, tmp_path / "run")
    assert planned == counted


@pytest.mark.parametrize(
    "change",
    [
        {"rollout": {"num_samples": 2}},
        {"rollout": {"share": 0.5}},
        {"training": {"steps": None, "budget": {"flops": 4e8}}},
        {"student": {"attention": "eager"}},
    ],
    ids=str,
)
def test_rollouts_of_prompts_that_are_alike(
    change: dict[str, Any], endless_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    traces = _write_alike(tmp_path / "traces.jsonl")
    keys = _content(endless_student, tiny_teacher, traces, horizon=6)
    for part, settings in change.items():
        keys[part] = {**keys[part], **settings}
    planned, counted = _planned_and_counted(keys, tmp_path / "run")
    assert planned == counted


def test_a_horizon_that_grows_is_planned_at_its_mean(
    endless_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    """2, 3, 4, 5, 6 tokens; FLOPs bend a little, as each token looks back at all before it."""
    growing = {"horizon": 6, "horizon_start": 2, "schedule": "linear"}
    traces = _write_alike(tmp_path / "traces.jsonl")
    keys = _content(endless_student, tiny_teacher, traces, **growing)
    keys["training"]["steps"] = 5
    planned, counted = _planned_and_counted(keys, tmp_path / "run")
    assert planned["tokens_sampled"] == counted["tokens_sampled"] == 4 * 20
    assert planned == pytest.approx(counted, rel=2e-3)
    assert planned["rollout_flops"] < counted["rollout_flops"]


def _config(**rollout: Any) -> RunConfig:
    keys: dict[str, Any] = {
        "teacher": {"path": "Qwen/Qwen3-8B"},
        "student": {"path": "Qwen/Qwen3-0.6B-Base"},
        "traces": {"path": "traces.jsonl", "validation_fraction": 0.1},
        "loss": {"kd_ratio": 1.0},
        "rollout": rollout,
        "training": {"steps": 10},
    }
    return validate(RunConfig, keys, "test")


def test_many_rollouts_side_by_side_are_the_peak() -> None:
    """Keys in float32 and values in bfloat16, as many as max_concurrent, of prompt and horizon."""
    config = _config(horizon=16_000, refresh_every_steps=100, max_concurrent=512)
    student = shape_of(config.student.path)
    workload = stated_workload(100, 1000, 100, config, 1.0)
    memory = predict_cost(config, workload, student, []).memory
    assert memory.rollouts == kv_cache_bytes(student, 512, 16_100, 3) > 500e9
    assert (memory.gradients, memory.activations) == (0, 0)
    few = _config(horizon=500)
    workload = stated_workload(100, 1000, 100, few, 1.0)
    assert predict_cost(few, workload, student, []).memory.rollouts == 0
    elsewhere = _config(horizon=16_000, max_concurrent=512, backend="vllm")
    workload = stated_workload(100, 1000, 100, elsewhere, 1.0)
    assert predict_cost(elsewhere, workload, student, []).memory.rollouts == 0


def test_rollouts_are_planned_once_and_mixed_steps_at_every_lsp() -> None:
    whole = plan_stated(_config(horizon=0.5), 100, 1000, 100).to_json()
    assert [row["lsp"] for row in whole["rows"]] == [1.0]
    mixed = plan_stated(_config(horizon=0.5, share=0.5), 100, 1000, 50).to_json()
    assert len(mixed["rows"]) == 10
    assert len({row["rollout_flops"] for row in mixed["rows"]}) == 1
    assert mixed["rows"][0]["flops_ratio"] < 1


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"horizon": 0.5}, "or the horizon"),
        ({"horizon": 9, "horizon_start": 3, "schedule": "linear"}, "its mean over the training"),
        ({"horizon": 9, "horizon_start": 3, "schedule": "entropy"}, "the most it can"),
        ({"backend": "vllm"}, "leaves out what backend vllm takes"),
    ],
)
def test_what_a_plan_takes_for_granted_is_said(rollout: dict[str, Any], said: str) -> None:
    notes = plan_stated(_config(**rollout), 100, 1000, 100).notes
    assert any(said in note for note in notes)
    assert any("leave the writing of rollouts out" in note for note in notes)


@pytest.mark.parametrize("is_rollout", [True, False])
def test_several_teachers_and_a_prompt_of_their_own(
    is_rollout: bool, endless_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    """Each row costs what its own teacher costs, behind the prompt that this teacher reads."""
    traces = write_sums(tmp_path / "traces.jsonl", 24)
    rows = [json.loads(line) for line in traces.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "task": "ab"[n % 3 == 0]}) for n, row in enumerate(rows)]
    traces.write_text("\n".join(lines), encoding="utf-8")
    keys = _content(endless_student, tiny_teacher, traces, horizon=4)
    del keys["teacher"]
    keys["teachers"] = [
        {"path": str(tiny_teacher), "where": {"task": "a"}},
        {"path": str(endless_student), "where": {}, "system_prompt": "It is {answer}."},
    ]
    if not is_rollout:
        del keys["rollout"]
    config = validate(RunConfig, keys, "test")
    tokenizer = load_tokenizer(config.student)
    (planned,) = plan_run(config, tokenizer, lsps=[1.0]).points
    train(config, tmp_path / "run")
    manifest = RunFolder(tmp_path / "run").manifest
    assert planned.teacher_flops == manifest["teacher_flops"] > 0
    assert planned.rollout_flops == manifest["rollout_flops"]
    alone = validate(RunConfig, {**keys, "teachers": keys["teachers"][1:]}, "test")
    (other,) = plan_run(alone, tokenizer, lsps=[1.0]).points
    assert other.teacher_flops != planned.teacher_flops
    assert other.memory.teacher < planned.memory.teacher
