"""Run by torchrun in test_parallel.py: one small training on every rank."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from leadspan import distill, render, truncate
from leadspan.runs import RunFolder
from tests.conftest import build_tiny_tokenizer, build_traces


def main(folder: str, student: str, teacher: str, kill_rank_after: str) -> None:
    """Train in `folder`; rank 1 kills itself after `kill_rank_after` metrics lines, 0 for never."""
    torch.set_num_threads(1)
    if int(kill_rank_after) and os.environ.get("RANK") == "1":
        from leadspan.training.trainer import Trainer

        step = Trainer._step

        def step_and_die(self: Trainer, number: int) -> dict[str, object]:
            record = step(self, number)
            if number + 1 == int(kill_rank_after):
                os.kill(os.getpid(), signal.SIGKILL)
            return record

        Trainer._step = step_and_die  # type: ignore[method-assign]
    sequences = truncate(render(build_traces(40), build_tiny_tokenizer()), lsp=0.6)
    run = distill(
        sequences,
        student=student,
        teacher={"path": teacher, "dtype": "float32", "shard": True},
        output=folder,
        validation=sequences[:5],
        steps=6,
        learning_rate=3e-3,
        bf16=False,
        checkpoint_every_steps=2,
        micro_batch_tokens=100,
    )
    assert RunFolder(Path(folder)).is_complete, run


if __name__ == "__main__":
    main(*sys.argv[1:])
