"""The fused loss against the dense reference, Liger's chunked JSD and TRL's: memory and time, as ratios.

    python benchmarks/loss.py               # about 40 minutes on 2 cores
    python benchmarks/loss.py --quick       # small vocabulary: does it run?
    python benchmarks/loss.py --losses forward_kl reverse_kl jsd    # some of them
    python benchmarks/loss.py --json        # one JSON object as the last line

Four losses, float32, forward and backward, on scored rows of hidden states: "mix", 0.5 * cross-entropy +
0.5 * KL(teacher || student), and three divergences alone: forward KL, reverse KL and JSD with the teacher
weighing 0.3. All peers compute the same loss; TRL's has no cross-entropy, so it is there for the
divergences alone. Memory is the process's peak above the inputs and their gradients, each case in a
process of its own, at --memory-rows rows; time is the median of --rounds rounds in which the cases of a
loss take turns, at --time-rows rows. Liger (extra `bench`) is tried eager and compiled, and the better of
the two counts. Ratios against TRL are the worst of the divergences, with each one beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from leadspan.config import LossConfig
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from leadspan.teachers.capture_live import reduce_to_topk
from leadspan.training.metering import PeakMemory

SFT = LossConfig(kd_ratio=0.0)
LOSSES = {
    "mix": LossConfig(kd_ratio=0.5),
    "forward_kl": LossConfig(kd_ratio=1.0),
    "reverse_kl": LossConfig(kd_ratio=1.0, divergence="reverse_kl"),
    "jsd": LossConfig(kd_ratio=1.0, divergence="jsd", beta=0.3),
}
ALONE = ("forward_kl", "reverse_kl", "jsd")


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


Compute = Callable[[], Tensor]


def ours(x: Inputs, loss: LossConfig) -> Compute:
    teacher = DenseTeacher(x.teacher_hidden_NH, Head(x.teacher_weight_VH))
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, teacher, loss, x.vocab_size).total
    )


def ours_sparse(x: Inputs, loss: LossConfig) -> Compute:
    teacher = x.sparse()
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, teacher, loss, x.vocab_size).total
    )


def ours_ce(x: Inputs, _: LossConfig) -> Compute:
    return lambda: (
        fused_loss(x.hidden_NH, x.student_head, x.labels_N, None, SFT, x.vocab_size).total
    )


def dense(x: Inputs, loss: LossConfig) -> Compute:
    """What a careful trainer writes by hand: each log-softmax once, no float copies."""

    def kl(log_a_NV: Tensor, log_b_NV: Tensor) -> Tensor:
        return functional.kl_div(log_b_NV, log_a_NV, reduction="sum", log_target=True)

    def compute() -> Tensor:
        log_q_NV = torch.log_softmax(x.hidden_NH @ x.weight_VH.T, -1)
        log_p_NV = torch.log_softmax(x.teacher_hidden_NH @ x.teacher_weight_VH.T, -1)
        if loss.divergence == "forward_kl":
            kd = kl(log_p_NV, log_q_NV)
        elif loss.divergence == "reverse_kl":
            kd = kl(log_q_NV, log_p_NV)
        else:
            beta = loss.beta
            log_m_NV = torch.logaddexp(log_p_NV + math.log(beta), log_q_NV + math.log1p(-beta))
            kd = beta * kl(log_p_NV, log_m_NV) + (1 - beta) * kl(log_q_NV, log_m_NV)
        if loss.kd_ratio == 1:
            return kd
        ce = functional.nll_loss(log_q_NV, x.labels_N, reduction="sum")
        return (1 - loss.kd_ratio) * ce + loss.kd_ratio * kd

    return compute


def dense_ce(x: Inputs, _: LossConfig) -> Compute:
    return lambda: functional.cross_entropy(
        x.hidden_NH @ x.weight_VH.T, x.labels_N, reduction="sum"
    )


def peer_beta(loss: LossConfig) -> float:
    """What Liger and TRL call beta: 0 is forward KL, 1 reverse KL, between them the teacher's weight."""
    return {"forward_kl": 0.0, "reverse_kl": 1.0}.get(loss.divergence, loss.beta)


def liger(x: Inputs, loss: LossConfig, compiled: bool) -> Compute:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    peer = LigerFusedLinearJSDLoss(
        1 - loss.kd_ratio, loss.kd_ratio, beta=peer_beta(loss), compiled=compiled
    )
    count = len(x.labels_N)
    return lambda: (
        count * peer(x.hidden_NH, x.weight_VH, x.teacher_hidden_NH, x.teacher_weight_VH, x.labels_N)
    )


def trl(x: Inputs, loss: LossConfig) -> Compute:
    """Also computes the student's entropy, in the same passes."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    if loss.kd_ratio != 1:
        raise ValueError("computes a divergence alone")
    student, teacher = (x.hidden_NH, x.weight_VH), (x.teacher_hidden_NH, x.teacher_weight_VH)
    beta = peer_beta(loss)
    return lambda: ChunkedDivergenceFunction.apply(*student, None, *teacher, None, beta)[0].sum()


PEERS: dict[str, Callable[[Inputs, LossConfig], Compute]] = {
    "ours": ours,
    "dense": dense,
    "liger eager": lambda x, loss: liger(x, loss, compiled=False),
    "liger compiled": lambda x, loss: liger(x, loss, compiled=True),
    "trl": trl,
    "ours sparse": ours_sparse,
    "ours ce": ours_ce,
    "dense ce": dense_ce,
}
LIGER = ("liger eager", "liger compiled")
TIMED = {
    "mix": ("ours", "dense", *LIGER, "ours sparse", "ours ce", "dense ce"),
    **dict.fromkeys(ALONE, ("ours", "dense", *LIGER, "trl")),
}
WEIGHED = {"mix": ("ours", "dense", *LIGER), **dict.fromkeys(ALONE, ("ours", "trl"))}
"""Loss -> peers whose memory is taken; that of dense and Liger hardly depends on the divergence."""

Figures = dict[str, dict[str, float]]
"""Loss -> peer -> figure; a peer that is absent or failed has none."""


def run_once(x: Inputs, compute: Compute) -> tuple[float, float]:
    """Forward and backward into fresh gradients: seconds and the loss per row."""
    x.hidden_NH.grad = x.weight_VH.grad = None
    started = time.perf_counter()
    total = compute()
    total.backward()
    return time.perf_counter() - started, total.item() / len(x.labels_N)


def measure_memory(peer: str, loss: str, x: Inputs) -> float:
    """GiB above the inputs and their gradients, after one warm-up."""
    compute = PEERS[peer](x, LOSSES[loss])
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


def memory_apart(peer: str, loss: str) -> float | None:
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", peer, loss]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["failed"])[-1]
        print(f"  {peer}, {loss}: {last}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def build_peers(x: Inputs, loss: str) -> tuple[dict[str, Compute], dict[str, float]]:
    """The peers that run here, and each one's loss per row."""
    steps, values = {}, {}
    for peer in TIMED[loss]:
        try:
            step = PEERS[peer](x, LOSSES[loss])
            values[peer] = run_once(x, step)[1]
            steps[peer] = step
        except Exception as error:  # a peer that is absent or has no compiler is left out, and said
            print(f"  {peer}, {loss}: left out ({str(error).splitlines()[0]})", file=sys.stderr)
    return steps, values


def differences(values: dict[str, float]) -> dict[str, float]:
    """Peer -> how far its loss per row is from ours, as a share of ours."""
    same = ("dense", *LIGER, "trl")
    return {p: abs(values[p] - values["ours"]) / values["ours"] for p in same if p in values}


def measure_times(steps: dict[str, Compute], x: Inputs, rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {peer: [] for peer in steps}
    for _ in range(rounds):
        for peer, compute in steps.items():
            seconds[peer].append(run_once(x, compute)[0])
    return {peer: statistics.median(each) for peer, each in seconds.items()}


class Multiplications(TorchDispatchMode):
    """Counts them in matrix products; torch's own counter passes over `addmm_`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            left, right = args[-2:]
            self.count += left.shape[0] * left.shape[1] * right.shape[1]
        return func(*args, **(kwargs or {}))


def count_products(loss: str) -> dict[str, int]:
    """Peer -> matrix products a row, a product being [1, H] by [H, V] or its like, forward and backward.

    Counted at a small size at which student and teacher are equally wide. Compiled Liger is left out:
    it has the products of the eager one.
    """
    x = make_inputs(64, 1024, 32, 32)
    products = {}
    for peer in TIMED[loss]:
        if peer == "liger compiled":
            continue
        try:
            with Multiplications() as done:
                PEERS[peer](x, LOSSES[loss])().backward()
        except ImportError:
            continue
        products[peer] = round(done.count / (64 * 1024 * 32))
    return products


def ratios(memory: Figures, times: Figures) -> dict[str, float | None]:
    def share(of: Figures, loss: str, part: str, *wholes: str) -> float | None:
        figures = of.get(loss, {})
        found = [figures[peer] for peer in wholes if peer in figures]
        return round(figures[part] / min(found), 4) if part in figures and found else None

    def against_trl(name: str, of: Figures) -> dict[str, float | None]:
        each = {f"{name}_{loss}": share(of, loss, "ours", "trl") for loss in ALONE}
        return {name: max((r for r in each.values() if r is not None), default=None), **each}

    return {
        "memory_vs_dense": share(memory, "mix", "ours", "dense"),
        "memory_vs_liger": share(memory, "mix", "ours", *LIGER),
        "time_vs_dense": share(times, "mix", "ours", "dense"),
        "time_vs_liger": share(times, "mix", "ours", *LIGER),
        "sparse_vs_ce": share(times, "mix", "ours sparse", "ours ce", "dense ce"),
        **against_trl("memory_vs_trl", memory),
        **against_trl("time_vs_trl", times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--memory-rows", type=int)
    parser.add_argument("--time-rows", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vocab_size = arguments.vocab or (8192 if arguments.quick else 151_936)
    memory_rows = arguments.memory_rows or (1024 if arguments.quick else 4096)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    time_rows = arguments.time_rows or (256 if arguments.quick else 1024)
    if arguments.memory_of:
        inputs = make_inputs(memory_rows, vocab_size, 512, 1024)
        print(measure_memory(*arguments.memory_of, inputs))
        return

    memory: Figures = {loss: {} for loss in arguments.losses}
    times: Figures = {}
    worst: dict[str, float] = {}
    for loss in arguments.losses:
        for peer, products in count_products(loss).items():
            print(f"{loss}: {peer:<15} {products} matrix products a row")
        for peer in () if arguments.skip_memory else WEIGHED[loss]:
            taken = memory_apart(peer, loss)
            if taken is not None:
                memory[loss][peer] = taken
                print(
                    f"{loss}: memory at N = {memory_rows}: {peer:<15} {taken:7.3f} GiB", flush=True
                )
        inputs = make_inputs(time_rows, vocab_size, 512, 1024)
        steps, values = build_peers(inputs, loss)
        for peer, apart in differences(values).items():
            worst[peer] = max(apart, worst.get(peer, 0.0))
            print(f"{loss}: {peer:<15} differs from ours by {apart:.1e} of {values['ours']:.5f}")
        times[loss] = measure_times(steps, inputs, rounds)
        for peer, seconds in times[loss].items():
            print(f"{loss}: time at N = {time_rows}: {peer:<15} {seconds:7.3f} s", flush=True)
    found = ratios(memory, times) | {"difference_from_trl": worst.get("trl")}
    for key, value in found.items():
        print(f"{key:<24} {'not measured' if value is None else f'{value:.3g}'}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
