"""`leadspan analyze`, `advise` and `plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadspan.cli.common import (
    YAML_SUFFIXES,
    JsonOption,
    SetOption,
    SourceArgument,
    TokenizerOption,
    check_choice,
    echo,
    print_json,
    read_run,
    read_source,
    tokenizer_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leadspan.analysis.per_token import ScoredTokenCost
    from leadspan.analysis.plan import Plan
    from leadspan.config import RunConfig, TracesConfig

SHOWN_LSPS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(analyze)
    app.command()(advise)
    app.command()(plan)


def analyze(
    source: SourceArgument,
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
    run, loaded = read_source(source, tokenizer, overrides)
    from leadspan.analysis.analyze import analyze as analyze_traces
    from leadspan.analysis.analyze import reading_rows, summarise
    from leadspan.runs import write_text_atomic

    analysis = analyze_traces(run.traces, loaded, run.render)
    summary = summarise(analysis)
    if traces_output is not None:
        lines = (json.dumps(row, ensure_ascii=False) for row in reading_rows(analysis))
        write_text_atomic(traces_output, "".join(f"{line}\n" for line in lines))
    if judge_url is not None:
        summary["judge"] = _judge(run.traces, judge_url, judge_model, judge_sample, yes)
    if as_json:
        print_json(summary)
    else:
        _print_summary(source, summary)


def advise(
    source: SourceArgument,
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Recommend a cut for these traces, or advise against one, with the reasons in numbers."""
    run, loaded = read_source(source, tokenizer, overrides)
    from leadspan.analysis.advise import advise as advise_on
    from leadspan.analysis.analyze import analyze as analyze_traces

    advice = advise_on(analyze_traces(run.traces, loaded, run.render))
    found = advice.to_json()
    token_cost = None
    if source.endswith(YAML_SUFFIXES) and advice.kept_tokens_fraction is not None:
        run = _plain(run)
        found["saving"] = _saving(run, loaded, advice.recommended_lsp)
        token_cost = _token_cost(run, loaded, advice.recommended_lsp)
    if token_cost is not None:
        found["flops_per_scored_token"] = token_cost.to_json()
    if as_json:
        print_json(found)
        return
    for reason in advice.reasons:
        echo(f"- {reason}")
    for name, ratio in (found.get("saving") or {}).items():
        echo(f"- predicted {name.replace('_', ' ')}: {ratio:.2f} of the whole")
    if token_cost is not None:
        echo(f"- {token_cost}")
    echo(advice.order)


def _plain(run: RunConfig) -> RunConfig:
    """An epoch of plain leads: the advice is for equal data, whatever this run cuts, spends and writes."""
    from leadspan.config import TruncationConfig

    epoch = run.training.model_copy(update={"epochs": 1.0, "steps": None, "budget": None})
    plain = {"truncation": TruncationConfig(), "training": epoch, "rollout": None}
    return run.model_copy(update=plain)


def _token_cost(run: RunConfig, tokenizer: Any, lsp: float | None) -> ScoredTokenCost | None:
    """Off-policy beside on-policy; None without a recommended lsp, a teacher, or its sizes."""
    from leadspan.analysis.per_token import scored_token_cost
    from leadspan.errors import ConfigError
    from leadspan.progress import say
    from leadspan.traces.dataset import build_sequences

    if lsp is None:
        return None
    try:
        return scored_token_cost(run, build_sequences(run, tokenizer).train, lsp)
    except ConfigError as error:
        say(f"on-policy is not compared: {error}")
        return None


def _saving(run: RunConfig, tokenizer: Any, lsp: float | None) -> dict[str, float] | None:
    """Predicted cost of the recommended lsp as a share of lsp 1.0."""
    from leadspan.analysis.plan import plan_run

    if lsp is None:
        return None
    row = plan_run(run, tokenizer, lsps=(lsp, 1.0)).to_json()["rows"][0]
    return {"flops": row["flops_ratio"], "memory": row["memory_ratio"]}


def _judge(
    traces: TracesConfig, url: str, model: str | None, sample: int, yes: bool
) -> dict[str, Any]:
    from leadspan.analysis.judge import estimate, judge_traces
    from leadspan.config import EndpointConfig
    from leadspan.config_io import validate
    from leadspan.traces.sources import load_traces

    endpoint = validate(EndpointConfig, {"base_url": url, "model": model}, "--judge")
    loaded = load_traces(traces).traces[:sample]
    cost = estimate(loaded)
    echo(
        f"the judge will be asked {cost.calls} times, about {cost.prompt_tokens} tokens in and "
        f"{cost.answer_tokens} out; answers already in the cache cost nothing",
        err=True,
    )
    if not yes and not typer.confirm("ask?", err=True):
        return {"asked": False}
    return judge_traces(loaded, endpoint).summary()


def _print_summary(source: str, summary: dict[str, Any]) -> None:
    from leadspan.analysis.analyze import STATUSES
    from leadspan.progress import build_console, build_table

    counts = ", ".join(
        f"{name.replace('_', ' ')} {summary[name]}" for name in ("traces", *STATUSES)
    )
    echo(f"{source}: {counts}")
    if summary["refused"]:
        refused = ", ".join(f"{reason} {number}" for reason, number in summary["refused"].items())
        echo(f"rows that are not used: {refused}")
    echo(
        f"chat template: {summary['template']}; median prompt {summary['median_prompt_tokens']} of "
        f"{summary['median_tokens']} tokens"
    )
    if summary["derived"]:
        low, middle, high = summary["quartiles"]
        echo(
            f"first derivation ends at {middle:.0%} of the sequence (middle half {low:.0%} to "
            f"{high:.0%}), {summary['median_cot_fraction']:.0%} of the CoT; in the answer only: "
            f"{summary['derived_in_answer']}; cues before it {summary['cues_before']:.1f}, after it "
            f"{summary['cues_after']:.1f}"
        )
        table = build_table("lsp", *SHOWN_LSPS, title="share of derivations that the lead keeps")
        table.add_row("kept", *(f"{summary['survival'][lsp]:.0%}" for lsp in SHOWN_LSPS))
        for end, name in enumerate(("95 % from", "to")):
            ends = (summary["survival_interval"][lsp][end] for lsp in SHOWN_LSPS)
            table.add_row(name, *(f"{value:.0%}" for value in ends))
        build_console().print(table)
    if "judge" in summary:
        echo(f"judge: {json.dumps(summary['judge'])}")


def plan(
    config: Annotated[Path, typer.Argument(help="run.yaml or sweep.yaml")],
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
    overrides: SetOption = [],  # noqa: B006
    calibrate: Annotated[
        list[Path],
        typer.Option(help="Folder of a finished run on the same machine; give two or three lsps."),
    ] = [],  # noqa: B006
    peak_tflops: Annotated[float | None, typer.Option(help="Peak of the device instead.")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that is reached.")] = 0.4,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    ranks: Annotated[int, typer.Option(help="Devices that share weights and optimiser.")] = 1,
    num_traces: Annotated[
        int | None, typer.Option(help="State the data instead of reading it: how many traces ...")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="... of how many tokens ...")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="... of which the prompt.")] = 150,
) -> None:
    """Show cost, memory and what survives at every lsp, before anything is trained.

    Data that is not on this machine is never downloaded: its size is taken from the options, or from
    traces.sample and traces.max_tokens. A sweep is planned setting by setting, and summed up.
    """
    from leadspan.analysis.plan import plan_run, plan_stated, stated_size
    from leadspan.config_io import read_yaml
    from leadspan.errors import ConfigError
    from leadspan.study.advice import plan_sweep, sum_up
    from leadspan.study.run import annotator_of
    from leadspan.study.sweep import expand, load_sweep

    check_choice("device", device, ("cuda", "cpu"))
    speed = _speed(calibrate, peak_tflops, utilisation)

    def plan_one(run: RunConfig, lsps: Sequence[float] | None = None) -> Plan:
        stated = stated_size(run, num_traces, tokens)
        if stated is None:
            loaded, annotate = tokenizer_of(run, tokenizer), annotator_of(run.truncation)
            return plan_run(run, loaded, speed, device, ranks, lsps, annotate)
        return plan_stated(run, *stated, prompt_tokens, speed, device, ranks, lsps)

    if "grids" in read_yaml(config):
        if overrides:
            raise ConfigError(f"{config}: --set changes a run.yaml, not a sweep. Edit the sweep.")
        planned = plan_sweep(expand(load_sweep(config), config.parent), plan_one)
        found = sum_up(planned, ranks)
        shown = [(f"{one['name']}, {one['runs']} runs", one) for one in found["settings"]]
    else:
        found = plan_one(read_run(config, overrides)).to_json()
        shown = [("", found)]
    if as_json:
        print_json(found)
        return
    for title, content in shown:
        _print_plan(content, title)
    if "runs" in found:
        hours = found["device_hours"]
        hours = "" if hours is None else f", {hours:.3g} device hours"
        echo(f"all {found['runs']} runs: {found['flops']:.3g} FLOPs{hours}")


def _speed(folders: list[Path], peak_tflops: float | None, utilisation: float) -> Any:
    from leadspan.analysis.speed import fit_speed, measurement_of, stated_speed
    from leadspan.errors import ConfigError, RunError
    from leadspan.runs import RunFolder

    if folders:
        measured = []
        for folder in folders:
            try:
                measured.append(measurement_of(RunFolder(folder).manifest))
            except (RunError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"--calibrate {folder}: must be a finished run; {error}") from None
        return fit_speed(measured)
    if peak_tflops is None:
        return None
    if peak_tflops <= 0 or not 0 < utilisation <= 1:
        raise ConfigError(
            f"--peak-tflops must be above 0 and --utilisation in (0, 1]; got {peak_tflops:g} and "
            f"{utilisation:g}."
        )
    return stated_speed(peak_tflops, utilisation)


def _print_plan(content: dict[str, Any], title: str) -> None:
    from leadspan.progress import amount, build_console, build_table

    headers = [
        "lsp",
        "kept",
        "tokens",
        "FLOPs",
        "ratio",
        "GiB",
        "card\nGiB",
        "disk\nGiB",
        "seconds",
    ]
    has_rollouts = any(row["tokens_sampled"] for row in content["rows"])
    headers += ["sampled", "writing\nFLOPs"] if has_rollouts else []
    caption = "kept: share of the traces whose first derivation survives"
    table = build_table(*headers, title=title, caption=caption, texts=0)
    for row in content["rows"]:
        written = (amount(row["tokens_sampled"]), f"{row['rollout_flops']:.3g}")
        kept, card = row["survival"], row["smallest_card_gib"]
        table.add_row(
            f"{row['lsp']:g}",
            "?" if kept is None else f"{kept:.0%}",
            amount(row["tokens_forwarded"]),
            f"{row['student_flops'] + row['teacher_flops']:.3g}",
            f"{row['flops_ratio']:.2f}",
            f"{row['memory_gib']['total']:.1f}",
            "none" if card is None else f"{card:g}",
            f"{row['disk_gib']:.1f}",
            "?" if row["seconds"] is None else amount(row["seconds"]),
            *(written if has_rollouts else ()),
        )
    build_console().print(table)
    source = content["seconds_from"] or "nothing: give --calibrate or --peak-tflops"
    echo(f"{content['traces']} traces {content['data']}; seconds from {source}")
    for note in content["notes"]:
        echo(f"- {note}")
