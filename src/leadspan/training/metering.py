"""What a run takes: peak memory, tokens, FLOPs and seconds, so far and before it starts. Pure.

The totals outlive a kill inside the checkpoint. How long a run will take is estimated from a pass that
is timed before the first step: a short sequence goes through student, teacher and loss, forward and
backward, and the rest of the run is taken to cost as much more as it has FLOPs (a product of matrices
alone would mislead: a small student spends its time in the softmax over the vocabulary).
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from leadspan.config import RunConfig
from leadspan.flops import (
    Attention,
    ModelShape,
    forward_flops,
    generation_flops,
    model_shape,
    training_flops,
)
from leadspan.records import Example, Sequence, Span
from leadspan.traces.batches import num_forwarded_tokens
from leadspan.traces.taught import as_teacher_reads, teacher_of

GIB = 1024**3
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Total peak, and the peak of one step above what stays between steps.

    Call `reset_for_steps` once model, optimiser and one warm-up step are in memory, and again after
    whatever is no step; call `note_step` after each step.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total_before = 0.0
        self._baseline: float | None = None
        self._step_peak: float | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def reset_for_steps(self) -> None:
        """Forget earlier peaks, and remember what is held now."""
        self._total_before = max(self._total_before, self._peak() or 0.0)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._baseline = torch.cuda.memory_allocated(self._device) / GIB
            return
        try:
            _return_free_memory()
            CLEAR.write_text("5")
            self._baseline = _read_status("VmRSS")
        except OSError:
            self._baseline = None

    def note_step(self) -> None:
        """Remember how high the step went above what is held between steps."""
        peak = self._peak()
        if peak is not None and self._baseline is not None:
            self._step_peak = max(self._step_peak or 0.0, peak - self._baseline)

    def read(self) -> tuple[float | None, float | None]:
        """Total peak and step peak in GiB; None where the machine refuses to say."""
        peak = self._peak()
        total = None if peak is None else max(peak, self._total_before)
        return total, self._step_peak

    def _peak(self) -> float | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / GIB
        try:
            return _read_status("VmHWM")
        except OSError:
            return None


def _return_free_memory() -> None:
    """Give what the allocator has freed back to the system, or the baseline would hold old peaks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _read_status(field: str) -> float:
    """One field of /proc/self/status, in GiB."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / GIB
    raise OSError(f"{STATUS} has no {field}")


PEAK_TFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200 NVL": 835.5,
    "H200": 989.4,
    "GH200": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.4,
    "A100": 311.9,
    "L40S": 362.1,
    "L40": 181.1,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.2,
}
"""Dense bfloat16 products with float32 sums, in 1e12 FLOPs a second, by words of the card's name, from the
vendor's data sheets; the first that fits counts."""


def peak_tflops_of(card: str) -> float | None:
    """The peak of a card by its name; None where it is not known."""
    named = (peak for name, peak in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", card))
    return next(named, None)


def device_peak(device: torch.device, bf16: bool) -> float | None:
    """FLOPs a second of `device` at most; None on a CPU, in float32 and on a card not known."""
    if device.type != "cuda" or not bf16:
        return None
    peak = peak_tflops_of(torch.cuda.get_device_name(device))
    return None if peak is None else peak * 1e12


@dataclass
class Totals:
    """What adds up over a run and outlives a kill."""

    step: int = 0
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    tokens_forwarded: int = 0
    tokens_scored: int = 0
    student_flops: int = 0
    teacher_flops: int = 0
    useful_flops: int = 0
    """Without recomputation: what MFU counts."""
    teacher_tokens_forwarded: int = 0
    tokens_sampled: int = 0
    """Written by the student for rollouts."""
    rollout_flops: int = 0
    """Of writing them; part of `student_flops`."""
    rollout_seconds: float = 0.0
    """Of writing them; part of `train_seconds`."""
    tail_loss: float = 0.0
    tail_tokens: int = 0
    best_val_loss: float | None = None
    best_step: int | None = None


class StepFlops(NamedTuple):
    """FLOPs of one optimiser step over all ranks."""

    student: int
    teacher: int
    useful: int
    """Both, without recomputation."""


class FlopsMeter:
    """FLOPs of student and live teachers on some examples, from the models' configs.

    `knows_student` is False for an architecture whose FLOPs are not known; it then counts zero.
    `knows_all` says the same of the live teachers too, where there are any.
    """

    def __init__(
        self, config: RunConfig, student_config: Any, teacher_configs: SequenceABC[Any | None]
    ) -> None:
        self._student = _shape_or_none(student_config)
        self._teachers = [_shape_or_none(each) for each in teacher_configs]
        self._recomputes = config.training.gradient_checkpointing
        self._lora_rank = config.student.lora.rank if config.student.lora else None
        self._samples_of_a_prompt = config.rollout.num_samples if config.rollout else 1
        self.attention: Attention = "full" if config.student.attention == "eager" else "causal"
        """Eager attention computes every pair of tokens, the others only those looking back."""
        self.knows_student = self._student is not None
        self.knows_all = self.knows_student and all(
            shape is not None or each is None
            for shape, each in zip(self._teachers, teacher_configs, strict=True)
        )

    def compute(self, chosen: SequenceABC[Example]) -> StepFlops:
        """One pass over `chosen`, padding apart."""
        lengths = [num_forwarded_tokens(example) for example in chosen]
        num_scored = sum(example.num_scored_tokens for example in chosen)
        student = once = teacher = 0
        if self._student is not None:
            student, once = (
                training_flops(
                    self._student,
                    lengths,
                    num_scored,
                    gradient_checkpointing=recomputes,
                    attention=self.attention,
                    lora_rank=self._lora_rank,
                )
                for recomputes in (self._recomputes, False)
            )
        for place, shape in enumerate(self._teachers):
            taught = [e for e in chosen if teacher_of(e.sequence) == place]
            if shape is not None and taught:
                lengths = [num_forwarded_tokens(as_teacher_reads(example)) for example in taught]
                num_scored = sum(example.num_scored_tokens for example in taught)
                teacher += forward_flops(shape, lengths, num_scored, attention=self.attention)
        return StepFlops(student, teacher, once + teacher)

    def compute_rollouts(self, rollouts: SequenceABC[Example]) -> int:
        """Writing `rollouts`, the samples of a prompt together: student alone, padding apart."""
        if self._student is None:
            return 0
        new = [example.num_scored_tokens for example in rollouts]
        prompts = [len(e.sequence) - count for e, count in zip(rollouts, new, strict=True)]
        return generation_flops(
            self._student, prompts, new, self.attention, self._samples_of_a_prompt
        )


def _shape_or_none(model_config: Any) -> ModelShape | None:
    """The sizes that decide FLOPs, or None for an architecture whose FLOPs are not known."""
    try:
        return None if model_config is None else model_shape(model_config)
    except ValueError:
        return None


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
