"""`leadspan init` and `leadspan train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SetOption = Annotated[
    list[str], typer.Option("--set", help="Change one key of the file: truncation.lsp=0.25")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(init)
    app.command()(train)


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("run.yaml"),
    teacher: Annotated[
        str | None, typer.Option(help="Folder or hub id; Qwen3-8B, or 1.7B without a GPU.")
    ] = None,
    student: Annotated[str, typer.Option(help="Folder or hub id.")] = "Qwen/Qwen3-0.6B-Base",
    traces: Annotated[str, typer.Option(help="File, folder or hub id.")] = "traces.jsonl",
) -> None:
    """Write a commented run.yaml for your own teacher, student and traces."""
    from leadspan.config_file import write_template
    from leadspan.errors import ConfigError

    if path.exists():
        raise ConfigError(f"{path}: is there already. Give another name or delete it.")
    import torch

    on_cpu = not torch.cuda.is_available()
    teacher = teacher or ("Qwen/Qwen3-1.7B" if on_cpu else "Qwen/Qwen3-8B")
    write_template(path, teacher, student, traces, first_run=on_cpu)
    if on_cpu:
        typer.echo(
            "No GPU here: the settings are those of a first run, 4 short steps that should end within 10 "
            "minutes on two cores with a student of 0.6B and a teacher of 1.7B. Comments say what to write "
            "for a real run."
        )
    typer.echo(f"{path} written. Next: leadspan doctor {path}, then leadspan train {path}")


def train(
    config: Annotated[Path, typer.Argument(help="run.yaml")],
    output: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default.")] = None,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Train a student, then evaluate it where run.yaml names benchmarks."""
    from leadspan.config_file import load_run_config

    run_config = load_run_config(config, tuple(overrides))
    from leadspan.study.run import check, is_first_rank, run

    folder = output or Path("runs") / config.stem
    if is_first_rank():
        check(run_config, folder)
    trained, result = run(run_config, folder)
    if not is_first_rank():
        return
    manifest = trained.manifest
    val_loss = manifest["val_loss"]
    validated = (
        "" if val_loss is None else f", validation {val_loss:.4f} (step {manifest['best_step']})"
    )
    typer.echo(
        f"{folder}: {manifest['steps']} steps in {manifest['train_seconds']:.1f} s, "
        f"training loss {manifest['train_loss']:.4f}{validated}. Student: {trained.student_path}"
    )
    if result is not None:
        typer.echo(
            f"accuracy {result.accuracy:.3f} [{result.accuracy_low:.3f}, {result.accuracy_high:.3f}], "
            f"closed {result.closed_fraction:.3f}, samples in {folder / 'evaluation'}"
        )
