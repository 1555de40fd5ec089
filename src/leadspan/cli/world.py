"""`leadspan world`: write the embedded world's traces, problems and models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("world")(world)


def world(
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    seed: Annotated[int, typer.Option(help="World seed.", min=0)] = 101,
    late: Annotated[
        bool, typer.Option("--late", help="Derive at the end of each trace, after a long preamble.")
    ] = False,
    small: Annotated[
        bool, typer.Option("--small", help="A tiny world for trying things out; imperfect models.")
    ] = False,
) -> None:
    """Write a synthetic world: traces, test problems, a base student and a teacher."""
    from leadspan.world.build import WorldConfig, build_world

    built = build_world(output, seed, late, WorldConfig.small() if small else WorldConfig())
    typer.echo(f"traces   {built.traces}")
    for path in built.tests:
        typer.echo(f"test     {path}")
    typer.echo(f"student  {built.student}")
    typer.echo(f"teacher  {built.teacher}")
