"""`leadspan inspect`, `leadspan doctor` and `leadspan prepare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

SetOption = Annotated[
    list[str], typer.Option("--set", help="Change one key of the file: truncation.lsp=0.25")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(inspect)
    app.command()(doctor)
    app.command()(prepare)


def inspect(
    source: Annotated[str, typer.Argument(help="run.yaml, or traces: file, folder, glob, hub id")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub id; the student's of run.yaml by default.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="Jinja file instead of the tokenizer's own template.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page to look at.")] = None,
    traces: Annotated[int, typer.Option(help="How many traces to show.", min=0)] = 1,
    derivations: Annotated[
        bool, typer.Option("--derivations", help="Count the first derivations that a cut keeps.")
    ] = False,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Show traces as the student will see them: sections, lengths, cuts, what is refused.

    Exit code 1 if no trace is usable.
    """
    parts, path = _parts(source, tokenizer, chat_template, overrides)
    from leadspan.models import load_tokenizer
    from leadspan.study.run import annotate_derivation, annotator_of
    from leadspan.traces.inspect import inspect_traces

    annotate = annotate_derivation if derivations else annotator_of(parts["truncation"])
    inspection = inspect_traces(
        load_tokenizer(path), **parts, num_specimens=traces, annotate=annotate
    )
    if html is not None:
        from leadspan.runs import write_text_atomic
        from leadspan.traces.inspect import build_page

        write_text_atomic(html, build_page(inspection))
    if as_json:
        typer.echo(json.dumps(inspection.as_dict()))
    else:
        from leadspan.progress import build_console
        from leadspan.traces.inspect import show

        show(inspection, build_console())
        if html is not None:
            typer.echo(f"page: {html}")
    if not inspection.usable:
        from leadspan.traces.dataset import nothing_usable

        typer.echo(nothing_usable(parts["traces"], inspection.counts), err=True)
        raise typer.Exit(1)


def _parts(
    source: str, tokenizer: str | None, chat_template: Path | None, overrides: list[str]
) -> tuple[dict[str, Any], str]:
    """The parts of a config that inspection reads, and the tokenizer's path."""
    from leadspan.config import (
        ConfigModel,
        RenderConfig,
        SupervisionConfig,
        TracesConfig,
        TruncationConfig,
    )
    from leadspan.config_io import apply_override, read_yaml, set_key, validate
    from leadspan.errors import ConfigError

    is_run = source.endswith((".yaml", ".yml"))
    content = read_yaml(Path(source)) if is_run else {"traces": {"path": source}}
    for assignment in overrides:
        content = apply_override(content, assignment)
    if chat_template is not None:
        content = set_key(content, "render.chat_template", str(chat_template))
    student = content.get("student")
    path = tokenizer or (student.get("path") if isinstance(student, dict) else None)
    if not path:
        raise ConfigError(f"{source}: give --tokenizer, a folder or hub id to tokenise with.")
    models: dict[str, type[ConfigModel]] = {
        "traces": TracesConfig,
        "render": RenderConfig,
        "truncation": TruncationConfig,
        "supervision": SupervisionConfig,
    }
    parts: dict[str, Any] = {
        n: validate(m, content.get(n) or {}, f"{source}: {n}") for n, m in models.items()
    }
    return parts, str(path)


def doctor(
    config: Annotated[Path, typer.Argument(help="run.yaml")],
    output: Annotated[Path | None, typer.Option(help="The run's folder, for its disk.")] = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Look for what would go wrong, before a model is loaded. Exit code 1 if something would."""
    from leadspan.config_io import load_run_config

    run_config = load_run_config(config, tuple(overrides))
    from leadspan.study.run import annotator_of
    from leadspan.traces.doctor import examine

    annotate = annotator_of(run_config.truncation)
    findings = examine(run_config, output, annotate)
    if as_json:
        keys = ("level", "check", "message", "mend")
        typer.echo(json.dumps([{key: getattr(f, key) for key in keys} for f in findings]))
    else:
        for finding in findings:
            typer.echo(str(finding))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def prepare(
    config: Annotated[Path, typer.Argument(help="run.yaml")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    export: Annotated[
        str | None, typer.Option(help="Also write cut text: messages or prompt_completion.")
    ] = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Write the cut, masked, tokenised set as Arrow folders for other trainers."""
    from leadspan.config_io import load_run_config
    from leadspan.errors import ConfigError

    if export not in (None, "messages", "prompt_completion"):
        raise ConfigError(f"--export must be messages or prompt_completion; got {export!r}.")
    run_config = load_run_config(config, tuple(overrides))
    from leadspan.models import load_tokenizer
    from leadspan.study.run import annotator_of
    from leadspan.traces.prepare import prepare as prepare_set

    tokenizer = load_tokenizer(run_config.student.path, run_config.student.revision)
    annotate = annotator_of(run_config.truncation)
    prepared = prepare_set(run_config, tokenizer, output, export, annotate)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(prepared.as_dict()))
        return
    cuts = prepared.cuts
    typer.echo(
        f"{output}: {prepared.rows['train']} rows to train on, {prepared.rows['validation']} held "
        f"out; {cuts.kept_tokens:,} of {cuts.full_tokens:,} tokens kept, "
        f"{sum(cuts.scored_tokens.values()):,} scored."
    )
    if export and cuts.kept_tokens < cuts.full_tokens:
        typer.echo(
            "Trainers that read text end each cut trace with an end of turn; Arrow rows do not."
        )
    for reason, number in prepared.counts.refused.most_common():
        typer.echo(f"refused: {reason} {number} (first at {prepared.counts.places.get(reason)})")
