"""`leadspan demo` and `leadspan sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(demo)
    app.command()(sweep)


def demo(
    out: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Three LSPs, one seed.")] = False,
    world_seed: Annotated[int, typer.Option(help="Seed of the embedded world.")] = 101,
    jobs: Annotated[int, typer.Option(help="Runs side by side.")] = 2,
) -> None:
    """Build the embedded world, sweep over LSP on it, and report what the cuts cost."""
    from leadspan.study.demo import run_demo

    typer.echo(run_demo(out, world_seed=world_seed, quick=quick, num_jobs=jobs))


def sweep(
    config: Annotated[Path, typer.Argument(help="sweep.yaml")],
    output: Annotated[Path | None, typer.Option(help="Sweep folder; runs/NAME by default.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs side by side on this machine.")] = 1,
) -> None:
    """Run every point of a sweep that is not finished yet, then report."""
    from leadspan.study.launch import run_points
    from leadspan.study.report import write_report
    from leadspan.study.sweep import capture_teacher, load_sweep, prepare_sweep

    folder = output or Path("runs") / config.stem
    settings = load_sweep(config)
    points = prepare_sweep(settings, folder)
    capture_teacher(settings, points, folder)
    failed = run_points(points, folder, jobs)
    report_path = write_report(folder)
    typer.echo(f"{len(points) - len(failed)} of {len(points)} runs done. Report: {report_path}")
    for point in failed:
        typer.echo(f"failed: {point.name}, see {point.folder(folder) / 'failed.json'}", err=True)
    if failed:
        raise typer.Exit(1)
