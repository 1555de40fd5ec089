"""Local jobs: each on its own GPUs, and none touches what another process runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.runs import is_held, lock_folder
from leadspan.study.launch import (
    LocalJobs,
    devices_of_slots,
    run_points,
    threads_of_a_job,
    visible_devices,
)
from leadspan.study.sweep import is_finished, prepare_sweep, record_failure, run_and_record
from tests.study.test_sweep import tiny_sweep


@pytest.mark.parametrize(("allowed", "num_jobs", "each"), [(1, 1, 1), (4, 2, 2), (2, 3, 1)])
def test_jobs_share_the_threads_that_this_process_may_use(
    allowed: int, num_jobs: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    assert threads_of_a_job(num_jobs) == each


@pytest.mark.parametrize(
    ("named", "num_devices", "visible"),
    [
        (None, 0, []),
        (None, 2, ["0", "1"]),
        ("2,5", 2, ["2", "5"]),
        (" 2, 5 ", 2, ["2", "5"]),
        ("GPU-8932f937,MIG-5c1a", 2, ["GPU-8932f937", "MIG-5c1a"]),
        ("0,9", 1, ["0"]),
        ("1,-1,0", 1, ["1"]),
        ("", 0, []),
        ("-1", 0, []),
    ],
)
def test_devices_are_those_that_this_process_sees(
    named: str | None, num_devices: int, visible: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_devices)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == visible


@pytest.mark.parametrize(
    ("num_slots", "devices", "each", "expected"),
    [
        (2, [], 1, [None, None]),
        (1, ["0", "1"], 1, ["0"]),
        (2, ["0", "1"], 1, ["0", "1"]),
        (5, ["4", "6"], 1, ["4", "6", "4", "6", "4"]),
        (3, ["0", "1", "2", "3"], 2, ["0,1", "2,3", "0,1"]),
        (2, ["0", "1", "2"], 2, ["0,1", "0,1"]),
        (2, ["0"], 2, ["0", "0"]),
    ],
)
def test_slots_take_the_devices_in_turn(
    num_slots: int, devices: list[str], each: int, expected: list[str | None]
) -> None:
    assert devices_of_slots(num_slots, devices, each) == expected


def test_jobs_side_by_side_see_a_device_each(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devices need not exist: what counts is what the children are given."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    grids = [{"lsp": [0.4, 0.6, 0.8, 1.0]}]
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), tmp_path)
    assert run_points(points, tmp_path, LocalJobs(2)) == []
    logs = [(point.folder(tmp_path) / "log.txt").read_text() for point in points]
    given = [re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", log) for log in logs]
    assert all(len(devices) == 1 for devices in given)
    assert {devices[0] for devices in given[:2]} == {"3", "5"}
    assert {devices[0] for devices in given} == {"3", "5"}


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("part", [".", "evaluation"], ids=["training", "evaluating"])
def test_a_point_that_runs_elsewhere_is_left_alone(
    part: str,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher), tmp_path)
    live = points[0].folder(tmp_path)
    with lock_folder(live / part):
        before = _contents(live)
        assert run_points(points, tmp_path, LocalJobs(1)) == [points[0]]
        assert _contents(live) == before
        said = capsys.readouterr().err
        assert "1 running elsewhere" in said
        assert "0 failed" in said
        assert f"{points[0].name} running elsewhere" in said
    assert is_finished(points[1], tmp_path)
    assert run_points(points, tmp_path, LocalJobs(1)) == []


def test_a_lock_met_after_the_look_is_no_failure(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher), tmp_path)
    live = points[0].folder(tmp_path)
    with lock_folder(live), pytest.raises(Exception, match="another process is writing here"):
        run_and_record(live)
    assert not (live / "failed.json").exists()


HOLD = """
import sys
from pathlib import Path
from leadspan.runs import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_verb_says_what_runs_elsewhere(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher)
    file, out = tmp_path / "sweep.yaml", tmp_path / "out"
    file.write_text(json.dumps(sweep.model_dump(mode="json")))
    points = prepare_sweep(sweep, out)
    record_failure(points[1].folder(out), ValueError("of an earlier call"))
    command = [sys.executable, "-c", HOLD, str(points[0].folder(out))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        result = CliRunner().invoke(app, ["sweep", str(file), "--output", str(out)])
        assert is_held(points[0].folder(out))
        assert holder.stdin is not None
        holder.stdin.close()
    assert result.exit_code == 1
    assert f"{points[0].folder(out)}: running elsewhere" in result.stderr
    assert "failed:" not in result.stderr
    assert "1 of 2 runs done" in result.stdout
    (shown,) = [line.split() for line in result.stdout.splitlines() if points[1].name in line]
    assert shown[0] == points[1].name
    assert float(shown[-1].replace(",", "")) >= 0  # the seconds of its training
    time.sleep(0.1)
    assert not is_held(points[0].folder(out))
