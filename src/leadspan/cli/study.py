"""`leadspan sweep`, `report`, `demo` and `world`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leadspan.cli.common import OutputOption, check_choice, echo


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(demo)
    app.command()(sweep)
    app.command()(report)
    app.command("world")(world)


def demo(
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Three LSPs, one seed.")] = False,
    world_seed: Annotated[int, typer.Option(help="Seed of the embedded world.")] = 101,
    jobs: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 2,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Train the world's models anew; world 101 comes with them."),
    ] = False,
) -> None:
    """Build the embedded world, sweep over LSP on it, and report what the cuts cost."""
    from leadspan.study.demo import run_demo

    said = run_demo(output, world_seed=world_seed, quick=quick, num_jobs=jobs, rebuild=rebuild)
    echo(said)


def sweep(
    config: Annotated[Path, typer.Argument(help="sweep.yaml")],
    output: OutputOption = None,
    jobs: Annotated[
        int, typer.Option(help="Runs side by side on this machine, in turn on its GPUs.", min=1)
    ] = 1,
    launcher: Annotated[str, typer.Option(help="local, slurm, or submitit-local.")] = "local",
) -> None:
    """Run every point of a sweep that is not finished yet, then report.

    On this machine the jobs share out the GPUs in turn. With Slurm the teacher's capture is a job too,
    and the runs that read it wait for it.
    """
    from leadspan.study.advice import datasets_of, write_analysis
    from leadspan.study.launch import LocalJobs, run_points
    from leadspan.study.report import write_report
    from leadspan.study.slurm import SlurmJobs
    from leadspan.study.sweep import (
        RUNNING_ELSEWHERE,
        load_sweep,
        prepare_sweep,
        read_failure,
    )

    check_choice("launcher", launcher, ("local", "slurm", "submitit-local"))
    folder = output or Path("runs") / config.stem
    settings = load_sweep(config)
    points = prepare_sweep(settings, folder)
    cluster = launcher.removeprefix("submitit-")
    where = LocalJobs(jobs) if launcher == "local" else SlurmJobs(settings.slurm, cluster)
    failed = run_points(points, folder, where)
    advice = write_analysis(folder, points, datasets_of(points))
    report_path = write_report(folder)
    _print_runs(folder)
    for name, reasons in advice.items():
        echo(f"{name}: {'; '.join(reasons)}.")
    echo(f"{len(points) - len(failed)} of {len(points)} runs done. Report: {report_path}")
    for point in failed:
        reason = read_failure(point.folder(folder))
        state = "" if reason == RUNNING_ELSEWHERE else "failed: "
        echo(f"{state}{point.folder(folder)}: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


def _print_runs(folder: Path) -> None:
    """The result of every run of a sweep that has one; failed ones are said apart."""
    from rich.text import Text

    from leadspan.progress import amount, build_console, build_table
    from leadspan.study.results import read_results

    headers = ("run", "accuracy", "95 % interval", "validation\nloss", "tokens", "seconds")
    table = build_table(*headers)
    for run in read_results(folder).runs:
        row = run.row
        if not run.is_done:
            continue
        low, high = row.accuracy_low, row.accuracy_high
        table.add_row(
            Text(row.run),
            "-" if row.accuracy is None else f"{row.accuracy:.3f}",
            "-" if low is None or high is None else f"{low:.3f} to {high:.3f}",
            "-" if row.val_loss is None else f"{row.val_loss:.4f}",
            "-" if row.tokens_forwarded is None else amount(row.tokens_forwarded),
            "-" if row.train_seconds is None else f"{row.train_seconds:,.1f}",
        )
    if table.rows:
        build_console().print(table)


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a sweep, finished or not, or of a run.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Where the report goes; report/ in the folder by default.")
    ] = None,
) -> None:
    """Write results.csv, Markdown, figures and one HTML file about a sweep or a run."""
    from leadspan.study.report import describe_sweep, write_report

    path = write_report(folder, output)
    echo(describe_sweep(folder, path))


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
    echo(f"traces   {built.traces}")
    for path in built.tests:
        echo(f"test     {path}")
    echo(f"student  {built.student}")
    echo(f"teacher  {built.teacher}")
