"""`leadspan report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(report)


def report(
    sweep: Annotated[Path, typer.Argument(help="Folder of a sweep, finished or not.")],
    output: Annotated[
        Path | None, typer.Option(help="Where the report goes; report/ in the sweep by default.")
    ] = None,
) -> None:
    """Write results.csv, Markdown, figures and one HTML file about a sweep."""
    from leadspan.study.report import describe_sweep, write_report

    path = write_report(sweep, output)
    typer.echo(describe_sweep(sweep, path))
