"""`leadspan inspect`, `doctor` and `prepare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from leadspan.cli.common import (
    ConfigArgument,
    JsonOption,
    LspOption,
    SetOption,
    SourceArgument,
    TokenizerOption,
    check_choice,
    echo,
    print_json,
    read_run,
    read_source,
    tokenizer_of,
    with_lsp,
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(inspect)
    app.command()(doctor)
    app.command()(prepare)


def inspect(
    source: SourceArgument,
    tokenizer: TokenizerOption = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="Jinja file instead of the tokenizer's own template.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page to look at.")] = None,
    traces: Annotated[
        int, typer.Option(help="Show so many traces too, as the student will see them.", min=0)
    ] = 0,
    derivations: Annotated[
        bool, typer.Option("--derivations", help="Count the first derivations that a cut keeps.")
    ] = False,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Read rows without a completion too, for rollouts.")
    ] = False,
    lsp: LspOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Show traces as the student will see them: sections, lengths, cuts, what is refused.

    Exit code 1 if no trace is usable.
    """
    render = {} if chat_template is None else {"chat_template": str(chat_template)}
    run, loaded = read_source(source, tokenizer, with_lsp(overrides, lsp), **render)
    from leadspan.progress import build_console
    from leadspan.runs import write_text_atomic
    from leadspan.study.run import annotate_derivation, annotator_of
    from leadspan.traces.dataset import nothing_usable
    from leadspan.traces.inspect import inspect_traces, show

    annotate = annotate_derivation if derivations else annotator_of(run.truncation)
    parts = (run.traces, run.render, run.truncation, run.supervision)
    inspection = inspect_traces(
        loaded,
        *parts,
        num_specimens=max(traces, 0 if html is None else 1),
        annotate=annotate,
        takes_prompts=prompts or run.takes_prompts,
    )
    if html is not None:
        from leadspan.study.report.traces_page import build_traces_page

        write_text_atomic(html, build_traces_page(inspection))
        inspection.specimens = inspection.specimens[:traces]
    if as_json:
        print_json(inspection.as_dict())
    else:
        show(inspection, build_console())
        if html is not None:
            echo(f"page: {html}")
    if not inspection.usable:
        echo(nothing_usable(run.traces, inspection.counts), err=True)
        raise typer.Exit(1)


def doctor(
    config: ConfigArgument,
    output: Annotated[Path | None, typer.Option(help="The run's folder, for its disk.")] = None,
    lsp: LspOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Look for what would go wrong, before a model is loaded. Exit code 1 if something would."""
    run = read_run(config, overrides, lsp)
    from leadspan.study.run import annotator_of
    from leadspan.traces.doctor import examine

    findings = examine(run, output, annotator_of(run.truncation))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        echo("\n".join(map(str, findings)))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def prepare(
    config: ConfigArgument,
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    export: Annotated[
        str | None, typer.Option(help="Also write cut text: messages or prompt_completion.")
    ] = None,
    lsp: LspOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Write the cut, masked, tokenised set as Arrow folders for other trainers."""
    check_choice("export", export, ("messages", "prompt_completion"))
    run = read_run(config, overrides, lsp)
    from leadspan.study.run import annotator_of
    from leadspan.traces.prepare import prepare as prepare_set

    annotate = annotator_of(run.truncation)
    prepared = prepare_set(run, tokenizer_of(run), output, export, annotate)  # type: ignore[arg-type]
    if as_json:
        print_json(prepared.as_dict())
        return
    cuts = prepared.cuts
    echo(
        f"{output}: {prepared.rows['train']} rows to train on, {prepared.rows['validation']} held "
        f"out; {cuts.kept_tokens:,} of {cuts.full_tokens:,} tokens kept, "
        f"{sum(cuts.scored_tokens.values()):,} scored."
    )
    if export and cuts.kept_tokens < cuts.full_tokens:
        echo("Trainers that read text end each cut trace with an end of turn; Arrow rows do not.")
    for reason, number in prepared.counts.refused.most_common():
        echo(f"refused: {reason} {number} (first at {prepared.counts.places.get(reason)})")
