"""`leadspan evaluate`, `grade`, `compare` and `generate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadspan.cli.common import JsonOption, SetOption, echo, print_json

if TYPE_CHECKING:
    from leadspan.config import EvaluationConfig, RenderConfig
    from leadspan.evaluation.compare import Compared, RunComparison
    from leadspan.evaluation.summary import BenchmarkResult, EvaluationResult

SettingsOption = Annotated[
    Path | None, typer.Option("--config", help="A run.yaml, for its evaluation and render parts.")
]
StudentArgument = Annotated[str, typer.Argument(help="Run folder, model folder or hub id.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(evaluate)
    app.command()(grade)
    app.command()(compare)
    app.command()(generate)


def evaluate(
    student: StudentArgument,
    benchmark: Annotated[
        list[str], typer.Option(help="Registered name, file or hub id; instead of the config's.")
    ] = [],  # noqa: B006
    limit: Annotated[
        int | None, typer.Option(help="Only the first problems of each benchmark.", min=1)
    ] = None,
    config: SettingsOption = None,
    output: Annotated[Path | None, typer.Option(help="RUN/evaluation by default.")] = None,
    overrides: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Evaluate a student on benchmarks; keeps every sample, goes on where it was stopped."""
    from leadspan.errors import ConfigError

    path, settings, render = _read_settings(student, config, tuple(benchmark), tuple(overrides))
    if limit is not None:
        limited = [each.model_copy(update={"limit": limit}) for each in settings.benchmarks]
        settings = settings.model_copy(update={"benchmarks": tuple(limited)})
    run_folder = Path(student) if path != student else None
    folder = output or (run_folder / "evaluation" if run_folder else None)
    if folder is None:
        raise ConfigError("--output: is required where the student is no run folder.")
    from leadspan.evaluation.evaluate import evaluate as run_evaluation
    from leadspan.study.run import evaluate_run

    if run_folder is not None and output is None:
        result = evaluate_run(run_folder, settings, render)
    else:
        result = run_evaluation(path, settings, folder, render)
    if as_json:
        print_json(asdict(result), indent=2)
        return
    _print_result(result)
    echo(f"samples: {folder / 'samples.jsonl'}")


def grade(
    samples: Annotated[Path, typer.Argument(help="samples.jsonl, or the folder that holds it.")],
    grading: Annotated[
        str | None, typer.Option(help="Another kind of grading, or module:function.")
    ] = None,
    limit_seconds: Annotated[
        float | None, typer.Option(help="Another limit of one answer.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Grade kept samples again, without generating, and rewrite the figures."""
    from leadspan.evaluation.regrade import regrade
    from leadspan.study.run import publish_scores

    regraded = regrade(samples, grading, limit_seconds)
    evaluation = samples.parent if samples.suffix == ".jsonl" else samples
    publish_scores(evaluation.resolve().parent, regraded.result)
    if as_json:
        print_json(asdict(regraded), indent=2)
        return
    _print_result(regraded.result)
    changes = ", ".join(f"{change}: {count}" for change, count in regraded.changes.items())
    echo(f"changed outcomes: {changes or 'none'}")


def compare(
    run_a: Annotated[Path, typer.Argument(help="Run or evaluation folder.")],
    run_b: Annotated[Path, typer.Argument(help="The one that is compared with it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Compare though they were evaluated differently.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two evaluated runs problem by problem: difference, retention, p-value."""
    from leadspan.evaluation.compare import compare_runs

    comparison = compare_runs(run_a, run_b, force)
    if as_json:
        print_json(asdict(comparison), indent=2)
    else:
        _print_comparison(comparison)


def generate(
    student: StudentArgument,
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    config: SettingsOption = None,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Ask a student one question and print what it writes."""
    path, settings, render = _read_settings(student, config, (), tuple(overrides))
    from leadspan.evaluation.evaluate import generate_one

    typer.echo(generate_one(path, prompt, settings, render))


def _read_settings(
    student: str, config: Path | None, benchmarks: tuple[str, ...], overrides: tuple[str, ...]
) -> tuple[str, EvaluationConfig, RenderConfig]:
    """The model's path, and the settings of its run or of `config` with the changes applied."""
    from leadspan.config import EvaluationConfig, RenderConfig
    from leadspan.config_io import apply_override, read_run_yaml, validate
    from leadspan.errors import ConfigError

    folder = Path(student)
    content: dict[str, Any] = {}
    if config is not None:
        content = read_run_yaml(config)
    elif (folder / "run.yaml").is_file():
        content = read_run_yaml(folder / "run.yaml")
    content = {part: content.get(part) or {} for part in ("evaluation", "render")}
    if benchmarks:
        paths = [{"path": path} for path in benchmarks]
        content["evaluation"] = {**content["evaluation"], "benchmarks": paths}
    for assignment in overrides:  # after the benchmarks, so that a change reaches those too
        if not assignment.startswith(("evaluation.", "render.")):
            raise ConfigError(f"--set {assignment}: only evaluation.* and render.* apply here.")
        content = apply_override(content, assignment)
    where = str(config or "--set")
    evaluation = validate(EvaluationConfig, content["evaluation"], f"{where}: evaluation")
    render = validate(RenderConfig, content["render"], f"{where}: render")
    path = str(folder / "student") if (folder / "student").is_dir() else student
    return path, evaluation, render


def _print_result(result: EvaluationResult) -> None:
    for benchmark in result.benchmarks:
        echo("\n  ".join(_lines(benchmark)))
    if len(result.benchmarks) > 1:
        low, high = result.accuracy_low, result.accuracy_high
        echo(f"mean over benchmarks: {_share(result.accuracy)} {_range(low, high)}")


def _lines(result: BenchmarkResult) -> list[str]:
    most = max(result.pass_at)
    lines = [
        f"{result.name}: accuracy {_share(result.accuracy)} "
        f"{_range(result.accuracy_low, result.accuracy_high)}, {result.problems} problems, "
        f"{result.samples} samples",
        f"closed {_share(result.closed_fraction)}, cut off {_share(result.cut_off_fraction)}, "
        f"unparsed {_share(result.unparsed_fraction)}, timed out {result.outcomes['timeout']}, "
        f"empty {_share(result.empty_fraction)}",
    ]
    if most > 1:
        lines.append(
            f"pass@{most} {_share(result.pass_at[most])}, maj@{most} {_share(result.maj_at[most])}"
        )
    if result.tokens:
        shown = ", ".join(f"{name} {value:.0f}" for name, value in result.tokens.items())
        lines.append(f"tokens: {shown}")
    if result.forced_accuracy is not None:
        forced = f"{_share(result.forced_accuracy)} ({result.forced_samples} forced)"
        lines.append(f"accuracy with cut-off answers forced: {forced}")
    for difficulty, part in result.by_difficulty.items():
        lines.append(f"{difficulty}: {_share(part['accuracy'])} ({part['problems']} problems)")
    return lines


def _share(value: float) -> str:
    return f"{value:.3f}"


def _range(low: float, high: float) -> str:
    return f"[{_share(low)}, {_share(high)}]"


def _print_comparison(comparison: RunComparison) -> None:
    echo(f"A: {comparison.first}\nB: {comparison.second}")
    if comparison.differences:
        echo(f"EVALUATED DIFFERENTLY: {', '.join(comparison.differences)}")
    for row in comparison.rows:
        echo("\n  ".join(_compared_lines(row)))
    for remark in comparison.remarks:
        echo(f"note: {remark}")


def _compared_lines(row: Compared) -> list[str]:
    difference, ratio = row.paired.difference, row.paired.ratio
    lines = [
        f"{row.name}: A {_share(row.first)}, B {_share(row.second)}, {row.problems} problems",
        f"B - A: {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}], "
        f"p = {row.paired.p_value:.4f}",
    ]
    if ratio is not None:
        lines.append(f"B / A: {_share(ratio.value)} {_range(ratio.low, ratio.high)}")
    return lines
