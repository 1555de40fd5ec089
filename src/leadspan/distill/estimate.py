"""How long a run will take, from a pass that is timed before the first step.

A product alone would mislead: a small student spends its time outside of products, in the softmax over
the vocabulary. So a short sequence goes through student, teacher and loss, forward and backward, and the
rest of the run is taken to cost as much more as it has FLOPs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from leadspan.records import Example, Sequence, Span

PROBE_TOKENS = {"cpu": 64, "cuda": 2048}
"""Tokens of the timed sequence: little beside a step, and enough to keep a device busy."""
WARM_SECONDS = 5.0
"""A first pass that took less is run again, because it also paid for memory and kernels."""


def probe_example(example: Example, vocab_size: int, device: torch.device) -> Example:
    """The start of an example, every token a label that may be one."""
    sequence = example.sequence
    num_tokens = min(len(sequence), PROBE_TOKENS.get(device.type, PROBE_TOKENS["cpu"]))
    ids_T = sequence.input_ids_T[:num_tokens]
    prompt, cot, answer = (
        Span(min(span.start, num_tokens), min(span.end, num_tokens))
        for span in (sequence.prompt, sequence.cot, sequence.answer)
    )
    supervised_T = ids_T < vocab_size
    supervised_T[:1] = np.False_
    return Example(
        Sequence(sequence.trace_id, ids_T, prompt, cot, answer, was_cut=True), supervised_T
    )


def time_probe(run_pass: Callable[[], object], device: torch.device) -> float:
    """Seconds of a pass, with the state of the random generators as it was."""
    devices = [device] if device.type == "cuda" else []

    def timed() -> float:
        started = time.perf_counter()
        run_pass()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with torch.random.fork_rng(devices):
        first = timed()
        return timed() if first < WARM_SECONDS else first


def describe_seconds(seconds: float) -> str:
    """Two digits are all that an estimate is good for: `40 s`, `3.5 min`, `12 h`, `4.1 days`."""
    for name, size, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172_800)):
        if seconds < limit:
            return f"{float(f'{seconds / size:.2g}'):g} {name}"
    return f"{float(f'{seconds / 86_400:.2g}'):g} days"
