"""Run the points of a sweep as Slurm jobs, through submitit.

A preempted or timed-out job asks to be queued again and goes on from its last checkpoint. Knows nothing
about what a point does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadspan.config import SlurmConfig
from leadspan.errors import ConfigError
from leadspan.progress import progress
from leadspan.study.sweep import Point, is_finished, run_and_record

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class PointJob:
    """What a job runs. submitit pickles it, and calls `checkpoint` before a requeue."""

    folder: Path

    def __call__(self) -> None:
        """Run the point, or go on with it."""
        run_and_record(self.folder)

    def checkpoint(self) -> Any:
        """The same job again: its run folder knows where it stopped."""
        import submitit

        return submitit.helpers.DelayedSubmission(PointJob(self.folder))


def run_points_on_slurm(
    points: Sequence[Point], sweep_folder: Path, config: SlurmConfig, cluster: str = "slurm"
) -> list[Point]:
    """Submit a job for every point that is not finished, and wait for them.

    A point whose job of an earlier call is still queued or running is waited for, not submitted again.

    Args:
        points: All points of the sweep.
        sweep_folder: On a file system that every node sees.
        config: Partition, GPUs, time.
        cluster: `slurm`, or `local` for processes of this machine under the same machinery.

    Returns:
        The points that are not finished after their jobs have ended.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError("launcher slurm needs submitit. pip install leadspan[slurm]") from None
    executor = submitit.AutoExecutor(folder=sweep_folder / "jobs", cluster=cluster)
    executor.update_parameters(**_parameters(config, cluster))
    missing = [point for point in points if not is_finished(point, sweep_folder)]
    jobs = {}
    for point in missing:
        folder = point.folder(sweep_folder)
        jobs[point.name] = _running_job(folder, cluster) or _submit(executor, folder)
    with progress("sweep", len(missing), "runs") as advance:
        left = list(missing)
        while left:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            ended = [p for p in left if is_finished(p, sweep_folder) or jobs[p.name].done()]
            for point in ended:
                left.remove(point)
                done = is_finished(point, sweep_folder)
                advance(note=f"{point.name} {'done' if done else 'failed'}")
    return [point for point in missing if not is_finished(point, sweep_folder)]


def _submit(executor: Any, folder: Path) -> Any:
    job = executor.submit(PointJob(folder.resolve()))
    (folder / "job_id").write_text(job.job_id, encoding="utf-8")
    return job


def _running_job(folder: Path, cluster: str) -> Any | None:
    """The job of an earlier driver, where it is still queued or running."""
    import submitit

    path = folder / "job_id"
    if cluster != "slurm" or not path.is_file():
        return None
    job: Any = submitit.SlurmJob(folder.parents[1] / "jobs", path.read_text(encoding="utf-8"))
    return job if job.state in ("PENDING", "RUNNING", "REQUEUED", "COMPLETING") else None


def _parameters(config: SlurmConfig, cluster: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "timeout_min": config.minutes,
        "gpus_per_node": config.gpus,
        "cpus_per_task": config.cpus,
    }
    if cluster == "slurm":
        extra: dict[str, Any] = {"requeue": True}
        if config.container is not None:
            extra["container-image"] = config.container
        parameters |= {"slurm_partition": config.partition, "slurm_additional_parameters": extra}
        if config.memory_gib is not None:
            parameters["mem_gb"] = config.memory_gib
    return parameters
