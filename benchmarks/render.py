"""How fast traces become sequences, compared with the tokenizer alone on the same strings.

Prints the ratio of throughputs (the aim is 0.8 or more) and, with --stream, the peak memory of
preparing many rows above that of the tokenizer alone.

    python benchmarks/render.py --tokenizer DIR --traces FILE [--rows 2000] [--processes 2] [--json]
    python benchmarks/render.py --tokenizer DIR --stream 200000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from leadspan.config import ModelConfig, RenderConfig, RunConfig
from leadspan.models import load_tokenizer
from leadspan.records import Trace
from leadspan.traces.prepare import prepare
from leadspan.traces.prompts import Conversation
from leadspan.traces.render import Renderer, checked, iter_rendered
from leadspan.traces.sources import load_traces

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REPEATS = 5


def strings_of(renderer: Renderer, traces: list[Trace]) -> list[str]:
    """The very strings that rendering tokenizes: prompt, CoT and answer of each trace."""
    prompts = renderer.prompts([Conversation.of(trace) for trace in traces])
    return [
        text
        for trace, prompt in zip(traces, prompts, strict=True)
        for text in (checked(prompt, "trace").text, trace.cot, trace.answer)
    ]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, which other processes do not stretch."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def measure_ratio(renderer: Renderer, traces: list[Trace], processes: int) -> dict[str, Any]:
    """Alternate the two, so that a slow moment of the machine hits both."""
    strings = strings_of(renderer, traces)
    alone, rendered = [], []
    for _ in range(REPEATS):
        alone.append(timed(lambda: renderer.tokenizer(strings, verbose=False)["input_ids"]))
        rendered.append(timed(lambda: sum(1 for _ in iter_rendered(traces, renderer))))
    pairs = list(zip(alone, rendered, strict=True))
    result: dict[str, Any] = {
        "rows": len(traces),
        "characters": sum(map(len, strings)),
        "tokenizer_seconds": statistics.median(seconds for seconds, _ in alone),
        "render_seconds": statistics.median(seconds for seconds, _ in rendered),
        "ratio": statistics.median(a[0] / r[0] for a, r in pairs),
        "ratio_cpu_seconds": statistics.median(a[1] / r[1] for a, r in pairs),
    }
    if processes > 1:
        started = time.perf_counter()
        sum(1 for _ in iter_rendered(traces, renderer, processes))
        result["processes"] = processes
        result["processes_seconds"] = time.perf_counter() - started
    return result


def measure_stream(
    renderer: Renderer, num_rows: int, characters: int, student: str
) -> dict[str, Any]:
    """Prepare `num_rows` made-up rows of that many characters and watch the memory."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for number in range(num_rows):
                cot = f"Row {number}. " + "Then 12 and 30 make 42, so go on. " * (characters // 34)
                row = {"prompt": f"What is {number}?", "cot": cot, "answer": str(number)}
                file.write(json.dumps(row) + "\n")
        config = RunConfig.model_validate(
            {
                "student": {"path": student},
                "traces": {"path": str(source)},
                "loss": {"kd_ratio": 0.0},
                "truncation": {"lsp": 0.5},
                "training": {"steps": 1},
            }
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        prepared = prepare(config, renderer.tokenizer, Path(folder) / "set")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": sum(prepared.rows.values()),
        "seconds": time.perf_counter() - started,
        "gib_above_tokenizer": (after - before) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", default=str(SHARED / "tokenizers" / "Qwen3-derived"))
    parser.add_argument("--chat-template", default=str(SHARED / "templates" / "trl__qwen3.jinja"))
    parser.add_argument("--traces", default=str(SHARED / "traces" / "mip_gsm8k_deepseek_r1.jsonl"))
    parser.add_argument("--rows", type=int, default=581)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--stream", type=int, default=0, help="prepare this many made-up rows instead"
    )
    parser.add_argument("--characters", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    render = RenderConfig(chat_template=arguments.chat_template)
    renderer = Renderer(load_tokenizer(ModelConfig(path=arguments.tokenizer), render), render)
    if arguments.stream:
        result = measure_stream(
            renderer, arguments.stream, arguments.characters, arguments.tokenizer
        )
    else:
        source = cycle(enumerate(load_traces(arguments.traces)))
        rows = islice(source, arguments.rows)
        traces = [replace(trace, trace_id=f"{n}") for n, trace in rows]
        result = measure_ratio(renderer, traces, arguments.processes)
    result["cores"] = len(os.sched_getaffinity(0))
    print(
        json.dumps(result)
        if arguments.json
        else "\n".join(f"{k:20} {v}" for k, v in result.items())
    )


if __name__ == "__main__":
    main()
