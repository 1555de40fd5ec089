"""`leadspan runs`, `show`, `tasks` and `push`: what there is, and handing it on."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadspan.cli.common import JsonOption, echo, print_json

if TYPE_CHECKING:
    from leadspan.study.overview import RunOverview

WIDTH = 80
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(runs)
    app.command()(show)
    app.command()(tasks)
    app.command()(push)


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, at any depth.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder: state, lsp, loss, accuracy and cost."""
    from leadspan.study.overview import read_overviews

    found = read_overviews(folder)
    if as_json:
        print_json([asdict(run) for run in found])
    elif found:
        _print_runs(found)
    else:
        echo(f"{folder}: no runs. leadspan train run.yaml --output {folder / 'NAME'}")


def _print_runs(found: list[RunOverview]) -> None:
    from rich.table import Table
    from rich.text import Text

    from leadspan.progress import build_console
    from leadspan.study.overview import say_seconds

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold")
    for name in ("state", "lsp", "loss", "accuracy", "time", "FLOPs"):
        table.add_column(name, no_wrap=True, justify="left" if name == "state" else "right")
    place = Path()
    for run in found:
        inside = Path(run.name)
        if inside.parent != place:  # once above its runs, so that their names fit
            place = inside.parent
            table.add_row(Text(f"{place}/"))
        is_under_way = run.state != "complete" and run.step is not None
        table.add_row(
            Text(inside.name if place == Path() else f"  {inside.name}"),
            f"{run.state} {run.step}" if is_under_way else run.state,
            "" if run.lsp is None else f"{run.lsp:g}",
            "" if run.train_loss is None else f"{run.train_loss:.3f}",
            ""
            if run.accuracy is None
            else f"{run.accuracy:.2f} [{run.accuracy_low:.2f}, {run.accuracy_high:.2f}]",
            "" if run.train_seconds is None else say_seconds(run.train_seconds),
            "" if run.train_flops is None else f"{run.train_flops:.1e}",
        )
    build_console().print(table)
    for run in found:
        if run.error is not None:
            echo(f"{run.name}: {run.error}")


def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show what a run was, on one screen: models, data, cut, loss, cost, scores."""
    from leadspan.study.overview import describe, read_details

    details = read_details(run)
    if as_json:
        print_json(details.to_json())
        return
    lines = describe(details)
    indent = max(len(label) for label, _ in lines) + 2
    for label, text in lines:
        echo(
            textwrap.fill(
                text,
                WIDTH if label != "next" else 10**6,  # a command is to be copied
                initial_indent=label.ljust(indent),
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def tasks(as_json: JsonOption = False) -> None:
    """List the benchmarks that are known by name."""
    from leadspan.registry import registered, registered_names

    known = {name: found.defaults for name in registered_names() if (found := registered(name))}
    if as_json:
        print_json({name: benchmark.model_dump(mode="json") for name, benchmark in known.items()})
        return
    width = max(map(len, known)) + 2
    for name, benchmark in known.items():
        parts = [benchmark.path, benchmark.config or "", benchmark.split or "test"]
        echo(f"{name:<{width}}{' '.join(filter(None, parts))}")
    echo(
        "\nIn run.yaml: evaluation: {benchmarks: [{path: gsm8k}]}. On the command line: leadspan evaluate "
        "RUN\n--benchmark gsm8k. A file or another data set of the hub works too: docs/evaluation.md."
    )


def push(
    run: RunArgument,
    repo: Annotated[str, typer.Option(help="Where on the hub: user/name, or organisation/name.")],
    private: Annotated[
        bool, typer.Option("--private", help="Where the repository is new, show it to nobody else.")
    ] = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The LoRA adapter alone, not the merged model.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be uploaded; ask the hub nothing.")
    ] = False,
) -> None:
    """Upload a finished run's student and model card to the Hugging Face hub."""
    from leadspan.study.publish import check_repo, files_to_push, push_files

    check_repo(repo)
    files = files_to_push(run, adapter)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if dry_run:
        echo(f"would upload to {repo}{' (private)' if private else ''}, in one commit:")
        for name, size in sizes.items():
            echo(f"{size:>15,}  {name}")
        echo(f"{sum(sizes.values()):>15,}  bytes in {len(sizes)} files")
        return
    echo(push_files(files, repo, private))
