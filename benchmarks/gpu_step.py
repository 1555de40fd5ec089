"""The training step at the paper's shapes on one GPU: seconds, memory and MFU over lsp, compared with dense.

    python benchmarks/gpu_step.py           # Qwen3-8B -> Qwen3-4B-Base
    python benchmarks/gpu_step.py --quick   # Qwen3-1.7B -> Qwen3-0.6B, 1,024 tokens, three lsps
    python benchmarks/gpu_step.py --json    # one JSON object as the last line

Models are built from the published sizes with random weights, the student in float32 under bfloat16
autocast with gradient checkpointing, the teacher live in bfloat16. A step is 8 sequences of --tokens
random tokens (the first 1/32 an unscored prompt), cut to the lsp, as many forward passes as the batch
size makes of them. Dense is the same models with all logits of both, one log-softmax each, and the
same loss. Memory is the peak above weights, gradients and optimizer state; activations are that less
the head's gradient on its way and the loss chunk. MFU counts the student's forward and backward and
the teacher's forward on what the lsp leaves, recomputation not, for ours and dense alike.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, nll_loss

from leadspan.config import LossConfig, TrainingConfig
from leadspan.flops import forward_flops, training_flops
from leadspan.losses.fused import rows_in_budget
from leadspan.precision import bf16_products
from leadspan.records import Sequence, Span
from leadspan.sizes import load_model_config
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import Batch, collate, num_forwarded_tokens
from leadspan.traces.cut import supervise, truncate
from leadspan.training.metering import GIB, peak_tflops_of
from leadspan.training.objective import Objective
from leadspan.training.optimizer import build_optimizer

KD_RATIO = 0.5
SEQUENCES = 8
CUDA = torch.device("cuda")
Pass = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Measured:
    """One way of training at one batch size and lsp."""

    seconds: float
    """Forward and backward of a step."""
    memory_gib: float
    mfu: float | None
    activations_gib: float | None = None


class Bench:
    """The two models, the optimizer, and the two ways to run a forward pass."""

    def __init__(self, teacher: str, student: str, tokens: int) -> None:
        self.tokens = tokens
        self.student = build_model(student, torch.float32).train()
        self.student.gradient_checkpointing_enable({"use_reentrant": False})
        self.teacher = build_model(teacher, torch.bfloat16).eval().requires_grad_(False)
        self.vocab_size: int = self.student.config.vocab_size
        self.objective = Objective(self.student, LossConfig(kd_ratio=KD_RATIO), self.vocab_size)
        self.live = LiveTeacher(self.teacher, bf16=True)
        self.optimizer = build_optimizer(self.objective, TrainingConfig(steps=1), CUDA)
        for parameter in self.student.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer_seconds = min(timed(self.optimizer.step) for _ in range(3))

    def ours(self, batch: Batch) -> Tensor:
        """The engine's pass: hidden states of scored rows, fused loss."""
        total: Tensor = self.objective(batch, self.live.rows(batch))[0]
        return total

    def dense(self, batch: Batch) -> Tensor:
        """All logits of both models, as a careful trainer writes it by hand."""
        ids_BT = batch.input_ids_BT
        with torch.no_grad():
            logits_NV = self.teacher(ids_BT, use_cache=False).logits.flatten(0, 1)[batch.rows_N]
            log_p_NV = logits_NV.log_softmax(-1, dtype=torch.float32)
            del logits_NV
        logits_NV = self.student(ids_BT, use_cache=False).logits.flatten(0, 1)[batch.rows_N]
        log_q_NV = logits_NV.log_softmax(-1, dtype=torch.float32)
        ce = nll_loss(log_q_NV, batch.labels_N, reduction="sum")
        kd = kl_div(log_q_NV, log_p_NV, reduction="sum", log_target=True)
        return (1 - KD_RATIO) * ce + KD_RATIO * kd

    def step(self, forward: Pass, batches: list[Batch]) -> float:
        """Forward and backward of a whole step into the gradients that are there; mean loss."""
        num_scored = sum(len(batch.labels_N) for batch in batches)
        loss = 0.0
        for batch in batches:
            with bf16_products(CUDA, enabled=True):
                total = forward(batch)
            (total / num_scored).backward()
            loss += total.item() / num_scored
        return loss

    def batches(self, batch_size: int, lsp: float) -> list[Batch]:
        """A step's sequences, cut, in forward passes."""
        generator = np.random.default_rng(0)
        prompt, cot = self.tokens // 32, self.tokens * 7 // 8
        spans = (Span(0, prompt), Span(prompt, cot), Span(cot, self.tokens))
        whole = [
            Sequence(
                str(number),
                generator.integers(0, self.vocab_size, self.tokens).astype(np.int32),
                *spans,
            )
            for number in range(max(SEQUENCES, batch_size))
        ]
        examples = [supervise(sequence) for sequence in truncate(whole, lsp=lsp)]
        return [
            collate(examples[start : start + batch_size]).to(CUDA)
            for start in range(0, len(examples), batch_size)
        ]

    def flops(self, batches: list[Batch]) -> int:
        """Of student and teacher over a step, recomputation apart."""
        examples = [example for batch in batches for example in batch.examples]
        lengths = [num_forwarded_tokens(example) for example in examples]
        num_scored = sum(example.num_scored_tokens for example in examples)
        return training_flops(
            self.student.config, lengths, num_scored, attention="causal"
        ) + forward_flops(self.teacher.config, lengths, num_scored, attention="causal")

    def fixed_gib(self, batch: Batch) -> float:
        """The head's gradient on its way to the parameter's, and the loss chunk."""
        num_rows = len(batch.labels_N)
        most = rows_in_budget(CUDA, self.vocab_size, torch.bfloat16, 2)
        chunk_rows = math.ceil(num_rows / math.ceil(num_rows / most))
        head = self.student.get_output_embeddings().weight.nbytes
        return (head + chunk_rows * self.vocab_size * 4 * 2) / GIB


def build_model(name: str, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    content = dict(load_model_config(name))
    config = AutoConfig.for_model(content.pop("model_type"), **content)
    torch.manual_seed(0)
    with CUDA:
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def timed(act: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(
    bench: Bench, batch_size: int, lsp: float, rounds: int, peak_tflops: float | None
) -> Any:
    """Ours and dense by name, in turns; one that does not fit is left out."""
    ways: dict[str, Pass] = {"ours": bench.ours, "dense": bench.dense}
    batches = bench.batches(batch_size, lsp)
    held = torch.cuda.memory_allocated()
    losses, peaks = {}, {}
    for name in list(ways):
        torch.cuda.reset_peak_memory_stats()
        try:
            losses[name] = bench.step(ways[name], batches)
        except torch.cuda.OutOfMemoryError:
            ways.pop(name)
        peaks[name] = (torch.cuda.max_memory_allocated() - held) / GIB
        torch.cuda.empty_cache()
    if len(losses) == 2 and abs(losses["ours"] - losses["dense"]) > 2e-2 * losses["dense"]:
        print(f"  lsp {lsp}: loss {losses['ours']:.4f}, dense {losses['dense']:.4f}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, forward in ways.items():
            seconds[name].append(timed(lambda forward=forward: bench.step(forward, batches)))
    flops = bench.flops(batches)
    found = {}
    for name, each in seconds.items():
        middle = statistics.median(each)
        mfu = flops / middle / (peak_tflops * 1e12) if peak_tflops else None
        activations = peaks[name] - bench.fixed_gib(batches[0]) if name == "ours" else None
        found[name] = Measured(middle, peaks[name], mfu, activations)
    return found


def largest_dense(bench: Bench) -> int:
    """The largest batch size, a power of two, at which one dense pass at lsp 1 fits."""
    size = 2
    while True:
        try:
            bench.step(bench.dense, bench.batches(2 * size, 1.0)[:1])
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return size
        torch.cuda.empty_cache()
        size *= 2


def summarise(rows: dict[float, dict[str, Measured]]) -> dict[str, float]:
    """The targets' ratios at one batch size; those whose parts are missing are left out."""
    both = [row for row in rows.values() if len(row) == 2]
    summary = {}
    if both:
        pairs = [(row["ours"], row["dense"]) for row in both]
        summary["time_vs_dense_worst"] = max(a.seconds / b.seconds for a, b in pairs)
        summary["memory_vs_dense_worst"] = max(a.memory_gib / b.memory_gib for a, b in pairs)
    if "dense" in rows[1.0] and "ours" in rows[1.0]:
        whole = rows[1.0]
        summary["memory_vs_dense"] = whole["ours"].memory_gib / whole["dense"].memory_gib
    if "ours" in rows[0.5] and "ours" in rows[1.0]:
        half, whole_ours = rows[0.5]["ours"], rows[1.0]["ours"]
        assert half.activations_gib is not None
        assert whole_ours.activations_gib is not None
        summary["half_time"] = half.seconds / whole_ours.seconds
        summary["half_activations"] = half.activations_gib / whole_ours.activations_gib
    return {key: round(value, 4) for key, value in summary.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--teacher")
    parser.add_argument("--student")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak of the card")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; benchmarks/step.py measures small models on a CPU")
    card = torch.cuda.get_device_name()
    peak = arguments.peak_tflops or peak_tflops_of(card)
    bench = Bench(
        arguments.teacher or ("Qwen/Qwen3-1.7B" if arguments.quick else "Qwen/Qwen3-8B"),
        arguments.student or ("Qwen/Qwen3-0.6B" if arguments.quick else "Qwen/Qwen3-4B-Base"),
        arguments.tokens or (1024 if arguments.quick else 4096),
    )
    print(f"{card}, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, peak {peak} TFLOP/s")
    print(f"held: {torch.cuda.memory_allocated() / GIB:.1f} GiB, teacher included")
    print(f"optimizer step: {bench.optimizer_seconds:.3f} s")
    lsps = (0.1, 0.5, 1.0) if arguments.quick else tuple(n / 10 for n in range(1, 11))
    found: dict[str, Any] = {"card": card, "optimizer_seconds": bench.optimizer_seconds}
    for batch_size in sorted({1, 2, largest_dense(bench)}):
        print(f"batch {batch_size}\n  lsp way      seconds  memory GiB  activations GiB    MFU")
        rows = {}
        for lsp in lsps:
            rows[lsp] = measure(bench, batch_size, lsp, arguments.rounds, peak)
            for name, one in rows[lsp].items():
                activations = "-" if one.activations_gib is None else f"{one.activations_gib:.2f}"
                mfu = "-" if one.mfu is None else f"{one.mfu:.1%}"
                print(
                    f"  {lsp:.1f} {name:<6}{one.seconds:>10.3f}{one.memory_gib:>12.2f}"
                    f"{activations:>17}{mfu:>7}",
                    flush=True,
                )
        summary = summarise(rows)
        print("  " + ", ".join(f"{key} {value:.3f}" for key, value in summary.items()))
        found[f"batch_{batch_size}"] = summary | {
            "rows": [
                {"lsp": lsp, "way": name, **asdict(one)}
                for lsp, row in rows.items()
                for name, one in row.items()
            ]
        }
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
