"""Run the points of a sweep in local processes, and say how it goes.

Every point is a child of one fork server that has torch and transformers loaded already, so start-up is
paid once. Children share out the GPUs that this process sees. A child dies with its driver; a point that
another process holds is left to it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from itertools import takewhile
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

from leadspan.errors import LeadspanError
from leadspan.progress import say
from leadspan.study.sweep import (
    RUNNING_ELSEWHERE,
    Point,
    is_finished,
    is_running,
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
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(get_renderable=self.table, console=console, refresh_per_second=1)
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


PRELOAD = ["leadspan.study.run", "transformers.models.qwen3"]
FAILED = 1


def run_points(points: Sequence[Point], sweep_folder: Path, num_jobs: int) -> list[Point]:
    """Run every point that is not finished, `num_jobs` side by side, each on its share of the machine.

    Returns:
        The points without a result: failed, with the reason in `failed.json` and the output in
        `log.txt`, or running elsewhere.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    num_threads = max(1, (os.cpu_count() or 1) // num_jobs)
    running: dict[int, tuple[Point, ForkServerProcess, int]] = {}
    free_slots = list(reversed(range(num_jobs)))
    devices = devices_of_slots(
        num_jobs, visible_devices(), max(map(_num_devices, points), default=1)
    )
    with Board(points, sweep_folder) as board:
        waiting = list(reversed(board.missing))
        try:
            while waiting or running:
                while waiting and free_slots:
                    point, slot = waiting.pop(), free_slots.pop()
                    folder = point.folder(sweep_folder)
                    child = _start(context, folder, num_threads, devices[slot])
                    running[child.sentinel] = (point, child, slot)
                    board.begin(point)
                for sentinel in wait(list(running)):
                    assert isinstance(sentinel, int)
                    point, child, slot = running.pop(sentinel)
                    child.join()
                    free_slots.append(slot)
                    board.end(point)
        except KeyboardInterrupt:
            _stop([child for _, child, _ in running.values()])
            raise
    return board.failed


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


def _start(
    context: ForkServerContext, folder: Path, num_threads: int, devices: str | None
) -> ForkServerProcess:
    child = context.Process(target=_child, args=(folder, num_threads, devices), name=folder.name)
    child.start()
    return child


def _stop(children: Sequence[ForkServerProcess]) -> None:
    """Ask the children to write a checkpoint, and wait for them."""
    for child in children:
        child.terminate()
    for child in children:
        child.join()


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
