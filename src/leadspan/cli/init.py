"""`leadspan init` and `schema`: what goes into run.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadspan.cli.common import echo, print_json

if TYPE_CHECKING:
    from leadspan.analysis.fit import Fit
    from leadspan.study.starter import Wishes

GIB = 1024**3


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(init)
    app.command()(schema)


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("run.yaml"),
    teacher: Annotated[
        str | None, typer.Option(help="Folder or hub id; Qwen3-8B, or 1.7B without a GPU.")
    ] = None,
    student: Annotated[str, typer.Option(help="Folder or hub id.")] = "Qwen/Qwen3-0.6B-Base",
    traces: Annotated[str, typer.Option(help="File, folder or hub id.")] = "traces.jsonl",
    card: Annotated[
        float | None,
        typer.Option(
            help="Memory in GiB of the GPU to fit, such as 24 or 80; this one's by default."
        ),
    ] = None,
    on_policy: Annotated[
        bool, typer.Option("--on-policy", help="The student writes, the teacher scores.")
    ] = False,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train adapters even where all weights would fit.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Write every key with its default and its help.")
    ] = False,
) -> None:
    """Write a commented run.yaml for your own teacher, student and traces.

    Batch, gradient checkpointing, LoRA and teacher cache are chosen so that the run fits the card, by the
    memory that `plan` predicts.
    """
    from leadspan.analysis.fit import CACHE_FOLDER
    from leadspan.errors import ConfigError
    from leadspan.precision import own_device
    from leadspan.study.starter import Wishes, describe_fit, write_starter

    if path.exists():
        raise ConfigError(f"{path}: is there already. Give another name or delete it.")
    if card is not None and card <= 0:
        raise ConfigError(
            f"--card must be above 0; got {card:g}. Give the memory of the GPU in GiB."
        )
    on_cpu = card is None and own_device() == "cpu"
    wishes = Wishes(
        teacher or ("Qwen/Qwen3-1.7B" if on_cpu else "Qwen/Qwen3-8B"),
        student,
        traces,
        on_policy=on_policy,
        lora=lora,
        first_run=on_cpu,
    )
    fit = None if on_cpu else _fit(wishes, card)
    schema_path = write_starter(path, wishes, fit, full)
    if on_cpu:
        echo(
            "No GPU here: the settings are those of a first run, 4 short steps that should end within 10 "
            "minutes on two cores with a student of 0.6B and a teacher of 1.7B. Comments say what to write "
            "for a real run; --card 24 sizes one for a GPU of 24 GiB."
        )
    for line in [] if fit is None else describe_fit(fit):
        echo(line)
    captures = fit is not None and fit.needs_capture
    first = f"leadspan capture {path} --output {CACHE_FOLDER}, then " if captures else ""
    echo(
        f"{path} written, with {schema_path} for your editor. Next: {first}leadspan doctor {path}, then "
        f"leadspan train {path}"
    )


def _fit(wishes: Wishes, card: float | None) -> Fit | None:
    """Settings for the card that is named, else for this machine's own, as far as sizes are known."""
    from leadspan.errors import ConfigError
    from leadspan.precision import memory_bytes
    from leadspan.study.starter import fit_wishes

    if card is not None:
        return fit_wishes(wishes, card)
    try:
        return fit_wishes(wishes, round(memory_bytes("cuda") / GIB, 1))
    except ConfigError as error:
        echo(f"not sized for this GPU: {error}", err=True)
        return None


def schema(
    sweep: Annotated[bool, typer.Option("--sweep", help="Of sweep.yaml instead.")] = False,
) -> None:
    """Print the JSON schema of run.yaml, for an editor: leadspan schema > run.schema.json."""
    from leadspan.config_reference import build_run_schema, build_sweep_schema

    print_json(build_sweep_schema() if sweep else build_run_schema(), indent=1)
