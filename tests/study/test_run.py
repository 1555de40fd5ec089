"""One run: its scores reach the card and the tracker, and the card's own snippet loads what was exported."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.study.run import run

from .test_sweep import write_traces


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """A LoRA run of three steps, not evaluated."""
    pytest.importorskip("peft")
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    folder = tmp_path_factory.mktemp("run")
    content = {
        "student": {"path": str(tiny_student), "lora": {"rank": 2}},
        "traces": {"path": str(write_traces(folder / "traces.jsonl"))},
        "loss": {"kd_ratio": 0},
        "training": {"steps": 3, "bf16": False},
        "tracking": {"tracker": "tensorboard"},
    }
    run(validate(RunConfig, content, "test"), folder / "mine")
    return folder / "mine"


def test_an_evaluation_reaches_card_and_tracker(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    card = trained / "student" / "README.md"
    assert "Not evaluated." in card.read_text(encoding="utf-8")
    problems = trained.parent / "problems.jsonl"
    problems.write_text('{"problem": "1+1?", "gold": "2"}\n{"problem": "2+3?", "gold": "5"}\n')
    short = ("--set", "evaluation.sampling.max_new_tokens=4", "--set", "evaluation.dtype=float32")
    found = CliRunner().invoke(
        app, ["evaluate", str(trained), "--benchmark", str(problems), *short]
    )
    assert found.exit_code == 0, found.output
    for folder in ("student", "adapter"):
        text = (trained / folder / "README.md").read_text(encoding="utf-8")
        assert "Not evaluated." not in text
        assert re.search(r"\| problems \| 0\.\d{3} \|", text), folder
    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("evaluation/accuracy")] == [3]
    assert events.Scalars("evaluation/accuracy/problems")


@pytest.mark.parametrize("folder", ["student", "adapter"])
def test_the_snippet_of_the_card_runs(
    trained: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (trained / folder / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(trained / folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(snippet.replace("2048", "8"), {})
    assert printed.getvalue()
