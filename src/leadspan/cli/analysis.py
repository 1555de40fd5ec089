"""`leadspan analyze` and `leadspan advise`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadspan.cli.training import SetOption

if TYPE_CHECKING:
    from leadspan.analysis.analyze import Analysis

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TokenizerOption = Annotated[
    str | None, typer.Option("--tokenizer", help="Folder or hub id; needed with a file of traces.")
]
YAML_SUFFIXES = (".yaml", ".yml")
SHOWN_LSPS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(analyze)
    app.command()(advise)


def analyze(
    source: Annotated[str, typer.Argument(help="Traces (file, folder, hub id) or a run.yaml.")],
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
    traces_output: Annotated[
        Path | None, typer.Option("--traces", help="Write one JSON line a trace here.")
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge", help="Ask an LLM at this OpenAI-compatible URL too.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Its name on the server.")] = None,
    judge_sample: Annotated[int, typer.Option(help="Traces that the judge reads.")] = 100,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask the judge without showing the cost.")
    ] = False,
) -> None:
    """Say where traces first derive their answers, and which cut keeps it."""
    from leadspan.analysis.analyze import reading_rows, summarise
    from leadspan.runs import write_text_atomic

    analysis, loaded = _read(source, tokenizer, overrides)
    summary = summarise(analysis)
    if traces_output is not None:
        lines = (json.dumps(row, ensure_ascii=False) for row in reading_rows(analysis))
        write_text_atomic(traces_output, "".join(f"{line}\n" for line in lines))
    if judge_url is not None:
        summary["judge"] = _judge(loaded, judge_url, judge_model, judge_sample, yes)
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
    else:
        _print_summary(source, summary)


def advise(
    source: Annotated[str, typer.Argument(help="Traces (file, folder, hub id) or a run.yaml.")],
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Recommend a cut for these traces, or advise against one, with the reasons in numbers."""
    from leadspan.analysis.advise import advise as advise_on

    analysis, _ = _read(source, tokenizer, overrides)
    advice = advise_on(analysis)
    found = advice.to_json()
    if source.endswith(YAML_SUFFIXES) and advice.kept_tokens_fraction is not None:
        found["saving"] = _saving(source, overrides, advice.recommended_lsp)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for reason in advice.reasons:
        typer.echo(f"- {reason}")
    for name, ratio in (found.get("saving") or {}).items():
        typer.echo(f"- predicted {name.replace('_', ' ')}: {ratio:.2f} of the whole")
    typer.echo(advice.order)


def _read(source: str, tokenizer: str | None, overrides: list[str]) -> tuple[Analysis, Any]:
    """Analyse a file of traces, or the traces of a run.yaml; also returns their config."""
    from leadspan.analysis.analyze import analyze as analyze_traces
    from leadspan.config import RenderConfig, TracesConfig
    from leadspan.config_file import apply_override, load_run_config, validate
    from leadspan.errors import ConfigError
    from leadspan.models import load_tokenizer

    if source.endswith(YAML_SUFFIXES):
        run = load_run_config(Path(source), tuple(overrides))
        traces, render = run.traces, run.render
        path = tokenizer or run.student.path
    else:
        if tokenizer is None:
            raise ConfigError(
                "--tokenizer must be given with a file of traces; got none. Name the student's folder."
            )
        content: dict[str, Any] = {"traces": {"path": source}, "render": {}}
        for assignment in overrides:
            if not assignment.startswith(("traces.", "render.")):
                raise ConfigError(
                    f"--set {assignment}: write traces.KEY=VALUE or render.KEY=VALUE."
                )
            content = apply_override(content, assignment)
        traces = validate(TracesConfig, content["traces"], "--set traces")
        render = validate(RenderConfig, content["render"], "--set render")
        path = tokenizer
    return analyze_traces(traces, load_tokenizer(path), render), traces


def _saving(source: str, overrides: list[str], lsp: float | None) -> dict[str, float] | None:
    """Predicted cost of the recommended lsp as a share of lsp 1.0."""
    from leadspan.analysis.plan import plan_run
    from leadspan.config import TruncationConfig
    from leadspan.config_file import load_run_config
    from leadspan.models import load_tokenizer

    if lsp is None:
        return None
    run = load_run_config(Path(source), tuple(overrides))
    # The advice is a plain lead, and its saving that of equal data, whatever this run cuts and spends.
    epoch = run.training.model_copy(update={"epochs": 1.0, "steps": None, "budget": None})
    run = run.model_copy(update={"truncation": TruncationConfig(), "training": epoch})
    row = plan_run(run, load_tokenizer(run.student.path), lsps=(lsp, 1.0)).to_json()["rows"][0]
    return {"flops": row["flops_ratio"], "memory": row["memory_ratio"]}


def _judge(traces: Any, url: str, model: str | None, sample: int, yes: bool) -> dict[str, Any]:
    from leadspan.analysis.judge import estimate, judge_traces
    from leadspan.config import EndpointConfig
    from leadspan.config_file import validate
    from leadspan.traces.sources import load_traces

    endpoint = validate(EndpointConfig, {"base_url": url, "model": model}, "--judge")
    loaded = load_traces(traces).traces[:sample]
    cost = estimate(loaded)
    typer.echo(
        f"the judge will be asked {cost.calls} times, about {cost.prompt_tokens} tokens in and "
        f"{cost.answer_tokens} out; answers already in the cache cost nothing",
        err=True,
    )
    if not yes and not typer.confirm("ask?", err=True):
        return {"asked": False}
    return judge_traces(loaded, endpoint).summary()


def _print_summary(source: str, summary: dict[str, Any]) -> None:
    from rich.table import Table

    from leadspan.analysis.analyze import STATUSES
    from leadspan.progress import build_console

    counts = ", ".join(
        f"{name.replace('_', ' ')} {summary[name]}" for name in ("traces", *STATUSES)
    )
    typer.echo(f"{source}: {counts}")
    if summary["refused"]:
        refused = ", ".join(f"{reason} {number}" for reason, number in summary["refused"].items())
        typer.echo(f"rows that are not used: {refused}")
    typer.echo(
        f"chat template: {summary['template']}; median prompt {summary['median_prompt_tokens']} of "
        f"{summary['median_tokens']} tokens"
    )
    if summary["derived"]:
        low, middle, high = summary["quartiles"]
        typer.echo(
            f"first derivation ends at {middle:.0%} of the sequence (middle half {low:.0%} to "
            f"{high:.0%}), {summary['median_cot_fraction']:.0%} of the CoT; in the answer only: "
            f"{summary['derived_in_answer']}; cues before it {summary['cues_before']:.1f}, after it "
            f"{summary['cues_after']:.1f}"
        )
        table = Table("lsp", *SHOWN_LSPS, title="share of derivations that the lead keeps")
        table.add_row("kept", *(f"{summary['survival'][lsp]:.0%}" for lsp in SHOWN_LSPS))
        for end, name in enumerate(("95 % from", "to")):
            ends = (summary["survival_interval"][lsp][end] for lsp in SHOWN_LSPS)
            table.add_row(name, *(f"{value:.0%}" for value in ends))
        build_console().print(table)
    if "judge" in summary:
        typer.echo(f"judge: {json.dumps(summary['judge'])}")
