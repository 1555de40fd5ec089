"""The command line. Each verb reads arguments, builds a config, calls one function, prints the result.

Heavy imports stand inside the verbs, so that `leadspan --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from leadspan.cli import analyze, data, evaluate, study, train
from leadspan.errors import LeadspanError
from leadspan.progress import wrapped

INTERRUPTED = 130

app = typer.Typer(
    name="leadspan",
    help="Distil reasoning on truncated, section-supervised traces, and measure what the cut cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verbs in (train, data, analyze, evaluate, study):
    verbs.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend is one line on stderr and exit code 2."""
    if not sys.stderr.isatty():  # libraries draw bars even into a file
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app(args=arguments)
    except LeadspanError as error:
        sys.stderr.write(f"{wrapped(str(error), sys.stderr)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped. The same command goes on from the last checkpoint.\n")
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.strerror is None:
            raise
        sys.stderr.write(f"{error.filename or 'writing'}: {error.strerror}.\n")
        sys.exit(2)
