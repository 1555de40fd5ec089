"""Run the points of a sweep as Slurm jobs, through submitit.

A preempted or timed-out job asks to be queued again and goes on from its last checkpoint. Knows nothing
about what a point does.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadspan.config import SlurmConfig
from leadspan.errors import ConfigError, RunError, RunStopped
from leadspan.progress import say
from leadspan.study.board import Board
from leadspan.study.sweep import Point, is_finished, run_and_record

SECONDS_BETWEEN_LOOKS = 2.0
LOOKS_UNTIL_FAILED = 3
"""A shared file system shows what a job left behind some seconds after the job has left the queue."""
SECONDS_UNTIL_KILLED = 600.0
JOB_ID = "job_id"


@dataclass(frozen=True)
class PointJob:
    """What a job runs. submitit pickles it, and calls `checkpoint` before a requeue."""

    folder: Path

    def __call__(self) -> None:
        """Run the point, or go on with it, as one rank of as many as the job has tasks.

        Told to stop, it waits for the kill that follows: returning would count as the job's end, and a
        requeued job would not be waited for.
        """
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            ranks = submitit.helpers.TorchDistributedEnvironment()
            ranks.export(set_cuda_visible_devices=False, overwrite=True)
        try:
            run_and_record(self.folder)
        except RunStopped as stopped:
            say(str(stopped))
            time.sleep(SECONDS_UNTIL_KILLED)
            raise

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
    jobs: dict[str, Any] = {}
    queue = _slurm_queue() if cluster == "slurm" else {}
    with Board(points, sweep_folder) as board:
        for point in board.missing:
            folder = point.folder(sweep_folder)
            if _read_job_id(folder) not in queue:
                jobs[point.name] = executor.submit(PointJob(folder.resolve()))
                (folder / JOB_ID).write_text(jobs[point.name].job_id, encoding="utf-8")
        left = list(board.missing)
        gone: Counter[str] = Counter()
        while left:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            queue = _slurm_queue() if cluster == "slurm" else _local_queue(jobs.values())
            for point in left.copy():
                is_running = queue.get(_read_job_id(point.folder(sweep_folder)))
                gone[point.name] = gone[point.name] + 1 if is_running is None else 0
                if is_finished(point, sweep_folder) or gone[point.name] >= LOOKS_UNTIL_FAILED:
                    left.remove(point)
                    board.end(point)
                elif is_running:
                    board.begin(point)
                else:
                    board.wait(point)
    return [point for point in board.missing if not is_finished(point, sweep_folder)]


def _read_job_id(folder: Path) -> str:
    path = folder / JOB_ID
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _slurm_queue() -> dict[str, bool]:
    """This user's jobs that have not ended, by id: are they running? Needs no accounting."""
    listed = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%A %T"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        raise RunError(f"squeue: {' '.join(listed.stderr.split())}. Is this a Slurm login node?")
    jobs = (line.split() for line in listed.stdout.splitlines())
    return {job_id: state == "RUNNING" for job_id, state in jobs}


def _local_queue(jobs: Iterable[Any]) -> dict[str, bool]:
    return {job.job_id: True for job in jobs if not job.done()}


def _parameters(config: SlurmConfig, cluster: str) -> dict[str, Any]:
    num_tasks = max(1, config.gpus)
    parameters: dict[str, Any] = {
        "timeout_min": config.minutes,
        "gpus_per_node": config.gpus,
        "tasks_per_node": num_tasks,
        "cpus_per_task": max(1, config.cpus // num_tasks),
    }
    if cluster == "slurm":
        extra: dict[str, Any] = {"requeue": True}
        if config.container is not None:
            extra["container-image"] = config.container
        parameters |= {"slurm_partition": config.partition, "slurm_additional_parameters": extra}
        if config.memory_gib is not None:
            parameters["mem_gb"] = config.memory_gib
    return parameters
