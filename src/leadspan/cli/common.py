"""Arguments and options that several verbs share, and the run that stands behind them.

Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadspan.progress import wrapped

if TYPE_CHECKING:
    from leadspan.config import RunConfig

ConfigArgument = Annotated[Path, typer.Argument(help="run.yaml")]
SourceArgument = Annotated[
    str, typer.Argument(help="run.yaml, or traces: file, folder, glob, hub id")
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change one key of the file: traces.sample=100. Short keys: lsp, keep, sections, kd_ratio.",
    ),
]
LspOption = Annotated[
    float | None, typer.Option(help="Share of each sequence that is kept; same as --set lsp=0.5.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
OutputOption = Annotated[
    Path | None, typer.Option(help="Folder to write, or to go on in; runs/NAME by default.")
]
TokenizerOption = Annotated[
    str | None, typer.Option(help="Folder or hub id; the student's of run.yaml by default.")
]

YAML_SUFFIXES = (".yaml", ".yml")
PARTS = ("traces", "render", "truncation", "supervision")
"""Of a run.yaml, all that a verb reads which is given traces without one."""


def read_run(path: Path, overrides: list[str], lsp: float | None = None) -> RunConfig:
    """The config of a run.yaml with the changes of `--set` and `--lsp`."""
    from leadspan.config_io import load_run_config

    return load_run_config(path, tuple(with_lsp(overrides, lsp)))


def with_lsp(overrides: list[str], lsp: float | None) -> list[str]:
    """The assignments of `--set`, and that of `--lsp` behind them."""
    return overrides if lsp is None else [*overrides, f"lsp={lsp}"]


def read_source(
    source: str, tokenizer: str | None, overrides: list[str], **render: str
) -> tuple[RunConfig, Any]:
    """The run and the tokenizer that traces are read with.

    Args:
        source: A run.yaml, which need not say how to train, or traces.
        tokenizer: Folder or hub id, instead of the student's.
        overrides: Of `--set`.
        **render: Keys of the render part that have an option of their own.
    """
    from leadspan.config import RunConfig
    from leadspan.config_io import apply_override, read_run_yaml, set_key, validate, whole_key
    from leadspan.errors import ConfigError

    is_run = source.endswith(YAML_SUFFIXES)
    content = read_run_yaml(Path(source)) if is_run else {"traces": {"path": source}}
    content = {"loss": {"kd_ratio": 0}, "training": {"steps": 1}, **content}
    if tokenizer is not None:
        content.setdefault("student", {"path": tokenizer})
    elif "student" not in content:
        raise ConfigError(f"{source}: give --tokenizer, the student's folder or hub id.")
    for assignment in overrides:
        key = whole_key(assignment.partition("=")[0].strip())
        if not is_run and key.partition(".")[0] not in PARTS:
            raise ConfigError(
                f"--set {assignment}: without a run.yaml only {_any_of(PARTS)} apply."
            )
        content = apply_override(content, assignment)
    for key, value in render.items():
        content = set_key(content, f"render.{key}", value)
    run = validate(RunConfig, content, source)
    return run, tokenizer_of(run, tokenizer)


def _any_of(parts: tuple[str, ...]) -> str:
    return ", ".join(f"{part}.*" for part in parts)


def tokenizer_of(run: RunConfig, other: str | None = None) -> Any:
    """The student's tokenizer with the run's chat template, or that of another folder or hub id."""
    from leadspan.config import ModelConfig
    from leadspan.models import load_tokenizer

    return load_tokenizer(run.student if other is None else ModelConfig(path=other), run.render)


def echo(text: str, err: bool = False) -> None:
    """Print a result, or with `err` what goes with it; on a terminal no line breaks inside a word."""
    typer.echo(wrapped(text, sys.stderr if err else sys.stdout), err=err)


def print_json(content: Any, indent: int | None = None) -> None:
    """One JSON object, in ASCII: rows may hold characters that no terminal takes."""
    typer.echo(json.dumps(content, indent=indent))


def check_choice(option: str, value: str | None, allowed: tuple[str, ...]) -> None:
    """Check an option that takes one of a few words.

    Raises:
        ConfigError: It is another.
    """
    from leadspan.errors import ConfigError

    if value is not None and value not in allowed:
        raise ConfigError(f"--{option} must be one of {', '.join(allowed)}; got {value!r}.")
