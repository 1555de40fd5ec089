"""Trackers get what metrics.jsonl gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.runs import RunFolder
from leadspan.training.run import train
from leadspan.training.tracking import open_tracker
from tests.study.test_sweep import write_traces


def test_tensorboard_holds_the_losses_of_the_metrics(tmp_path: Path, tiny_student: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    content = {
        "student": {"path": str(tiny_student)},
        "traces": {"path": str(write_traces(tmp_path / "traces.jsonl"))},
        "loss": {"kd_ratio": 0},
        "training": {"steps": 3, "bf16": False},
        "tracking": {"tracker": "tensorboard"},
    }
    train(validate(RunConfig, content, "test"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    seen = [event.value for event in events.Scalars("train/loss")]
    records = RunFolder(tmp_path / "run").read_metrics()
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert seen == pytest.approx(losses)
    assert len(seen) == 3


def test_a_tracker_that_is_not_installed_says_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with (
        pytest.raises(ConfigError, match=r'pip install "leadspan\[track\]"'),
        open_tracker("wandb", tmp_path, "project", {}),
    ):
        pass
