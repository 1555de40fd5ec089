"""`leadspan plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadspan.cli.analysis import JsonOption, TokenizerOption
from leadspan.cli.training import SetOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leadspan.analysis.plan import Plan
    from leadspan.config import RunConfig


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(plan)


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
    from leadspan.analysis.plan import PLANNED_LSPS, plan_run, plan_stated, stated_size
    from leadspan.config_file import load_run_config, read_yaml
    from leadspan.errors import ConfigError
    from leadspan.models import load_tokenizer
    from leadspan.study.cut_points import annotator_of
    from leadspan.study.planning import plan_sweep, sum_up
    from leadspan.study.sweep import expand, load_sweep

    speed = _speed(calibrate, peak_tflops, utilisation)

    def plan_one(run: RunConfig, lsps: Sequence[float]) -> Plan:
        stated = stated_size(run, num_traces, tokens)
        if stated is None:
            loaded = load_tokenizer(tokenizer or run.student.path)
            annotate = annotator_of(run.truncation)
            return plan_run(run, loaded, speed, device, ranks, lsps, annotate)
        return plan_stated(run, *stated, prompt_tokens, speed, device, ranks, lsps)

    if "grids" in read_yaml(config):
        if overrides:
            raise ConfigError(f"{config}: --set changes a run.yaml, not a sweep. Edit the sweep.")
        planned = plan_sweep(expand(load_sweep(config), config.parent), plan_one)
        found = sum_up(planned, ranks)
        shown = [(f"{one['name']}, {one['runs']} runs", one) for one in found["settings"]]
    else:
        found = plan_one(load_run_config(config, tuple(overrides)), PLANNED_LSPS).to_json()
        shown = [("", found)]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for title, content in shown:
        _print_plan(content, title)
    if "runs" in found:
        hours = found["device_hours"]
        hours = "" if hours is None else f", {hours:.3g} device hours"
        typer.echo(f"all {found['runs']} runs: {found['flops']:.3g} FLOPs{hours}")


def _speed(folders: list[Path], peak_tflops: float | None, utilisation: float) -> Any:
    from leadspan.analysis.cost import fit_speed, measurement_of, stated_speed
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
    from rich.table import Table

    from leadspan.progress import build_console

    headers = ("lsp", "kept", "tokens", "FLOPs", "ratio", "GiB", "card GiB", "disk GiB", "seconds")
    caption = "kept: share of the traces whose first derivation survives"
    table = Table(*headers, title=title or None, title_justify="left", caption=caption)
    for row in content["rows"]:
        kept, card = row["survival"], row["smallest_card_gib"]
        table.add_row(
            f"{row['lsp']:g}",
            "?" if kept is None else f"{kept:.0%}",
            f"{row['tokens_forwarded']:,}",
            f"{row['student_flops'] + row['teacher_flops']:.3g}",
            f"{row['flops_ratio']:.2f}",
            f"{row['memory_gib']['total']:.1f}",
            "none" if card is None else f"{card:g}",
            f"{row['disk_gib']:.1f}",
            "?" if row["seconds"] is None else f"{row['seconds']:.0f}",
        )
    build_console().print(table)
    source = content["seconds_from"] or "nothing: give --calibrate or --peak-tflops"
    typer.echo(f"{content['traces']} traces {content['data']}; seconds from {source}")
