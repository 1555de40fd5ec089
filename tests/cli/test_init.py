"""`leadspan init`: a run that fits a card, or a first run that a CPU gets through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

import leadspan.precision
from leadspan.analysis.cost import DEVICE_SLACK_GIB, FRAGMENTATION
from leadspan.analysis.memory import GIB
from leadspan.analysis.plan import plan_stated
from leadspan.cli.main import app
from leadspan.config import RunConfig
from leadspan.config_io import load_run_config
from leadspan.errors import ConfigError
from leadspan.sizes import QWEN3_CONFIGS
from tests.conftest import save_tiny_model


def _has_gpu(patched: pytest.MonkeyPatch, has_gpu: bool, gib: float = 80.0) -> None:
    patched.setattr(torch.cuda, "is_available", lambda: has_gpu)
    patched.setattr(leadspan.precision, "memory_bytes", lambda _: int(gib * GIB))


def _init(path: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["init", str(path), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("has_gpu", [True, False], ids=["gpu", "cpu"])
def test_settings_follow_the_machine(
    has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has_gpu(monkeypatch, has_gpu)
    path = tmp_path / "run.yaml"
    said = _init(path)
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
    _has_gpu(monkeypatch, has_gpu)
    path = tmp_path / "run.yaml"
    _init(path, "--on-policy")
    config = load_run_config(path)
    assert config.rollout is not None
    assert config.rollout.horizon == (0.5 if has_gpu else 64)
    assert config.loss.kd_ratio == 1.0


SHAPES = {
    "small student": ("Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-1.7B"),
    "default pair": ("Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-8B"),
    "large teacher": ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-32B"),
    "large student": ("Qwen/Qwen3-8B", "Qwen/Qwen3-14B"),
}


def _predicted_gib(config: RunConfig, lsp: float) -> float:
    """What a card must have, by the table of `plan`."""
    assert config.traces.max_tokens is not None
    plan = plan_stated(config, 64, config.traces.max_tokens, 150, lsps=(lsp,))
    return plan.points[0].memory.total / GIB * FRAGMENTATION + DEVICE_SLACK_GIB


@pytest.mark.parametrize("card", [24.0, 80.0])
@pytest.mark.parametrize("wishes", [(), ("--lora",), ("--full",)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_fits_the_card_that_is_named(
    shape: str, wishes: tuple[str, ...], card: float, tmp_path: Path
) -> None:
    student, teacher = SHAPES[shape]
    path = tmp_path / "run.yaml"
    said = _init(path, "--card", f"{card:g}", "--student", student, "--teacher", teacher, *wishes)
    config = load_run_config(path)
    needed = max(_predicted_gib(config, lsp / 10) for lsp in range(1, 11))
    assert 1.5 < needed <= card
    assert f"predicted to need {needed:.1f} GiB" in said
    assert f"predicted to need {needed:.1f} GiB" in path.read_text()
    assert ("--lora" not in wishes) or config.student.lora is not None
    assert config.teacher is not None
    assert ("leadspan capture" in said) is (config.teacher.cache is not None)


def test_an_on_policy_run_fits_without_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    said = _init(path, "--card", "24", "--on-policy")
    config = load_run_config(path)
    assert config.teacher is not None
    assert config.teacher.cache is None
    assert config.student.lora is not None
    assert "LoRA: training every weight would need" in said
    assert _predicted_gib(config, 1.0) <= 24


@pytest.mark.parametrize("card", [16.0, 24.0, 80.0])
def test_the_evaluation_fits_too(card: float, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    said = _init(path, "--card", f"{card:g}")
    evaluation = load_run_config(path).evaluation
    config = QWEN3_CONFIGS["Qwen/Qwen3-0.6B"]
    tokens = evaluation.batch_size * (150 + evaluation.sampling.max_new_tokens)
    numbers = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    cache = 2 * tokens * numbers
    assert cache / GIB < card - 1.2
    assert ("answers side by side in the evaluation: 64 would" in said) is (card < 80)
    assert (evaluation.batch_size == 64) is (card == 80)
    assert 2 * cache / GIB > card - 4 or card == 80  # no more was given up than had to be


def test_nothing_is_given_up_where_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    said = _init(path, "--card", "1000")
    config = load_run_config(path)
    assert config.teacher is not None
    assert config.teacher.cache is None
    assert config.student.lora is None
    assert not config.training.gradient_checkpointing
    assert "would need" not in said


def test_every_setting_that_was_given_up_would_not_have_fitted(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    student, teacher = SHAPES["large student"]
    said = _init(path, "--card", "80", "--student", student, "--teacher", teacher)
    needs = [line.split("would need ")[1] for line in said.splitlines() if "would need" in line]
    assert len(needs) >= 2
    assert all(float(need.removesuffix(" GiB")) > 80 for need in needs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--card", "24", "--student", "a/b"), "a/b: must be a folder with config.json"),
        (("--card", "24", "--teacher", "a/b"), "a/b: must be a folder with config.json"),
        (("--card", "12", "--student", "Qwen/Qwen3-14B"), "--card 12: must hold the run; "),
        (("--card", "0"), "--card must be above 0; got 0."),
    ],
    ids=str,
)
def test_what_cannot_be_sized_is_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as raised:
        CliRunner().invoke(app, ["init", str(path), *arguments], catch_exceptions=False)
    assert says in str(raised.value)
    assert not path.exists()


def test_an_unknown_model_on_a_gpu_is_written_without_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has_gpu(monkeypatch, True)
    path = tmp_path / "run.yaml"
    said = _init(path, "--student", "a/b")
    assert "not sized for this GPU: a/b: must be" in said
    assert load_run_config(path).training.gradient_checkpointing


def test_a_folder_on_this_machine_is_sized(tmp_path: Path) -> None:
    student = save_tiny_model(tmp_path / "student", seed=1, hidden=32)
    teacher = save_tiny_model(tmp_path / "teacher", seed=2, hidden=48)
    path = tmp_path / "run.yaml"
    said = _init(path, "--card", "4", "--student", str(student), "--teacher", str(teacher))
    assert "predicted to need 1." in said


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize("wishes", [(), ("--on-policy",), ("--lora",)], ids=str)
def test_the_full_file_is_the_same_run_with_every_key(
    wishes: tuple[str, ...], tmp_path: Path
) -> None:
    short, full = tmp_path / "short.yaml", tmp_path / "full.yaml"
    _init(short, "--card", "80", *wishes)
    _init(full, "--card", "80", "--full", *wishes)
    assert load_run_config(full) == load_run_config(short)
    text = full.read_text()
    content = yaml.safe_load(text)
    assert set(content) == _keys(RunConfig)
    assert set(content["traces"]) == _keys(type(load_run_config(full).traces))
    for key in ("entropy_floor", "target_modules", "vllm_memory_fraction", "answer_column_x"):
        assert (f"{key}: " in text) is (key != "answer_column_x")
    assert "# Lead-Span Proportion: share of each sequence that is kept." in text


def test_the_parts_that_are_null_can_be_taken_out_of_their_comments(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    _init(path, "--card", "80", "--full")
    lines = path.read_text().splitlines()
    start = lines.index("  # answer_forcing:")
    block = [line.replace("  # ", "  ", 1) for line in lines[start : start + 5]]
    forced = yaml.safe_load("\n".join(block))["answer_forcing"]
    assert forced["max_new_tokens"] == 64


def test_an_editor_finds_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    _init(path, "--card", "80")
    first = path.read_text().splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    printed = CliRunner().invoke(app, ["schema"], catch_exceptions=False).output
    assert yaml.safe_load((tmp_path / name).read_text()) == yaml.safe_load(printed)
