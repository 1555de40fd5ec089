"""The benchmarks run, at their quick size, and their last line is the object that they promise.

What needs a peer, a GPU or the shared data is left out where it is absent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
QUICK = {
    "loss": {"memory_vs_dense", "time_vs_dense", "sparse_vs_ce"},
    "cache": {"bytes_per_token", "quantisation_error_nats", "truncation_error_nats"},
    "coverage": {"lowest", "highest", "within"},
    "sweep_cache": {"teacher_passes_live", "teacher_passes_cached", "time_cached_vs_live"},
}


def run_quick(name: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_benchmark_gives_its_figures(name: str) -> None:
    found = run_quick(name)
    for figure in QUICK[name]:
        assert found[figure] > 0, figure
    if name == "loss":
        assert found["memory_vs_dense"] < 0.5
        if found["difference_from_trl"] is not None:
            # Per-row means in float32.
            assert found["difference_from_trl"] < 1e-6
            assert found["memory_vs_trl"] < 0.5
    if name == "cache":
        assert found["bytes_per_token"] < 230
    if name == "coverage":
        # 210 cells of 200 studies: the lowest of so many lies some 4 standard errors below 0.94.
        assert found["lowest"] > 0.87
    if name == "sweep_cache":
        assert found["teacher_passes_live"] == pytest.approx(11, rel=0.05)
        assert found["teacher_passes_cached"] == 1


def test_an_on_policy_step_has_the_loss_of_trl() -> None:
    pytest.importorskip("trl")
    found = run_quick("on_policy")
    ratios = {"step_time_vs_trl", "step_memory_vs_trl", "rollout_time_vs_trl"}
    assert all(found[ratio] > 0 for ratio in ratios)
    # Means over tokens in float32; the losses themselves are 0.01 to 0.04 nats.
    assert found["loss_difference"] < 1e-6


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_explains_itself(path: Path) -> None:
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--" in done.stdout
