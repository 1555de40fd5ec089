"""Points as submitit jobs, on submitit's local executor; `tests/slurm/run.sh` does it on a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadspan.config import SlurmConfig
from leadspan.runs import RunFolder
from leadspan.study.slurm import PointJob, run_points_on_slurm
from leadspan.study.sweep import is_finished, prepare_sweep
from tests.study.test_sweep import tiny_sweep

submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")


def test_points_run_as_jobs_and_a_failed_one_is_recorded(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    grids = [{"lsp": [0.5], "student.path": [str(tiny_student), str(tmp_path / "nowhere")]}]
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), out)
    config = SlurmConfig(gpus=0, cpus=1, minutes=5)
    failed = run_points_on_slurm(points, out, config, cluster="local")
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
    assert run_points_on_slurm(points, out, config, cluster="local") == []
    manifest = RunFolder(points[0].folder(out)).manifest
    assert manifest["num_ranks"] == 2


def test_a_job_asks_to_be_queued_again_as_itself(tmp_path: Path) -> None:
    delayed = PointJob(tmp_path).checkpoint()
    assert delayed.function == PointJob(tmp_path)
