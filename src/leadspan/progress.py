"""What is said while work goes on: a bar with rate and time left on a terminal, plain lines elsewhere.

Lines are records of Python's logging under the name `leadspan`. They go to stderr as they are, unless a
program has set up logging of its own, which then has them alone. Results are no part of this.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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
        print(wrapped(self.format(record), sys.stderr), file=sys.stderr, flush=True)


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

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if sized else FILE_WIDTH)


def build_table(*headers: str, title: str = "", caption: str = "", texts: int = 1) -> Table:
    """A table that is narrow enough for a terminal of 80 columns, numbers to the right.

    Args:
        *headers: A column each.
        title: Above it.
        caption: Below it.
        texts: How many columns, from the left, hold text, which may go on in a second line.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, int(len(headers) < 9), 0, 0),
        pad_edge=False,
    )
    for place, header in enumerate(headers):
        is_text = place < texts
        table.add_column(header, justify="left" if is_text else "right", no_wrap=not is_text)
    return table


def amount(number: float) -> str:
    """A count in at most seven characters: 188,926 as it is, from a million on 1.23M, 45.6B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number >= size * 0.9999995:
            return (
                f"{number / size:.3g}{unit}"
                if number < 999.5 * size
                else f"{number / size:,.0f}{unit}"
            )
    return f"{number:,.0f}"


def wrapped(text: str, stream: TextIO) -> str:
    """`text`, its lines broken between words where `stream` is a terminal, and as they are elsewhere."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = (
        textwrap.fill(
            line,
            width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        for line in text.split("\n")
    )
    return "\n".join(lines)
