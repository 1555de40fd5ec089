"""`leadspan train`, `rollouts`, `capture` and `cache info | verify | compare | merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leadspan.cli.common import (
    ConfigArgument,
    JsonOption,
    LspOption,
    OutputOption,
    SetOption,
    check_choice,
    echo,
    print_json,
    read_run,
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(train)
    app.command()(rollouts)
    app.command()(capture)
    app.add_typer(cache_app, name="cache")


def train(
    config: ConfigArgument,
    output: OutputOption = None,
    lsp: LspOption = None,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Train a student, then evaluate it where run.yaml names benchmarks."""
    run_config = read_run(config, overrides, lsp)
    from leadspan.study.run import check, is_first_rank, run

    folder = output or Path("runs") / config.stem
    if is_first_rank():
        run_config = check(run_config, folder)
    trained, result = run(run_config, folder)
    if not is_first_rank():
        return
    manifest = trained.manifest
    val_loss = manifest["val_loss"]
    validated = (
        "" if val_loss is None else f", validation {val_loss:.4f} (step {manifest['best_step']})"
    )
    echo(
        f"{folder}: {manifest['steps']} steps in {manifest['train_seconds']:.1f} s, "
        f"training loss {manifest['train_loss']:.4f}{validated}. Student: {trained.student_path}"
    )
    if result is not None:
        echo(
            f"accuracy {result.accuracy:.3f} [{result.accuracy_low:.3f}, {result.accuracy_high:.3f}], "
            f"closed {result.closed_fraction:.3f}, samples in {folder / 'evaluation'}"
        )


cache_app = typer.Typer(help="Look into teacher caches.", no_args_is_help=True)
CachePath = Annotated[Path, typer.Argument(help="Cache folder.")]


def rollouts(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    step: Annotated[
        int | None, typer.Option(help="Show this step's texts; the last by default.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many texts to show.", min=0)] = 4,
    as_json: JsonOption = False,
) -> None:
    """Show what the student wrote in the last steps of an on-policy run, and what the teacher thinks."""
    from leadspan.progress import build_console
    from leadspan.training.rollout_log import (
        choose_step,
        read_rollouts,
        show_rollouts,
        summarise_step,
    )

    by_step = read_rollouts(run)
    chosen = choose_step(by_step, step)
    if as_json:
        steps = [summarise_step(records) for records in by_step.values()]
        print_json({"steps": steps, "step": chosen, "rollouts": by_step[chosen][:limit]})
    else:
        show_rollouts(by_step, chosen, limit, build_console())


def capture(
    config: Annotated[Path, typer.Argument(help="run.yaml: its teacher and traces.")],
    output: Annotated[Path, typer.Option(help="Cache folder, new or to be completed.")],
    overrides: SetOption = [],  # noqa: B006
    mode: Annotated[str, typer.Option(help="topk or hidden.")] = "topk",
    k: Annotated[int, typer.Option(help="Kept ids a token, in mode topk.")] = 64,
    logprobs: Annotated[str, typer.Option(help="8bit or fp16.")] = "8bit",
    backend: Annotated[str, typer.Option(help="local, endpoint or vllm (its server).")] = "local",
    base_url: Annotated[str | None, typer.Option(help="Server, up to /v1.")] = None,
    served_model: Annotated[str | None, typer.Option(help="Model name on the server.")] = None,
    concurrency: Annotated[int, typer.Option(help="Calls to the server at one time.")] = 8,
    shard_mib: Annotated[float, typer.Option(help="Bound of a shard's size.")] = 256,
) -> None:
    """Run the teacher once over every trace; any lead, sections and epochs then read from disk."""
    from leadspan.config import EndpointConfig
    from leadspan.config_io import validate
    from leadspan.teachers.capture import CaptureSettings, capture_run

    check_choice("mode", mode, ("topk", "hidden"))
    check_choice("logprobs", logprobs, ("8bit", "fp16"))
    check_choice("backend", backend, ("local", "endpoint", "vllm"))
    server = None
    if backend != "local":
        content = {"base_url": base_url, "model": served_model, "concurrency": concurrency}
        server = validate(EndpointConfig, {k: v for k, v in content.items() if v}, "capture")
    settings = CaptureSettings(
        mode=mode,  # type: ignore[arg-type]
        k=k,
        logprobs=logprobs,  # type: ignore[arg-type]
        backend=backend,  # type: ignore[arg-type]
        endpoint=server,
        shard_mib=shard_mib,
    )
    report = capture_run(read_run(config, overrides), output, settings)
    per_token = report.num_bytes / max(1, report.num_tokens)
    echo(
        f"{output}: {report.num_sequences} sequences, {report.num_tokens} tokens, "
        f"{report.num_bytes / 2**20:.1f} MiB ({per_token:.1f} bytes a token); captured now "
        f"{report.num_captured_now}, duplicates {report.num_duplicates}. "
        f"Next: leadspan train {config} --set teacher.cache={output}"
    )


@cache_app.command()
def info(path: CachePath, as_json: JsonOption = False) -> None:
    """Say what a cache holds and what made it."""
    from leadspan.teachers.cache import TeacherCache
    from leadspan.teachers.cache_format import identity_json, shard_paths

    cache = TeacherCache(path)
    num_bytes = sum(shard.stat().st_size for shard in shard_paths(path))
    facts: dict[str, Any] = {
        **identity_json(cache.identity),
        "sequences": len(cache),
        "tokens": cache.num_tokens,
        "shards": len(cache.shards),
        "bytes": num_bytes,
        "bytes_per_token": round(num_bytes / max(1, cache.num_tokens), 2),
    }
    _print(facts, as_json)


@cache_app.command()
def verify(path: CachePath) -> None:
    """Read every byte and compare with the checksums."""
    from leadspan.errors import CacheError
    from leadspan.teachers import check
    from leadspan.teachers.cache import TeacherCache

    cache = TeacherCache(path)
    problems = check.verify(cache)
    if problems:
        raise CacheError("\n".join(problems))
    echo(f"{path}: whole. {len(cache.shards)} shards, {len(cache)} sequences.")


@cache_app.command()
def compare(
    path: CachePath,
    teacher: Annotated[
        str | None, typer.Option(help="Folder or hub id; the captured one by default.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Sequences run through the live teacher.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Run the live teacher on a sample and say how far the cache is from it."""
    from dataclasses import asdict

    from leadspan.config import TeacherConfig
    from leadspan.models import load_causal_lm, load_tokenizer
    from leadspan.precision import own_device
    from leadspan.teachers import check
    from leadspan.teachers.cache import TeacherCache

    cache = TeacherCache(path)
    dtype, _, how = cache.identity.dtype.partition(" ")
    config = TeacherConfig(
        path=teacher or cache.identity.teacher,
        revision=None if teacher else cache.identity.revision,
        dtype=dtype,  # type: ignore[arg-type]
        quantization=next((bits for bits in ("8bit", "4bit") if bits in how), None),  # type: ignore[arg-type]
    )
    cache.check_fits(config, load_tokenizer(config))
    found = check.compare(cache, load_causal_lm(config, own_device()), sample, "autocast" in how)
    _print(asdict(found), as_json)


@cache_app.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(help="Cache folders of one teacher and mode.")],
    output: Annotated[Path, typer.Option(help="New cache folder.")],
) -> None:
    """Join caches that were captured on several machines."""
    from leadspan.teachers.capture import merge as merge_caches

    report = merge_caches(sources, output)
    echo(
        f"{output}: {report.num_sequences} sequences, {report.num_tokens} tokens; "
        f"{report.num_duplicates} duplicates dropped."
    )


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = f"{value:.3g}" if isinstance(value, float) and abs(value) < 1 else value
        typer.echo(f"{name:<{width}}  {shown}")
