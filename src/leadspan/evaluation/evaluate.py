"""Evaluate a student on benchmarks: generate, grade, keep every sample, summarise.

`samples.jsonl` grows as answers finish; `evaluation.json` is written last, so where it is the
evaluation is whole. A killed one goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadspan.config import EvaluationConfig, ModelConfig, RenderConfig
from leadspan.errors import ConfigError
from leadspan.evaluation.answers import Generation, split_generation
from leadspan.evaluation.benchmarks import Benchmark, Problem, load_benchmark
from leadspan.evaluation.metrics import bootstrap_mean
from leadspan.evaluation.requests import Backend, Completion, Request, seed_of
from leadspan.grading import Grade, Grader
from leadspan.models import load_causal_lm, load_tokenizer
from leadspan.progress import progress
from leadspan.runs import lock_folder, write_json_atomic
from leadspan.traces.render import Renderer


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One benchmark's figures."""

    name: str
    problems: int
    samples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    closed_fraction: float
    cut_off_fraction: float
    outcomes: dict[str, int]
    mean_tokens: float


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """All benchmarks together: the mean over benchmarks, its 95 % interval, and each one."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    closed_fraction: float
    benchmarks: tuple[BenchmarkResult, ...]
    seconds: float


def evaluate(
    student: str | Path,
    config: EvaluationConfig,
    output: str | Path,
    render: RenderConfig | None = None,
) -> EvaluationResult:
    """Evaluate the model in `student` and write `samples.jsonl` and `evaluation.json` to `output`.

    Raises:
        ConfigError: There is no benchmark, or two have one name.
        DataError: A benchmark or the model cannot be used.
        RunError: Another process writes to `output`.
    """
    started = time.monotonic()
    output = Path(output)
    benchmarks = load_benchmarks(config)
    render = render or RenderConfig()
    tokenizer = load_tokenizer(student)
    renderer = Renderer(tokenizer, render)
    backend = build_backend(student, tokenizer, config)
    with lock_folder(output), Grader() as grader:
        for benchmark in benchmarks:
            _run(benchmark, config, backend, renderer, grader, output / "samples.jsonl")
        rows = read_samples(output / "samples.jsonl")
        result = summarise(benchmarks, rows, time.monotonic() - started)
        write_json_atomic(output / "evaluation.json", asdict(result))
    return result


def load_benchmarks(config: EvaluationConfig) -> list[Benchmark]:
    """Load all benchmarks before any model."""
    if not config.benchmarks:
        raise ConfigError("evaluation.benchmarks: must name at least one benchmark; got none.")
    benchmarks = [load_benchmark(benchmark) for benchmark in config.benchmarks]
    twice = [name for name, count in Counter(b.name for b in benchmarks).items() if count > 1]
    if twice:
        raise ConfigError(f"evaluation.benchmarks: two are called {twice[0]!r}. Give each a name.")
    return benchmarks


def build_backend(student: str | Path, tokenizer: Any, config: EvaluationConfig) -> Backend:
    """Load the model into the transformers back end."""
    import torch

    from leadspan.evaluation.generate import TransformersBackend

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_causal_lm(ModelConfig(path=str(student), dtype="float32"), device)
    return TransformersBackend(model, tokenizer, config.sampling, config.batch_size)


def _run(
    benchmark: Benchmark,
    config: EvaluationConfig,
    backend: Backend,
    renderer: Renderer,
    grader: Grader,
    path: Path,
) -> None:
    done = {(row["benchmark"], row["problem_id"], row["sample"]) for row in read_samples(path)}
    prompts = renderer.prompt_ids([problem.turns for problem in benchmark.problems])
    wanted: dict[str, tuple[Problem, int, list[int]]] = {}
    for problem, prompt_ids in zip(benchmark.problems, prompts, strict=True):
        for sample in range(config.sampling.num_samples):
            if (benchmark.name, problem.problem_id, sample) not in done:
                wanted[f"{problem.problem_id}#{sample}"] = (problem, sample, prompt_ids)
    requests = [
        Request(
            key,
            tuple(prompt_ids),
            problem.turns,
            seed_of(config.sampling.seed, benchmark.name, problem.problem_id, sample),
        )
        for key, (problem, sample, prompt_ids) in wanted.items()
    ]
    if not requests:
        return
    with (
        path.open("a", encoding="utf-8") as file,
        progress(benchmark.name, len(requests), "answers") as advance,
    ):
        pending: list[tuple[dict[str, Any], Future[Grade]]] = []
        for completion in backend.generate(requests):
            problem, sample, prompt_ids = wanted[completion.key]
            generation = _split(completion, prompt_ids, renderer)
            row = _row(benchmark, problem, sample, prompt_ids, completion, generation, renderer)
            grade = grader.submit(
                generation.answer, problem.golds, benchmark.grading, benchmark.answer_pattern
            )
            pending.append((row, grade))
            pending = list(_write_graded(file, pending, wait=False))
            advance(1)
        list(_write_graded(file, pending, wait=True))


def _write_graded(
    file: Any, pending: list[tuple[dict[str, Any], Future[Grade]]], wait: bool
) -> Iterator[tuple[dict[str, Any], Future[Grade]]]:
    """Write the rows whose grade is there; yield the others."""
    for row, future in pending:
        if not wait and not future.done():
            yield row, future
            continue
        grade = future.result()
        row |= {"outcome": grade.outcome, "extracted": grade.extracted, "reason": grade.reason}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()


def _split(completion: Completion, prompt_ids: list[int], renderer: Renderer) -> Generation:
    layout = renderer.layout
    return split_generation(
        completion.text,
        layout.think_open.strip() or "<think>",
        layout.think_close.strip(),
        opened=not layout.think_open,
        ended=completion.finish_reason == "stop",
    )


def _row(
    benchmark: Benchmark,
    problem: Problem,
    sample: int,
    prompt_ids: list[int],
    completion: Completion,
    generation: Generation,
    renderer: Renderer,
) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "problem_id": problem.problem_id,
        "sample": sample,
        "prompt": renderer.tokenizer.decode(prompt_ids, clean_up_tokenization_spaces=False),
        "prompt_tokens": len(prompt_ids),
        "text": completion.text,
        "num_tokens": completion.num_tokens,
        "finish_reason": completion.finish_reason,
        "closed": generation.closed,
        "golds": list(problem.golds),
        "seconds": completion.seconds,
    }


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Every whole line of samples.jsonl; cuts off a last line that a kill left half-written."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.decode().splitlines()]


def summarise(
    benchmarks: list[Benchmark], rows: list[dict[str, Any]], seconds: float
) -> EvaluationResult:
    """The figures of all samples."""
    results, all_scores = [], []
    for benchmark in benchmarks:
        mine = [row for row in rows if row["benchmark"] == benchmark.name]
        by_problem: dict[str, list[bool]] = {}
        for row in mine:
            by_problem.setdefault(row["problem_id"], []).append(row["outcome"] == "correct")
        score_P = np.array([np.mean(scores) for scores in by_problem.values()])
        all_scores.append(score_P)
        accuracy = bootstrap_mean([score_P])
        results.append(
            BenchmarkResult(
                name=benchmark.name,
                problems=len(score_P),
                samples=len(mine),
                accuracy=accuracy.value,
                accuracy_low=accuracy.low,
                accuracy_high=accuracy.high,
                closed_fraction=float(np.mean([row["closed"] for row in mine])),
                cut_off_fraction=float(np.mean([row["finish_reason"] == "length" for row in mine])),
                outcomes=dict(Counter(row["outcome"] for row in mine)),
                mean_tokens=float(np.mean([row["num_tokens"] for row in mine])),
            )
        )
    overall = bootstrap_mean(all_scores)
    return EvaluationResult(
        accuracy=overall.value,
        accuracy_low=overall.low,
        accuracy_high=overall.high,
        closed_fraction=float(np.mean([result.closed_fraction for result in results])),
        benchmarks=tuple(results),
        seconds=round(seconds, 3),
    )
