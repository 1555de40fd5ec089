"""Run the points of a sweep, and the capture that they read, as Slurm jobs, through submitit.

A preempted or timed-out job asks to be queued again and goes on from its last checkpoint. Nothing heavy
runs where this is called, on the login node. Knows nothing about what a job does.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadspan.config import SlurmConfig
from leadspan.errors import CacheError, ConfigError, RunError, RunStopped
from leadspan.progress import say
from leadspan.study.launch import Board
from leadspan.study.sweep import (
    Point,
    capture_and_record,
    is_finished,
    needs_capture,
    read_failure,
    record_failure,
    run_and_record,
)

SECONDS_BETWEEN_LOOKS = 2.0
LOOKS_UNTIL_FAILED = 3
"""A shared file system shows what a job left behind some seconds after the job has left the queue."""
SECONDS_UNTIL_KILLED = 600.0
JOB_ID = "job_id"


@dataclass(frozen=True)
class PointJob:
    """What a job runs. submitit pickles it, and calls `checkpoint` before a requeue."""

    folder: Path
    work: Callable[[Path], None] = run_and_record
    """Called with the folder; a second call goes on where the first was stopped."""

    def __call__(self) -> None:
        """Do the work, or go on with it, as one rank of as many as the job has tasks.

        Told to stop, it waits for the kill that follows: returning would count as the job's end, and a
        requeued job would not be waited for.
        """
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            ranks = submitit.helpers.TorchDistributedEnvironment()
            ranks.export(set_cuda_visible_devices=False, overwrite=True)
        try:
            self.work(self.folder)
        except RunStopped as stopped:
            say(str(stopped))
            time.sleep(SECONDS_UNTIL_KILLED)
            raise

    def checkpoint(self) -> Any:
        """The same job again: its run folder knows where it stopped."""
        import submitit

        return submitit.helpers.DelayedSubmission(PointJob(self.folder, self.work))


def run_points_on_slurm(
    points: Sequence[Point], sweep_folder: Path, config: SlurmConfig, cluster: str = "slurm"
) -> list[Point]:
    """Submit a job for every point that is not finished, and wait for them.

    Where points read a cache that the sweep captures, the capture is a job before theirs. A job of an
    earlier call that is still queued or running is waited for, not submitted again.

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
    queue = _slurm_queue() if cluster == "slurm" else {}
    with Board(points, sweep_folder) as board:
        new = [p for p in board.missing if _read_job_id(p.folder(sweep_folder)) not in queue]
        readers = [point for point in new if needs_capture(point, sweep_folder)]
        jobs = {p.name: _submit(executor, p.folder(sweep_folder)) for p in new if p not in readers}
        if readers:
            is_ready = _capture_first(executor, sweep_folder, queue, cluster)
            for point in readers if is_ready else ():
                jobs[point.name] = _submit(executor, point.folder(sweep_folder))
        _wait(board, sweep_folder, cluster, jobs)
        lost = [point for point in board.missing if not is_finished(point, sweep_folder)]
        _blame_capture([point for point in lost if point in readers], sweep_folder)
    return lost


def _submit(executor: Any, folder: Path, work: Callable[[Path], None] = run_and_record) -> Any:
    (folder / "failed.json").unlink(missing_ok=True)
    job = executor.submit(PointJob(folder.resolve(), work))
    (folder / JOB_ID).write_text(job.job_id, encoding="utf-8")
    return job


def _capture_first(
    executor: Any, sweep_folder: Path, queue: Mapping[str, bool], cluster: str
) -> bool:
    """See to it that jobs submitted from now on begin after a capture that went well.

    Returns:
        False where there is no use in submitting any.
    """
    job = None
    if _read_job_id(sweep_folder) not in queue:
        job = _submit(executor, sweep_folder, capture_and_record)
    job_id = _read_job_id(sweep_folder)
    say(f"sweep: the teacher's capture is job {job_id}; the runs that read it wait for it")
    if cluster == "slurm":
        executor.update_parameters(slurm_dependency=f"afterok:{job_id}")
        return True
    assert job is not None  # the local queue knows no dependencies and holds no earlier job
    return job.exception() is None


def _wait(board: Board, sweep_folder: Path, cluster: str, jobs: Mapping[str, Any]) -> None:
    """Watch the queue until every point is finished or has left it."""
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


def _blame_capture(points: Sequence[Point], sweep_folder: Path) -> None:
    """Points that never began because the capture failed say so."""
    if not (sweep_folder / "failed.json").is_file():
        return
    reason = CacheError(f"the teacher's capture failed: {read_failure(sweep_folder)}")
    for point in points:
        if not (point.folder(sweep_folder) / "failed.json").is_file():
            record_failure(point.folder(sweep_folder), reason)


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
        # Where a dependency can no longer be met, the job leaves the queue.
        extra: dict[str, Any] = {"requeue": True, "kill-on-invalid-dep": "yes"}
        if config.container is not None:
            extra["container-image"] = config.container
        parameters |= {"slurm_partition": config.partition, "slurm_additional_parameters": extra}
        if config.memory_gib is not None:
            parameters["mem_gb"] = config.memory_gib
    return parameters
