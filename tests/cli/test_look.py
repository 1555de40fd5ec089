"""`leadspan runs`, `show` and `tasks`: what there is, on 80 columns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.errors import RunError
from leadspan.registry import registered_names
from leadspan.runs import lock_folder, write_json_atomic
from tests.cli.made_up_runs import begin_run, finish_run, write_point


def _say(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in every state."""
    folder = tmp_path_factory.mktemp("runs")
    finish_run(folder / "whole")
    finish_run(folder / "scored", accuracy=0.6)
    begin_run(folder / "halfway")
    damaged = finish_run(folder / "damaged")
    damaged.manifest_path.write_text("{")
    rollout = {"share": 1.0, "horizon": 0.5}
    validation = {"path": "traces.jsonl", "validation_fraction": 0.05}
    begin_run(folder / "sampled", rollout=rollout, traces=validation, loss={"kd_ratio": 1.0})
    begin_run(folder / "sweep" / "points" / "broken")
    broken = folder / "sweep" / "points" / "broken"
    write_json_atomic(broken / "failed.json", {"error": "the loss is nan"})
    write_point(folder / "sweep" / "points" / "later", "train")
    write_point(folder / "sweep" / "points" / "base", "base")
    finish_run(folder / ".hidden")
    return folder


def test_states(folder: Path) -> None:
    with lock_folder(folder / "halfway"):
        running = {run["name"]: run["state"] for run in json.loads(_say("runs", folder, "--json"))}
    found = {run["name"]: run for run in json.loads(_say("runs", folder, "--json"))}
    assert running["halfway"] == "running"
    assert {name: run["state"] for name, run in found.items()} == {
        "damaged": "failed",
        "halfway": "stopped",
        "sampled": "stopped",
        "scored": "complete",
        "sweep/points/base": "waiting",
        "sweep/points/broken": "failed",
        "sweep/points/later": "waiting",
        "whole": "complete",
    }
    assert found["sweep/points/broken"]["error"] == "the loss is nan"
    assert "manifest.json: not JSON" in found["damaged"]["error"]
    halfway, scored, sampled = found["halfway"], found["scored"], found["sampled"]
    assert (halfway["step"], halfway["train_seconds"], halfway["val_loss"]) == (3, 90.0, 1.5)
    assert halfway["train_loss"] == pytest.approx(4 / 3)
    assert (scored["lsp"], scored["accuracy"], scored["val_loss"]) == (0.5, 0.6, 1.25)
    assert sampled["lsp"] is None
    assert found["sweep/points/base"]["kind"] == "base"


def test_the_table_fits_80_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadspan.progress.FILE_WIDTH", 80)
    lines = _say("runs", folder).splitlines()
    row = next(line for line in lines if line.startswith("scored"))
    assert " ".join(row.split()) == "scored complete 0.5 0.750 0.60 [0.50, 0.70] 1.5 h 2.5e+15"
    assert next(line for line in lines if line.startswith("halfway")).split()[1:3] == [
        "stopped",
        "3",
    ]
    assert "  later" in "\n".join(lines)
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("damaged:"))]
    assert max(map(len, table)) <= 80
    assert "sweep/points/broken: the loss is nan" in lines


def test_one_run_is_a_table_too(folder: Path) -> None:
    (run,) = json.loads(_say("runs", folder / "whole", "--json"))
    assert run["name"] == run["path"] == str(folder / "whole")


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    assert "no runs. leadspan train" in _say("runs", tmp_path)
    with pytest.raises(RunError, match="must be a folder with runs in it"):
        _say("runs", tmp_path / "nowhere")


def test_one_screen_about_a_run(folder: Path) -> None:
    said = _say("show", folder / "scored")
    lines = said.splitlines()
    assert len(lines) <= 24
    is_path = re.compile(r"\S{60,}")  # a path is never broken
    assert all(len(line) <= 80 or is_path.search(line) for line in lines)
    shown = " ".join(said.split())
    for part in (
        "state complete, step 8",
        "student Qwen/Qwen3-0.6B-Base",
        "teacher Qwen/Qwen3-8B",
        "trained on the first 50 % of each sequence",
        "loss 0.5 cross-entropy + 0.5 forward_kl",
        "sequences 1,200 trained on, 60 held out, 3 empty_cot",
        "losses training 0.7500, validation 1.2500 (step 6)",
        "cost 1.5 h, 2.5e+15 FLOPs, 17.25 GiB at the peak, 123,456 tokens",
        "accuracy gsm8k 0.600 [0.500, 0.700], 200 problems, closed 0.95",
        "made with leadspan 0.1.0, torch 2.13.0, x86_64 CPU",
    ):
        assert part in shown
    assert "next" not in said


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("halfway", "next leadspan train {run}/run.yaml --output {run}"),
        ("whole", "next leadspan evaluate {run} --benchmark gsm8k"),
        ("sweep/points/broken", "state failed, step 3: the loss is nan"),
        ("sweep/points/base", "model a/base, evaluated as it is"),
        ("sampled", "rollouts 100% of each step, horizon 0.5"),
    ],
)
def test_what_comes_next(run: str, says: str, folder: Path) -> None:
    shown = " ".join(_say("show", folder / run).split())
    assert says.format(run=folder / run) in shown


def test_a_run_as_data(folder: Path) -> None:
    shown = json.loads(_say("show", folder / "scored", "--json"))
    assert shown["overview"]["state"] == "complete"
    assert shown["config"]["truncation"]["lsp"] == 0.5
    assert shown["manifest"]["train_loss"] == 0.75
    assert shown["evaluation"]["benchmarks"][0]["name"] == "gsm8k"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be the folder of a run"):
        _say("show", tmp_path)


def test_benchmarks_by_name() -> None:
    assert sorted(json.loads(_say("tasks", "--json"))) == registered_names()
    lines = _say("tasks").splitlines()
    assert [line.split()[0] for line in lines[: len(registered_names())]] == registered_names()
    assert any(line.split() == ["gsm8k", "openai/gsm8k", "main", "test"] for line in lines)
