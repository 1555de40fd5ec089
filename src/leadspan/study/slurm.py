"""Run the points of a sweep, and the capture that they read, as Slurm jobs, through submitit.

A preempted or timed-out job asks to be queued again and goes on from its last checkpoint. Nothing heavy
runs where this is called, on the login node. Knows nothing about what a job does.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadspan.config import SlurmConfig
from leadspan.errors import CacheError, ConfigError, RunError, RunStopped
from leadspan.progress import say
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


class SlurmJobs:
    """Points as jobs of Slurm; see `launch.Jobs`.

    A job of an earlier call that is still queued or running is waited for, not submitted again.
    """

    def __init__(self, config: SlurmConfig, cluster: str = "slurm") -> None:
        """Nothing is submitted yet.

        Args:
            config: Partition, GPUs, time.
            cluster: `slurm`, or `local` for processes of this machine under the same machinery.
        """
        self._config, self._cluster = config, cluster
        self._jobs: dict[str, Any] = {}
        """Those of this call, by job id."""
        self._left: dict[str, Point] = {}
        self._looks_gone: Counter[str] = Counter()

    def submit(self, points: Sequence[Point], sweep_folder: Path) -> None:
        """Submit a job for every point; `sweep_folder` lies on a file system that every node sees.

        Where points read a cache that the sweep captures, the capture is a job before theirs.
        """
        try:
            import submitit
        except ImportError:
            raise ConfigError(
                'launcher slurm needs submitit. pip install "leadspan[slurm]"'
            ) from None
        self._executor = submitit.AutoExecutor(sweep_folder / "jobs", cluster=self._cluster)
        self._executor.update_parameters(**_parameters(self._config, self._cluster))
        self._sweep_folder, self._left = sweep_folder, {point.name: point for point in points}
        queue = self._queue()
        new = [p for p in points if _read_job_id(p.folder(sweep_folder)) not in queue]
        readers = [point for point in new if needs_capture(point, sweep_folder)]
        for point in new:
            if point not in readers:
                self._submit(point.folder(sweep_folder), run_and_record)
        if readers and self._capture_first(_read_job_id(sweep_folder) in queue):
            for point in readers:
                self._submit(point.folder(sweep_folder), run_and_record)

    def _submit(self, folder: Path, work: Callable[[Path], None]) -> Any:
        (folder / "failed.json").unlink(missing_ok=True)
        job = self._executor.submit(PointJob(folder.resolve(), work))
        (folder / JOB_ID).write_text(job.job_id, encoding="utf-8")
        self._jobs[job.job_id] = job
        return job

    def _capture_first(self, is_queued: bool) -> bool:
        """See to it that jobs submitted from now on begin after a capture that went well.

        Returns:
            False where there is no use in submitting any.
        """
        job = None if is_queued else self._submit(self._sweep_folder, capture_and_record)
        job_id = _read_job_id(self._sweep_folder)
        say(f"sweep: the teacher's capture is job {job_id}; the runs that read it wait for it")
        if self._cluster == "slurm":
            self._executor.update_parameters(slurm_dependency=f"afterok:{job_id}")
            return True
        assert job is not None  # the local queue knows no dependencies and holds no earlier job
        return job.exception() is None

    def states(self) -> dict[str, bool]:
        """Look at the queue. A point is over when it is finished, or has been gone for some looks."""
        time.sleep(SECONDS_BETWEEN_LOOKS)
        queue = self._queue()
        states = {}
        for name, point in self._left.items():
            folder = point.folder(self._sweep_folder)
            is_running = queue.get(_read_job_id(folder))
            self._looks_gone[name] = self._looks_gone[name] + 1 if is_running is None else 0
            if is_finished(point, self._sweep_folder):
                continue
            if self._looks_gone[name] < LOOKS_UNTIL_FAILED:
                states[name] = bool(is_running)
            elif not (folder / "failed.json").is_file():
                self._blame_capture(point)
        self._left = {name: self._left[name] for name in states}
        return states

    def _blame_capture(self, point: Point) -> None:
        """A point that never began because the capture failed says so."""
        folder = self._sweep_folder
        if needs_capture(point, folder) and (folder / "failed.json").is_file():
            reason = f"the teacher's capture failed: {read_failure(folder)}"
            record_failure(point.folder(folder), CacheError(reason))

    def _queue(self) -> dict[str, bool]:
        """Jobs that have not ended, by id: are they running?"""
        if self._cluster == "slurm":
            return _slurm_queue()
        return {job_id: True for job_id, job in self._jobs.items() if not job.done()}

    def stop(self) -> None:
        """Jobs go on: a later call waits for them."""


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
