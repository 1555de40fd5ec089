"""Run the points of a sweep as jobs, here or wherever `Jobs` sends them, and say how it goes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from itertools import takewhile
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from leadspan.errors import LeadspanError
from leadspan.progress import say, shows_bars
from leadspan.study.sweep import (
    RUNNING_ELSEWHERE,
    Point,
    capture_and_record,
    is_finished,
    is_running,
    needs_capture,
    read_failure,
    run_and_record,
)

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LOG_TAIL_BYTES = 2000


class Board:
    """The points of a sweep by state: what a launcher says has begun and ended.

    Use as a context manager around the run.
    """

    def __init__(self, points: Sequence[Point], sweep_folder: Path) -> None:
        self.missing = [point for point in points if not is_finished(point, sweep_folder)]
        self.failed: list[Point] = []
        """Without a result: failed, or running elsewhere."""
        self._elsewhere: set[str] = set()
        self._folder = sweep_folder
        self._num_done_before = len(points) - len(self.missing)
        self._num_done = 0
        self._running: dict[str, float] = {}
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Board:
        if shows_bars():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(
                get_renderable=self.table,
                console=console,
                refresh_per_second=1,
                transient=True,  # once all is done it has no row
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, point: Point) -> None:
        """A point is running, as it may have been for a while."""
        self._running.setdefault(point.name, time.monotonic())

    def wait(self, point: Point) -> None:
        """A point waits for a place, once more where it was preempted."""
        self._running.pop(point.name, None)

    def end(self, point: Point) -> None:
        """A point has stopped: done where everything it was to leave behind is there, else failed.

        One that another process works on is neither, but is without a result of this call.
        """
        self._running.pop(point.name, None)
        if is_finished(point, self._folder):
            self._num_done += 1
            state = "done"
        else:
            self.failed.append(point)
            state = "failed"
            if is_running(point.folder(self._folder)):
                self._elsewhere.add(point.name)
                state = RUNNING_ELSEWHERE
        if self._live is None:
            say(f"{self.headline()}; {point.name} {state}")

    def headline(self) -> str:
        """All states in one line, with the time left at the pace so far."""
        ended = self._num_done + len(self.failed)
        left = len(self.missing) - ended
        parts = [
            f"{self._num_done_before + self._num_done} done",
            f"{len(self._running)} running",
            f"{len(self.failed) - len(self._elsewhere)} failed",
            f"{left - len(self._running)} waiting",
        ]
        if self._elsewhere:
            parts.insert(2, f"{len(self._elsewhere)} running elsewhere")
        if left and ended:
            seconds = (time.monotonic() - self._started) / ended * left
            parts.append(f"about {_say_seconds(seconds)} left")
        return f"sweep: {', '.join(parts)}"

    def table(self) -> Table:
        """What runs, with the last line of its log, and what failed, with the reason.

        Called from the thread that draws, while the launcher's goes on.
        """
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.headline(), title_justify="left", box=None, expand=True)
        for name in ("point", "state", "time", "last words"):
            table.add_column(name, no_wrap=True, ratio=1 if name == "last words" else None)
        now = time.monotonic()
        by_name = {point.name: point for point in self.missing}
        for name, started in list(self._running.items()):
            words = _last_line(by_name[name].folder(self._folder) / "log.txt")
            table.add_row(Text(name), "running", _say_seconds(now - started), Text(words))
        for point in list(self.failed):
            reason = read_failure(point.folder(self._folder))
            state = Text("elsewhere") if point.name in self._elsewhere else Text("failed", "red")
            table.add_row(Text(point.name), state, "", Text(reason))
        return table


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _say_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Jobs(Protocol):
    """Where points run."""

    def submit(self, points: Sequence[Point], sweep_folder: Path) -> None:
        """Have points run, the teacher's capture first where one of them reads it."""

    def states(self) -> dict[str, bool]:
        """By name, the points whose jobs have not ended: are they running? Waits for news."""

    def stop(self) -> None:
        """The user wants no more."""


def run_points(points: Sequence[Point], sweep_folder: Path, jobs: Jobs) -> list[Point]:
    """Run every point that is not finished.

    Returns:
        The points without a result: failed, with the reason in `failed.json`, or running elsewhere.
    """
    jobs.submit([point for point in points if not is_finished(point, sweep_folder)], sweep_folder)
    with Board(points, sweep_folder) as board:
        left = {point.name: point for point in board.missing}
        try:
            while left:
                states = jobs.states()
                for name, point in list(left.items()):
                    if name not in states:
                        board.end(left.pop(name))
                    elif states[name]:
                        board.begin(point)
                    else:
                        board.wait(point)
        except KeyboardInterrupt:
            say("sweep: stopping its runs; press again to stop now")
            jobs.stop()
            raise
    return board.failed


PRELOAD = ["leadspan.study.run", "transformers.models.qwen3"]
FAILED = 1


class LocalJobs:
    """Children of one fork server, some side by side, each on its share of this machine.

    The fork server has torch and transformers loaded already, so start-up is paid once. A child writes
    to its point's `log.txt` and dies with its driver; a point that another process holds is left to it.
    """

    def __init__(self, num_jobs: int) -> None:
        self._num_jobs = num_jobs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._waiting: list[Point] = []
        self._running: dict[str, tuple[ForkServerProcess, str | None]] = {}
        self._free: list[str | None] = []
        """The devices of each place at which no job runs."""

    def submit(self, points: Sequence[Point], sweep_folder: Path) -> None:
        """Capture here and now; the points start with the first look at their states."""
        if any(needs_capture(point, sweep_folder) for point in points):
            capture_and_record(sweep_folder)
        self._waiting, self._sweep_folder = list(points), sweep_folder
        each = max(map(_num_devices, points), default=1)
        self._free = devices_of_slots(self._num_jobs, visible_devices(), each)

    def states(self) -> dict[str, bool]:
        """Wait until a child ends, where any runs; then start as many as there are places."""
        wait([child.sentinel for child, _ in self._running.values()], None if self._running else 0)
        for name, (child, devices) in list(self._running.items()):
            if not child.is_alive():
                del self._running[name]
                self._free.append(devices)
        num_threads = threads_of_a_job(self._num_jobs)
        while self._waiting and self._free:
            point, devices = self._waiting.pop(0), self._free.pop(0)
            arguments = (point.folder(self._sweep_folder), num_threads, devices)
            child = self._context.Process(target=_child, args=arguments, name=point.name)
            child.start()
            self._running[point.name] = (child, devices)
        return dict.fromkeys(self._running, True) | {point.name: False for point in self._waiting}

    def stop(self) -> None:
        """Ask the children to write a checkpoint, and wait for them."""
        for child, _ in self._running.values():
            child.terminate()
        for child, _ in self._running.values():
            child.join()


def threads_of_a_job(num_jobs: int) -> int:
    """A job's share of the threads that this process would use.

    OMP_NUM_THREADS and CPU affinity decide that, so two sweeps side by side can be told to share a machine.
    """
    import torch

    return max(1, torch.get_num_threads() // num_jobs)


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: numbers or UUIDs."""
    import torch

    num_devices = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(map(str, range(num_devices)))
    # As in CUDA, the list ends before its first entry that names no device.
    names = list(takewhile(lambda name: name and name[0] != "-", map(str.strip, named.split(","))))
    return names[: num_devices or None]


def devices_of_slots(num_slots: int, devices: Sequence[str], each: int = 1) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place at which a job may run: in turn, `each` devices a job.

    None, where there is no device, leaves a job what it finds.
    """
    if not devices:
        return [None] * num_slots
    each = min(each, len(devices))
    num_groups = len(devices) // each
    groups = [",".join(devices[each * group :][:each]) for group in range(num_groups)]
    return [groups[slot % num_groups] for slot in range(num_slots)]


def _num_devices(point: Point) -> int:
    """How many GPUs one job of this point uses at a time."""
    evaluation = point.config.evaluation
    return evaluation.tensor_parallel_size if evaluation.backend == "vllm" else 1


def _child(folder: Path, num_threads: int, devices: str | None) -> None:
    """One point, in a process of its own: output to `log.txt`, the reason of a failure beside it."""
    if devices is not None:  # before CUDA is first asked for anything
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    import torch

    _die_with_parent()
    if is_running(folder):  # nor is anything written into the log of a live run
        sys.exit(FAILED)
    torch.set_num_threads(num_threads)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        on = "" if devices is None else f" on CUDA_VISIBLE_DEVICES={devices}"
        print(time.strftime("%Y-%m-%d %H:%M:%S") + on, flush=True)
        try:
            run_and_record(folder)
        except LeadspanError as error:
            say(str(error))
            sys.exit(FAILED)


def _die_with_parent() -> None:
    """End this process when its driver is gone, so that nothing runs twice after a new start."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
