"""Predicted against measured cost of training, on this machine.

    python benchmarks/cost.py time WORLD [--rounds 5]    # seconds over lsp, on a world folder
    python benchmarks/cost.py memory [--model Qwen/Qwen3-0.6B] [--tokens 4096] [--rows 4]   # CUDA

`time` trains short runs at a few lsps, fits a speed to them, and compares the ratios it predicts at the
other lsps with measured ones (medians over interleaved rounds). `memory` builds a model with random
weights from its sizes and compares the allocator's peak with the prediction;
tests/analysis/test_memory.py does the same on small models without a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from leadspan import distill
from leadspan.analysis.memory import GIB, StepShape, predict_memory
from leadspan.analysis.speed import Measurement, fit_speed, measurement_of
from leadspan.config import ModelConfig
from leadspan.flops import model_shape
from leadspan.models import load_tokenizer
from leadspan.sizes import load_model_config
from leadspan.traces.cut import truncate
from leadspan.traces.render import render
from leadspan.traces.sources import load_traces

CALIBRATION_LSPS = (0.25, 0.5, 1.0)
CHECKED_LSPS = (0.3, 0.4, 0.6, 0.75)


def measure_time(world: Path, rounds: int, steps: int) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(world / "student")))
    sequences = render(load_traces(str(world / "traces.jsonl")).traces[:400], tokenizer)
    found: dict[float, list[Measurement]] = {}
    for number in range(rounds):
        for lsp in (*CALIBRATION_LSPS, *CHECKED_LSPS):
            with tempfile.TemporaryDirectory() as folder:
                run = distill(
                    truncate(sequences, lsp=lsp),
                    student=world / "student",
                    teacher=world / "teacher",
                    output=Path(folder) / f"{number}-{lsp}",
                    steps=steps,
                    batch_size=32,
                )
                found.setdefault(lsp, []).append(measurement_of(run.manifest))
    middle = {
        lsp: sorted(runs, key=lambda m: m.seconds)[len(runs) // 2] for lsp, runs in found.items()
    }
    speed = fit_speed([middle[lsp] for lsp in CALIBRATION_LSPS])
    whole = middle[1.0]
    predicted_whole = speed.predict(whole.tokens, whole.flops)
    print(f"{rounds} rounds of {steps} steps; speed fitted at lsp {CALIBRATION_LSPS}")
    print("  lsp   measured s   measured ratio   predicted ratio   error")
    for lsp in CHECKED_LSPS:
        run = middle[lsp]
        measured = run.seconds / whole.seconds
        predicted = speed.predict(run.tokens, run.flops) / predicted_whole
        print(
            f"  {lsp:<5g} {run.seconds:10.2f} {measured:16.3f} {predicted:17.3f} "
            f"{predicted / measured - 1:+7.1%}"
        )
    spread = [
        statistics.pstdev([m.seconds for m in runs]) / middle[lsp].seconds
        for lsp, runs in found.items()
    ]
    print(f"spread of one lsp over the rounds: {max(spread):.0%} at most")


def measure_memory(name: str, rows: int, tokens: int, checkpointing: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from leadspan.config import LossConfig, TrainingConfig
    from leadspan.precision import bf16_products
    from leadspan.traces.batches import Batch
    from leadspan.training.objective import Objective
    from leadspan.training.optimizer import build_optimizer

    if not torch.cuda.is_available():
        sys.exit(
            "no CUDA device here; tests/analysis/test_memory.py measures small models on a CPU"
        )
    content = load_model_config(name)
    config = AutoConfig.for_model(**content)
    with torch.device("cuda"):
        student = (
            AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().train()
        )
    if checkpointing:
        student.gradient_checkpointing_enable({"use_reentrant": False})
    objective = Objective(student, LossConfig(kd_ratio=0.0), config.vocab_size)
    optimizer = build_optimizer(objective, TrainingConfig(steps=1), torch.device("cuda"))
    ids_BT = torch.randint(1, config.vocab_size, (rows, tokens), device="cuda")
    rows_N = torch.arange(rows * tokens, device="cuda")
    labels_N = torch.randint(0, config.vocab_size, (len(rows_N),), device="cuda")
    batch = Batch((), ids_BT, None, rows_N, labels_N, torch.zeros_like(rows_N), rows * tokens)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        with bf16_products(batch.input_ids_BT.device, enabled=True):
            total, *_ = objective(batch, None)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    measured = torch.cuda.max_memory_allocated()
    step = StepShape(rows, tokens, len(rows_N), gradient_checkpointing=checkpointing)
    predicted = predict_memory(model_shape(content), step)
    print(
        f"{name}, {rows} x {tokens}: measured {measured / GIB:.2f} GiB, predicted "
        f"{predicted.total / GIB:.2f} GiB ({predicted.total / measured - 1:+.1%})"
    )
    print("  " + ", ".join(f"{part} {gib:.2f}" for part, gib in predicted.in_gib().items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    timed = kinds.add_parser("time")
    timed.add_argument("world", type=Path)
    timed.add_argument("--rounds", type=int, default=5)
    timed.add_argument("--steps", type=int, default=24)
    timed.add_argument(
        "--threads", type=int, default=1, help="1, as for a sweep's runs on two cores"
    )
    memory = kinds.add_parser("memory")
    memory.add_argument("--model", default="Qwen/Qwen3-0.6B")
    memory.add_argument("--rows", type=int, default=4)
    memory.add_argument("--tokens", type=int, default=4096)
    memory.add_argument("--checkpointing", action="store_true")
    options = parser.parse_args()
    if options.kind == "time":
        torch.set_num_threads(options.threads)
        measure_time(options.world, options.rounds, options.steps)
    else:
        measure_memory(options.model, options.rows, options.tokens, options.checkpointing)


if __name__ == "__main__":
    main()
