"""How much faster the refilling back end is than plain `generate` over fixed batches.

    python benchmarks/generate.py STUDENT PROBLEMS.jsonl [...] --batch 64 256

STUDENT is a model folder, such as the demo's student at lsp 1.0; the problems are taken in the
files' order, greedy, float32, with the same limit for both. The texts must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from leadspan.config import (
    BenchmarkConfig,
    EvaluationConfig,
    ModelConfig,
    RenderConfig,
    SamplingConfig,
)
from leadspan.evaluation.benchmarks import Problem, load_benchmark
from leadspan.evaluation.student import LocalStudent
from leadspan.generation.local import TransformersBackend, stop_ids_of
from leadspan.generation.requests import Request
from leadspan.models import load_causal_lm, load_tokenizer


def mixed(files: list[str], count: int) -> list[Problem]:
    """Problems of all files in turn, so that each batch of a plain loop holds every size."""
    columns = [load_benchmark(BenchmarkConfig(path=file)).problems for file in files]
    rows = [problem for row in zip_longest(*columns) for problem in row if problem is not None]
    return rows[:count]


def plain(
    model: Any,
    tokenizer: Any,
    prompts: list[tuple[int, ...]],
    batch: int,
    limit: int,
    stops: list[int],
) -> tuple[float, list[list[int]]]:
    """`generate` over fixed batches in the order of the data set, padded on the left."""
    written: list[list[int]] = []
    started = time.perf_counter()
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        width = max(len(ids) for ids in part)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device),
                max_new_tokens=limit, do_sample=False, use_cache=True,
                eos_token_id=stops, pad_token_id=pad,
            )[:, width:].tolist()  # fmt: skip
        for row in out:
            end = next((place for place, token in enumerate(row) if token in stops), len(row) - 1)
            written.append(row[: end + 1])
    return time.perf_counter() - started, written


def refilling(
    model: Any, tokenizer: Any, prompts: list[tuple[int, ...]], batch: int, limit: int
) -> tuple[float, list[list[int]]]:
    """Our back end."""
    backend = TransformersBackend(model, tokenizer, SamplingConfig(max_new_tokens=limit), batch)
    requests = [Request(str(number), ids) for number, ids in enumerate(prompts)]
    started = time.perf_counter()
    found = {int(c.key): list(c.token_ids) for c in backend.generate(requests)}
    return time.perf_counter() - started, [found[number] for number in range(len(prompts))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("student", type=Path)
    parser.add_argument("problems", nargs="+")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--limit", type=int, default=256, help="new tokens")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(ModelConfig(path=str(options.student)))
    model = load_causal_lm(ModelConfig(path=str(options.student), dtype="float32"))
    asked = LocalStudent(options.student, EvaluationConfig(), RenderConfig())
    prompts = [prompt.ids for prompt in asked.prompts(mixed(options.problems, options.count))]
    stops = sorted(stop_ids_of(model, tokenizer))
    results = []
    for batch in options.batch:
        loops, ours = [], []
        for _ in range(options.repeats):
            seconds, expected = plain(model, tokenizer, prompts, batch, options.limit, stops)
            loops.append(seconds)
            seconds, found = refilling(model, tokenizer, prompts, batch, options.limit)
            ours.append(seconds)
        same = sum(a == b for a, b in zip(expected, found, strict=True))
        results.append(
            {
                "batch": batch,
                "problems": len(prompts),
                "plain_seconds": round(min(loops), 3),
                "seconds": round(min(ours), 3),
                "ratio": round(min(loops) / min(ours), 2),
                "same_texts": same,
                "mean_tokens": round(sum(map(len, found)) / len(found), 1),
            }
        )
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(", ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
