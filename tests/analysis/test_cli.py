"""`leadspan analyze`, `advise` and `plan` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from leadspan.cli import analyze
from leadspan.errors import ConfigError
from tests.analysis.test_analyze import _write_world

app = typer.Typer()
analyze.register(app)


@pytest.fixture
def student(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    folder = tmp_path / "student"
    tiny_tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"intermediate_size": 64, "vocab_size": 48, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", **sizes, **more}))
    return folder


@pytest.fixture
def run_yaml(tmp_path: Path, student: Path) -> Path:
    traces = _write_world(tmp_path / "w.jsonl")
    path = tmp_path / "run.yaml"
    path.write_text(
        f"student: {{path: {student}}}\ntraces: {{path: {traces}}}\nloss: {{kd_ratio: 0}}\n"
        "training: {steps: 10}\n"
    )
    return path


def _call(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def test_analyze_json(tmp_path: Path, student: Path) -> None:
    traces = _write_world(tmp_path / "w.jsonl")
    rows = tmp_path / "rows.jsonl"
    output = _call("analyze", traces, "--tokenizer", student, "--json", "--traces", rows)
    found = json.loads(output)
    keys = {"traces", "derived", "not_found", "gold_in_prompt", "no_gold", "median_fraction"}
    assert keys | {"survival"} <= found.keys()
    assert found["survival"]["0.5"] >= found["survival"]["0.4"]
    assert len(rows.read_text().splitlines()) == found["traces"] == 40


def test_analyze_text(tmp_path: Path, student: Path) -> None:
    traces = _write_world(tmp_path / "w.jsonl")
    output = _call("analyze", traces, "--tokenizer", student)
    assert "derived 40" in output
    assert "share of derivations" in output
    assert "95 % from" in output
    assert "chat template: the tokenizer's own" in output


def test_advise_json(tmp_path: Path, student: Path) -> None:
    late = _write_world(tmp_path / "late.jsonl", late=True)
    found = json.loads(_call("advise", late, "--tokenizer", student, "--json"))
    assert found["fractional_cut_ok"] is False
    assert found["recommended_lsp"] is None
    assert found["reasons"]


@pytest.mark.parametrize(
    "setting", ["seed=0", "truncation.policy=derivation", "truncation.lsp_end=1.0"]
)
def test_advise_on_a_run(run_yaml: Path, setting: str) -> None:
    found = json.loads(_call("advise", run_yaml, "--json", "--set", setting))
    assert found["fractional_cut_ok"] is True
    assert 0 < found["saving"]["flops"] < 1
    lines = _call("advise", run_yaml).splitlines()
    assert [line for line in lines if "use lsp" in line] == lines[-1:], "the order comes last"


def test_on_policy_runs_are_advised_on_and_planned(run_yaml: Path, student: Path) -> None:
    more = (f"teacher.path={student}", "loss.kd_ratio=1", "rollout.horizon=0.5")
    changes = [part for setting in more for part in ("--set", setting)]
    found = json.loads(_call("advise", run_yaml, "--json", *changes))
    assert 0 < found["saving"]["flops"] < 1
    cost = found["flops_per_scored_token"]
    assert cost["cached"] < cost["live"]
    assert 0 < cost["writing"] < cost["on_policy"]
    assert "on-policy at horizon" in _call("advise", run_yaml, *changes)
    (row,) = json.loads(_call("plan", run_yaml, "--json", *changes))["rows"]
    assert row["tokens_sampled"] == row["tokens_scored"] > 0
    output = _call("plan", run_yaml, *changes)
    assert "sampled" in output
    assert "seconds leave the writing of rollouts out" in output


def test_a_teacher_of_unknown_sizes_is_not_compared(run_yaml: Path, tmp_path: Path) -> None:
    cache = ("--set", f"teacher.path={tmp_path / 'gone'}", "--set", f"teacher.cache={tmp_path}")
    found = json.loads(_call("advise", run_yaml, "--json", *cache, "--set", "loss.kd_ratio=0.5"))
    assert 0 < found["saving"]["flops"] < 1
    assert "flops_per_scored_token" not in found


def test_plan(run_yaml: Path) -> None:
    found = json.loads(_call("plan", run_yaml, "--json", "--peak-tflops", "10"))
    assert len(found["rows"]) == 10
    assert found["rows"][0]["seconds"] <= found["rows"][-1]["seconds"]
    shown = _call("plan", run_yaml).splitlines()
    (header,) = [line.split() for line in shown if line.startswith(" lsp")]
    assert header == ["lsp", "kept", "tokens", "FLOPs", "ratio", "GiB", "GiB", "GiB", "seconds"]
    assert max(map(len, shown)) <= 80


def test_plan_of_stated_data(run_yaml: Path) -> None:
    output = _call("plan", run_yaml, "--json", "--num-traces", "1000", "--tokens", "3000")
    assert json.loads(output)["traces"] == 1000


def test_a_file_needs_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --tokenizer"):
        _call("analyze", _write_world(tmp_path / "w.jsonl"))


def test_set_reaches_traces_only(tmp_path: Path, student: Path) -> None:
    traces = _write_world(tmp_path / "w.jsonl")
    call = ("analyze", traces, "--tokenizer", student, "--json", "--set")
    assert json.loads(_call(*call, "traces.sample=7"))["traces"] == 7
    with pytest.raises(ConfigError, match=r"without a run\.yaml only traces\.\*"):
        _call(*call, "training.steps=7")
