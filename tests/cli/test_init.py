"""`leadspan init`: a run for a GPU, or a first run that a CPU gets through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.config_io import load_run_config


@pytest.mark.parametrize("has_gpu", [True, False], ids=["gpu", "cpu"])
def test_settings_follow_the_machine(
    has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    path = tmp_path / "run.yaml"
    said = CliRunner().invoke(app, ["init", str(path)], catch_exceptions=False).output
    config = load_run_config(path)
    assert config.teacher is not None
    assert ("within 10 minutes" in said) is not has_gpu
    assert (config.training.epochs == 2) is has_gpu
    if not has_gpu:
        assert config.training.steps is not None
        assert config.truncation.max_tokens is not None
        assert config.traces.sample is not None
        most = config.training.steps * config.training.batch_size * config.truncation.max_tokens
        assert most <= 4096
        assert config.teacher.path == "Qwen/Qwen3-1.7B"


def test_named_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "run.yaml"
    arguments = ["init", str(path), "--teacher", "a/b", "--student", "c/d", "--traces", "t.jsonl"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    config = load_run_config(path)
    assert config.teacher is not None
    assert (config.teacher.path, config.student.path, config.traces.path) == (
        "a/b",
        "c/d",
        "t.jsonl",
    )
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code != 0


@pytest.mark.parametrize("has_gpu", [True, False], ids=["gpu", "cpu"])
def test_on_policy_settings_are_a_valid_run(
    has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    path = tmp_path / "run.yaml"
    CliRunner().invoke(app, ["init", str(path), "--on-policy"], catch_exceptions=False)
    config = load_run_config(path)
    assert config.rollout is not None
    assert config.rollout.horizon == (0.5 if has_gpu else 64)
    assert config.loss.kd_ratio == 1.0
