"""The fused loss against the dense reference and Liger's chunked JSD: memory and time, as ratios.

    python benchmarks/loss.py               # about 15 minutes on 2 cores
    python benchmarks/loss.py --quick       # small vocabulary: does it run?
    python benchmarks/loss.py --json        # one JSON object as the last line

Every case is the same loss, 0.5 * cross-entropy + 0.5 * KL(teacher || student), float32, forward and
backward, on scored rows of hidden states. Memory is the process's peak above the inputs and their
gradients, each case in a process of its own, at --memory-rows rows; time is the median of --rounds
rounds in which the cases take turns, at --time-rows rows. Liger (extra `bench`) is tried eager and
compiled, and the better of the two counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadspan.config import LossConfig
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from leadspan.teachers.capture_live import reduce_to_topk
from leadspan.training.metering import PeakMemory

KD = LossConfig(kd_ratio=0.5)
SFT = LossConfig(kd_ratio=0.0)


@dataclass
class Inputs:
    """Hidden states, heads and labels; K kept ids of the sparse teacher are drawn at random."""

    hidden_NH: Tensor
    weight_VH: Tensor
    teacher_hidden_NH: Tensor
    teacher_weight_VH: Tensor
    labels_N: Tensor

    @property
    def student_head(self) -> Head:
        """The student's head."""
        return Head(self.weight_VH)

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary."""
        return self.weight_VH.shape[0]

    def sparse(self, k: int = 64) -> SparseTeacher:
        """Top k of random logits of about 2 nats, without a teacher's product."""
        generator = torch.Generator().manual_seed(1)
        parts = []
        for _ in range(0, len(self.labels_N), 64):
            rank = torch.arange(1, self.vocab_size + 1).log()
            noise = 0.3 * torch.randn(64, self.vocab_size, generator=generator)
            order = torch.randint(self.vocab_size, (1,), generator=generator).item()
            parts.append(reduce_to_topk((noise - 1.7 * rank).roll(int(order), 1), min(k, 64)))
        ids, values, tail = (torch.cat(p)[: len(self.labels_N)] for p in zip(*parts, strict=True))
        return SparseTeacher(ids, values, tail)


def make_inputs(rows: int, vocab_size: int, hidden: int, teacher_hidden: int) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator).mul_(scale)

    return Inputs(
        normal(rows, hidden).requires_grad_(),
        normal(vocab_size, hidden, scale=2 / hidden**0.5).requires_grad_(),
        normal(rows, teacher_hidden),
        normal(vocab_size, teacher_hidden, scale=2 / teacher_hidden**0.5),
        torch.randint(0, vocab_size, (rows,), generator=generator),
    )


def ours(x: Inputs) -> Callable[[], Tensor]:
    teacher = DenseTeacher(x.teacher_hidden_NH, Head(x.teacher_weight_VH))
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, teacher, KD, x.vocab_size).total
    )


def ours_sparse(x: Inputs) -> Callable[[], Tensor]:
    teacher = x.sparse()
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, teacher, KD, x.vocab_size).total
    )


def ours_ce(x: Inputs) -> Callable[[], Tensor]:
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, None, SFT, x.vocab_size).total
    )


def dense(x: Inputs) -> Callable[[], Tensor]:
    """What a careful trainer writes by hand: each log-softmax once, no float copies."""

    def compute() -> Tensor:
        log_q_NV = torch.log_softmax(x.hidden_NH @ x.weight_VH.T, -1)
        log_p_NV = torch.log_softmax(x.teacher_hidden_NH @ x.teacher_weight_VH.T, -1)
        ce = torch.nn.functional.nll_loss(log_q_NV, x.labels_N, reduction="sum")
        kd = torch.nn.functional.kl_div(log_q_NV, log_p_NV, reduction="sum", log_target=True)
        return 0.5 * ce + 0.5 * kd

    return compute


def dense_ce(x: Inputs) -> Callable[[], Tensor]:
    return lambda: torch.nn.functional.cross_entropy(
        x.hidden_NH @ x.weight_VH.T, x.labels_N, reduction="sum"
    )


def liger(x: Inputs, compiled: bool) -> Callable[[], Tensor]:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    peer = LigerFusedLinearJSDLoss(0.5, 0.5, beta=0.0, compiled=compiled)
    count = len(x.labels_N)
    return lambda: (
        count * peer(x.hidden_NH, x.weight_VH, x.teacher_hidden_NH, x.teacher_weight_VH, x.labels_N)
    )


CASES: dict[str, Callable[[Inputs], Callable[[], Tensor]]] = {
    "ours": ours,
    "dense": dense,
    "liger eager": lambda x: liger(x, compiled=False),
    "liger compiled": lambda x: liger(x, compiled=True),
    "ours sparse": ours_sparse,
    "ours ce": ours_ce,
    "dense ce": dense_ce,
}
LIGER = ("liger eager", "liger compiled")


def run_once(x: Inputs, compute: Callable[[], Tensor]) -> tuple[float, float]:
    """Forward and backward into fresh gradients: seconds and the loss per row."""
    x.hidden_NH.grad = x.weight_VH.grad = None
    started = time.perf_counter()
    total = compute()
    total.backward()
    return time.perf_counter() - started, total.item() / len(x.labels_N)


def measure_memory(name: str, x: Inputs) -> float:
    """GiB above the inputs and their gradients, after one warm-up."""
    compute = CASES[name](x)
    run_once(x, compute)
    x.hidden_NH.grad = x.weight_VH.grad = None
    memory = PeakMemory(torch.device("cpu"))
    memory.reset_for_steps()
    run_once(x, compute)
    memory.note_step()
    peak = memory.read()[1]
    if peak is None:
        sys.exit("this machine refuses to reset the peak of memory (/proc/self/clear_refs)")
    return peak - (x.hidden_NH.nbytes + x.weight_VH.nbytes) / 2**30


def memory_apart(name: str, arguments: argparse.Namespace) -> float | None:
    command = [sys.executable, __file__, "--memory-of", name, *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def measure_times(x: Inputs, rounds: int) -> dict[str, float]:
    steps: dict[str, Callable[[], Tensor]] = {}
    values = {}
    for name, build in CASES.items():
        try:
            steps[name] = build(x)
            values[name] = run_once(x, steps[name])[1]
        except Exception as error:  # a peer that is absent or has no compiler is left out, and said
            steps.pop(name, None)
            print(f"  {name}: left out ({str(error).splitlines()[0]})", file=sys.stderr)
    for name in ("ours", *LIGER):
        if name in values and abs(values[name] - values["dense"]) > 1e-3 * values["dense"]:
            print(f"  {name}: loss {values[name]:.5f}, dense {values['dense']:.5f}")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, compute in steps.items():
            seconds[name].append(run_once(x, compute)[0])
    return {name: statistics.median(each) for name, each in seconds.items()}


def ratios(memory: dict[str, float | None], times: dict[str, float]) -> dict[str, float | None]:
    def best(of: dict[str, Any], names: tuple[str, ...]) -> float | None:
        found = [of[name] for name in names if of.get(name) is not None]
        return min(found) if found else None

    def share(part: float | None, whole: float | None) -> float | None:
        return None if part is None or whole is None else round(part / whole, 4)

    return {
        "memory_vs_dense": share(memory.get("ours"), memory.get("dense")),
        "memory_vs_liger": share(memory.get("ours"), best(memory, LIGER)),
        "time_vs_dense": share(times.get("ours"), times.get("dense")),
        "time_vs_liger": share(times.get("ours"), best(times, LIGER)),
        "sparse_vs_ce": share(times.get("ours sparse"), best(times, ("ours ce", "dense ce"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--memory-rows", type=int)
    parser.add_argument("--time-rows", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vocab_size = arguments.vocab or (8192 if arguments.quick else 151_936)
    memory_rows = arguments.memory_rows or (1024 if arguments.quick else 4096)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    time_rows = arguments.time_rows or (256 if arguments.quick else 1024)
    if arguments.memory_of:
        inputs = make_inputs(memory_rows, vocab_size, 512, 1024)
        print(measure_memory(arguments.memory_of, inputs))
        return

    memory = {}
    for name in () if arguments.skip_memory else ("ours", "dense", *LIGER):
        memory[name] = memory_apart(name, arguments)
        if memory[name] is not None:
            print(f"memory at N = {memory_rows}: {name:<15} {memory[name]:7.3f} GiB", flush=True)
    times = measure_times(make_inputs(time_rows, vocab_size, 512, 1024), rounds)
    for name, seconds in times.items():
        print(f"time at N = {time_rows}: {name:<15} {seconds:7.3f} s")
    found = ratios(memory, times)
    for key, value in found.items():
        print(f"{key:<16} {'not measured' if value is None else f'{value:.3f}'}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
