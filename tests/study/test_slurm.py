"""Points as submitit jobs, on submitit's local executor; `tests/slurm/run.sh` does it on a real Slurm."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leadspan.config import SlurmConfig
from leadspan.runs import RunFolder
from leadspan.study.launch import run_points
from leadspan.study.slurm import PointJob, SlurmJobs
from leadspan.study.sweep import (
    Point,
    capture_and_record,
    is_finished,
    prepare_sweep,
    read_failure,
)
from tests.study.fake_slurm import FakeSlurm
from tests.study.test_sweep import tiny_sweep

submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")


def test_points_run_as_jobs_and_a_failed_one_is_recorded(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    grids = [{"lsp": [0.5], "student.path": [str(tiny_student), str(tmp_path / "nowhere")]}]
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), out)
    config = SlurmConfig(gpus=0, cpus=1, minutes=5)
    failed = run_points(points, out, SlurmJobs(config, "local"))
    assert [point.config.student.path for point in failed] == [str(tmp_path / "nowhere")]
    assert (failed[0].folder(out) / "failed.json").is_file()
    assert sum(is_finished(point, out) for point in points) == 1


def test_a_job_with_two_tasks_trains_on_two_ranks(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    """Two GPUs are asked for; where there are none, the two ranks train on the CPU."""
    out = tmp_path / "out"
    grids = [{"lsp": [0.5]}]
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), out)
    config = SlurmConfig(gpus=2, cpus=2, minutes=5)
    assert run_points(points, out, SlurmJobs(config, "local")) == []
    manifest = RunFolder(points[0].folder(out)).manifest
    assert manifest["num_ranks"] == 2


@pytest.mark.slow
def test_the_capture_is_a_job_before_the_runs_that_read_it(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grids = [{"lsp": [0.5, 1.0]}, {"lsp": [0.5], "kd_ratio": [0.0]}]
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids, capture={"k": 4})
    points = prepare_sweep(sweep, out)
    config = SlurmConfig(gpus=0, cpus=1, minutes=5)
    assert run_points(points, out, SlurmJobs(config, "local")) == []
    assert "the teacher's capture is job" in capsys.readouterr().err
    assert (out / "teacher_cache" / "manifest.json").is_file()
    assert RunFolder(points[0].folder(out)).manifest["teacher_tokens_forwarded"] == 0


@pytest.mark.slow
def test_a_capture_that_fails_is_the_reason_of_its_runs(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    grids = [{"lsp": [0.5]}, {"lsp": [0.5], "kd_ratio": [0.0]}]
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids, capture={"k": 4})
    base = {**sweep.base, "teacher": {"path": str(tmp_path / "nowhere")}}
    sweep = sweep.model_copy(update={"base": base})
    points = prepare_sweep(sweep, out)
    failed = run_points(points, out, SlurmJobs(SlurmConfig(gpus=0, cpus=1, minutes=5), "local"))
    assert failed == [points[0]], "plain fine-tuning needs no teacher"
    reason = read_failure(points[0].folder(out))
    assert reason.startswith("the teacher's capture failed: ")
    assert "nowhere" in reason


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Submissions are kept; nothing runs."""
    slurm = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{slurm.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("leadspan.study.slurm.SECONDS_BETWEEN_LOOKS", 0.1)
    return slurm


def _drive(points: list[Point], out: Path, slurm: FakeSlurm, num_jobs: int) -> None:
    """Drive a sweep until its jobs are submitted, then let them vanish."""
    with ThreadPoolExecutor(1) as pool:
        driver = pool.submit(run_points, points, out, SlurmJobs(SlurmConfig(gpus=2, minutes=5)))
        deadline = time.monotonic() + 60
        while len(slurm.queue()) < num_jobs and not driver.done() and time.monotonic() < deadline:
            time.sleep(0.05)
        slurm.clear()
        assert len(driver.result()) == len(points)


def test_runs_depend_on_the_capture_in_slurm(
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    fake_slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def here(*_: object) -> None:
        raise AssertionError("the capture ran where the sweep was started")

    monkeypatch.setattr("leadspan.teachers.capture.capture_run", here)
    out = tmp_path / "out"
    grids = [{"lsp": [0.5, 1.0]}, {"lsp": [0.5], "kd_ratio": [0.0]}]
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids, capture={"k": 4})
    points = prepare_sweep(sweep, out)
    _drive(points, out, fake_slurm, num_jobs=4)
    submitted = fake_slurm.submitted()
    capture = (out / "job_id").read_text()
    assert len(submitted) == 4
    for point in points:
        script = submitted[(point.folder(out) / "job_id").read_text()]
        depends = f"--dependency=afterok:{capture}\n" in script
        assert depends == (point.config.loss.kd_ratio > 0)
    assert "--dependency" not in submitted[capture]
    for script in submitted.values():
        assert "--kill-on-invalid-dep=yes" in script
        assert "--gpus-per-node=2" in script


def test_what_is_queued_is_not_submitted_again(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, fake_slurm: FakeSlurm
) -> None:
    out = tmp_path / "out"
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, capture={"k": 4})
    points = prepare_sweep(sweep, out)
    ids = {"capture": "7", "first": "8"}
    queue = fake_slurm.folder / "queue.json"
    queue.write_text(json.dumps({ids["capture"]: "RUNNING", ids["first"]: "PENDING"}))
    (out / "job_id").write_text(ids["capture"])
    (points[0].folder(out) / "job_id").write_text(ids["first"])
    _drive(points, out, fake_slurm, num_jobs=3)
    (script,) = fake_slurm.submitted().values()
    assert "--dependency=afterok:7\n" in script


def test_a_job_asks_to_be_queued_again_as_itself(tmp_path: Path) -> None:
    for job in (PointJob(tmp_path), PointJob(tmp_path, capture_and_record)):
        assert job.checkpoint().function == job
