"""The command line. Each verb reads arguments, builds a config, calls one function, prints the result.

Heavy imports stand inside the verbs, so that `leadspan --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from leadspan import __version__
from leadspan.cli import analyze, data, evaluate, init, look, study, train
from leadspan.cli.exits import EPILOG, one_line_errors, stopped
from leadspan.progress import LOGGER, set_loudness


class _Verbs(TyperGroup):
    """All verbs; Ctrl-C ends each of them alike."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise stopped(ctx.invoked_subcommand) from None


app = typer.Typer(
    cls=_Verbs,
    name="leadspan",
    help="Distil reasoning on truncated, section-supervised traces, and measure what the cut cost.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for verbs in (init, train, data, analyze, evaluate, study, look):
    verbs.register(app)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"leadspan {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results, warnings and errors alone.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Show times, what is saved, and where an error came from."
        ),
    ] = False,
) -> None:
    if quiet and verbose:
        raise typer.BadParameter("give --quiet or --verbose, not both")
    set_loudness(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"
    if quiet or not sys.stderr.isatty():  # libraries draw bars even into a file
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    LOGGER.debug("leadspan %s, Python %s", __version__, platform.python_version())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `exits` says which code it ends with."""
    with one_line_errors():
        app(args=arguments)
