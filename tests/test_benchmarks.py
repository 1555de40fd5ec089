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


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_benchmark_gives_its_figures(name: str) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for figure in QUICK[name]:
        assert found[figure] > 0, figure
    if name == "loss":
        assert found["memory_vs_dense"] < 0.5
    if name == "cache":
        assert found["bytes_per_token"] < 230
    if name == "coverage":
        # 210 cells of 200 studies: the lowest of so many lies some 4 standard errors below 0.94.
        assert found["lowest"] > 0.87
    if name == "sweep_cache":
        assert found["teacher_passes_live"] == pytest.approx(11, rel=0.05)
        assert found["teacher_passes_cached"] == 1


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_explains_itself(path: Path) -> None:
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--" in done.stdout
