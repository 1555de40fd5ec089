"""What is said while work goes on: a bar with rate and time left on a terminal, plain lines elsewhere.

Lines are records of Python's logging under the name `leadspan`. They go to stderr as they are, unless a
program has set up logging of its own, which then has them alone. Results are no part of this.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0
FILE_WIDTH = 140
LOGGER = logging.getLogger("leadspan")


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment, so that whoever redirects it has the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, unless handlers of the program's own show it."""
        has_others = len(LOGGER.handlers) > 1
        if has_others or (LOGGER.propagate and logging.getLogger().handlers):
            return
        print(self.format(record), file=sys.stderr, flush=True)


_STDERR = _Stderr()
LOGGER.addHandler(_STDERR)
if LOGGER.level == logging.NOTSET:  # else the program has chosen before
    LOGGER.setLevel(logging.INFO)


def set_loudness(level: int) -> None:
    """For a command line: show records from this level on, whatever libraries do to the root logger.

    Args:
        level: Of `logging`; DEBUG also shows when each line was said.
    """
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    shown = "%(asctime)s %(message)s" if level <= logging.DEBUG else "%(message)s"
    _STDERR.setFormatter(logging.Formatter(shown))


def shows_bars() -> bool:
    """True where stderr is a terminal and progress is wanted."""
    return sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)


@contextmanager
def progress(label: str, total: int, unit: str = "steps") -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`, to be called as the work gets done.

    Goes to stderr, so that stdout holds results alone.
    """
    if shows_bars():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        ) as bar:
            task = bar.add_task(label, total=total, rate="", note="")

            def advance(count: int = 1, note: str = "") -> None:
                bar.update(task, advance=count, note=note)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")

            yield advance
        return

    started = last_line = time.monotonic()
    done = 0

    def line(note: str) -> None:
        seconds = max(time.monotonic() - started, 1e-9)
        left = (total - done) * seconds / max(done, 1)
        tail = f", {note}" if note else ""
        say(f"{label}: {done}/{total} {unit}, {done / seconds:.1f}/s, {left:.0f} s left{tail}")

    def advance_lines(count: int = 1, note: str = "") -> None:
        nonlocal done, last_line
        done += count
        if done >= total or time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            line(note)

    yield advance_lines


def say(text: str) -> None:
    """Say one plain line, on stderr unless logging is set up otherwise."""
    LOGGER.info("%s", text)


def warn(text: str) -> None:
    """Say one line that `--quiet` does not silence, after the word `warning`."""
    LOGGER.warning("warning: %s", text)


def build_console() -> Console:
    """A rich console for results on stdout; into a file or pipe it is wide, so that no number is cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
