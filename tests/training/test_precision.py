"""What `auto` chooses for a run is said, recorded and kept when the run goes on elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadspan import distill
from leadspan.training.run import TrainedRun
from tests.training.test_train import _sequences


def train_with(
    units: bool, folder: Path, student: Path, teacher: Path, patch: pytest.MonkeyPatch
) -> TrainedRun:
    patch.setattr("leadspan.precision.has_bf16_units", lambda device: units)
    return distill(_sequences()[:8], student=student, teacher=teacher, output=folder, steps=1)


@pytest.mark.parametrize("units", [True, False])
def test_auto_is_said_and_recorded(
    units: bool,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train_with(units, tmp_path / "run", tiny_student, tiny_teacher, monkeypatch)
    said = capsys.readouterr().err
    assert said.count("training.bf16 auto: " + ("bfloat16" if units else "float32")) == 1
    assert run.manifest["bf16"] is units
    held = json.loads((run.path / "environment.json").read_text())["precision"]
    assert held == {"bf16": units, "teacher_dtype": "bfloat16" if units else "float32"}


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_goes_on_in_the_precision_it_was_begun_in(
    begun: bool,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train_with(begun, tmp_path / "run", tiny_student, tiny_teacher, monkeypatch)
    (run.path / "manifest.json").unlink()
    capsys.readouterr()
    again = train_with(not begun, run.path, tiny_student, tiny_teacher, monkeypatch)
    assert again.manifest["bf16"] is begun
    assert "was begun with" in capsys.readouterr().err
