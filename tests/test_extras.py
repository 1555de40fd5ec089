"""What a run needs besides leadspan is known before a model is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from leadspan import extras
from leadspan.config import RunConfig
from leadspan.errors import ConfigError
from leadspan.extras import check_extras, check_tracker, iter_missing
from leadspan.training.run import train


def config(**parts: Any) -> RunConfig:
    content = {
        "student": {"path": "s"},
        "traces": {"path": "t"},
        "training": {"steps": 1},
        "loss": {"kd_ratio": 0.5 if "teacher" in parts else 0},
    }
    return RunConfig.model_validate({**content, **parts})


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "trackio", "tensorboard", "peft", "bitsandbytes", "openai", "vllm"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(extras, "own_device", lambda: "cuda")


SERVER = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"tracking": {"tracker": "wandb"}},
            'tracking.tracker wandb needs wandb. pip install "leadspan[track]"',
        ),
        (
            {"student": {"path": "s", "lora": {}}},
            'student.lora needs peft. pip install "leadspan[lora]"',
        ),
        (
            {"teacher": {"path": "t", "quantization": "4bit"}},
            'teacher.quantization 4bit needs bitsandbytes. pip install "leadspan[quantization]"',
        ),
        (
            {"teacher": {"path": "t", "endpoint": SERVER}},
            'teacher.endpoint needs openai. pip install "leadspan[endpoint]"',
        ),
        (
            {"evaluation": {"backend": "vllm", "benchmarks": [{"path": "gsm8k"}]}},
            'evaluation.backend vllm needs vllm. pip install "leadspan[vllm]"',
        ),
        ({"evaluation": {"backend": "vllm"}}, None),
        ({"teacher": {"path": "t", "quantization": "4bit"}, "loss": {"kd_ratio": 0}}, None),
    ],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(parts: dict[str, Any], says: str | None) -> None:
    assert list(iter_missing(config(**parts))) == ([says] if says else [])


def test_all_that_is_missing_is_said_before_anything_is_read(tmp_path: Path) -> None:
    run = config(tracking={"tracker": "trackio"}, student={"path": "s", "lora": {}})
    with pytest.raises(ConfigError) as error:
        train(run, tmp_path / "run")
    assert len(str(error.value).splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_what_needs_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "own_device", lambda: "cpu")
    packed = config(student={"path": "s", "attention": "flex_attention"})
    with pytest.raises(ConfigError, match=r"student\.attention flex_attention needs a GPU"):
        check_extras(packed)


@pytest.mark.parametrize(
    ("environment", "netrc", "has_key"),
    [
        ({}, "", False),
        ({"WANDB_API_KEY": "k"}, "", True),
        ({"WANDB_MODE": "offline"}, "", True),
        ({"WANDB_MODE": "online"}, "", False),
        ({}, "machine api.wandb.ai login user password k", True),
        ({}, "machine elsewhere login user password k", False),
        ({}, "machine machine machine", False),
        ({"WANDB_BASE_URL": "https://wandb.mine"}, "machine wandb.mine login u password k", True),
    ],
)
def test_wandb_without_a_key_is_said_before_it_asks(
    environment: dict[str, str],
    netrc: str,
    has_key: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("wandb")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if has_key:
        check_tracker("wandb")
        return
    with pytest.raises(ConfigError, match=r"wandb needs a key.*WANDB_MODE=offline"):
        check_tracker("wandb")
