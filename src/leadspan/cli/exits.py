"""The exit codes of every verb: one table, for the code, `leadspan --help` and the documentation."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from leadspan.errors import LeadspanError, RunStopped
from leadspan.progress import LOGGER, wrapped


class ExitCode(IntEnum):
    """What a verb ends with."""

    DONE = 0
    FINDING = 1
    MISTAKE = 2
    INTERRUPTED = 128 + signal.SIGINT


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FINDING: "it ran and found something wrong (doctor: an error; sweep: a failed run)",
    ExitCode.MISTAKE: "arguments, run.yaml, data, a model or a file must be changed; it says how",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C, or by SIGTERM while training",
}
EPILOG = "\n\n".join(["Exit codes", *(f"{code:<3d}  {said}" for code, said in MEANINGS.items())])

RESUMABLE = ("train", "capture", "evaluate", "sweep", "demo")
"""Verbs that go on from what they have saved."""


def stopped(verb: str | None) -> RunStopped:
    """What Ctrl-C comes to in a verb: typer itself would end without a word."""
    go_on = " The same command goes on from what is saved." if verb in RESUMABLE else ""
    return RunStopped(f"{verb or 'leadspan'}: stopped.{go_on}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show what a user can mend as one line on stderr, and end with its code."""
    try:
        yield
    except LeadspanError as error:
        _end(
            ExitCode.INTERRUPTED if isinstance(error, RunStopped) else ExitCode.MISTAKE, str(error)
        )
    except OSError as error:
        if error.strerror is None:
            raise
        _end(ExitCode.MISTAKE, f"{error.filename or 'writing'}: {error.strerror}.")


def _end(code: ExitCode, said: str) -> None:
    if LOGGER.isEnabledFor(logging.DEBUG):
        traceback.print_exc()
    sys.stderr.write(f"{wrapped(said, sys.stderr)}\n")
    sys.exit(code)
