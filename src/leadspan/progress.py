"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0
FILE_WIDTH = 140


@contextmanager
def progress(label: str, total: int, unit: str = "steps") -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`, to be called as the work gets done.

    Goes to stderr, so that stdout holds results alone.
    """
    if sys.stderr.isatty():
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
        print(
            f"{label}: {done}/{total} {unit}, {done / seconds:.1f}/s, {left:.0f} s left{tail}",
            file=sys.stderr,
            flush=True,
        )

    def advance_lines(count: int = 1, note: str = "") -> None:
        nonlocal done, last_line
        done += count
        if done >= total or time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            line(note)

    yield advance_lines


def say(text: str) -> None:
    """Print one plain line to stderr."""
    print(text, file=sys.stderr, flush=True)


def build_console() -> Console:
    """A rich console for results on stdout; into a file or pipe it is wide, so that no number is cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
