"""Runs in other processes, and what two run folders must have in common."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from leadspan.runs import RunFolder

ROOT = Path(__file__).resolve().parents[2]
CLOCK = {"seconds", "tokens_per_second"}
"""What a clock decides; every other field of metrics.jsonl must be equal to the bit."""


def torchrun(num_ranks: int, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module on real ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc-per-node", str(num_ranks), "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def start_child(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process that has the training loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leadspan.training.run", "tests.conftest"])
    child = context.Process(target=target, args=arguments)
    child.start()
    return child


def wait_for(condition: Callable[[], bool], child: Any) -> None:
    """Wait until something is true or the child has ended."""
    deadline = time.monotonic() + 60
    while not condition() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)


def leave_time_to_be_killed() -> None:
    """In a child: one thread, and a pause after each line of metrics.jsonl."""
    torch.set_num_threads(1)
    append = RunFolder.append_metrics

    def append_and_wait(self: RunFolder, record: dict[str, Any]) -> None:
        append(self, record)
        time.sleep(0.02)

    RunFolder.append_metrics = append_and_wait  # type: ignore[method-assign]


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock decides."""
    records = RunFolder(folder).read_metrics()
    return [{k: v for k, v in record.items() if k not in CLOCK} for record in records]


def assert_equal_weights(folder: Path, reference: Path) -> None:
    """The students of two runs are the same to the bit."""
    expected = load_file(reference / "student" / "model.safetensors")
    found = load_file(folder / "student" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name


def assert_same_run(folder: Path, reference: Path) -> None:
    """Curve and student are those of another number of ranks."""
    for found, expected in zip(metrics_of(folder), metrics_of(reference), strict=True):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"kind", "grad_norm"}:
            # float32 sums in another order, amplified by AdamW over six steps
            assert found[key] == pytest.approx(expected[key], rel=1e-5), key
    weights = load_file(folder / "student" / "model.safetensors")
    for name, weight in load_file(reference / "student" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-4)
