"""How a sweep stands while it runs: a live table on a terminal, one line a change elsewhere.

Knows nothing about how points are run; the launchers tell it what began and what ended.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leadspan.progress import say
from leadspan.study.sweep import (
    RUNNING_ELSEWHERE,
    Point,
    is_finished,
    is_running,
    read_failure,
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
