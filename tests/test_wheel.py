"""A wheel, installed in a clean environment outside the repository, runs the quick demo."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import leadspan

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_source_and_wheel_are_fit_for_the_package_index(tmp_path: Path) -> None:
    pytest.importorskip("build")
    pytest.importorskip("twine")
    for command in (("build", "--outdir", tmp_path, ROOT), ("twine", "check", "--strict")):
        files = sorted(tmp_path.iterdir()) if command[0] == "twine" else []
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command), *map(str, files)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    version = leadspan.__version__
    names = {f"leadspan-{version}.tar.gz", f"leadspan-{version}-py3-none-any.whl"}
    assert {path.name for path in tmp_path.iterdir()} == names
    with tarfile.open(tmp_path / f"leadspan-{version}.tar.gz") as source:
        held = {name.partition("/")[2] for name in source.getnames()}
    for needed in ("mkdocs.yml", "tools/docs_reference.py", "examples/tour.ipynb", "CITATION.cff"):
        assert needed in held
    assert not [name for name in held if name.startswith(("site/", ".venv"))]


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment_runs_the_quick_demo(tmp_path: Path) -> None:
    def run(*command: str | Path) -> None:
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("leadspan-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, "torch")
    run(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[report]")
    started = time.monotonic()
    run(tmp_path / "venv" / "bin" / "leadspan", "demo", "--quick", "--output", tmp_path / "demo")
    print(f"demo --quick: {time.monotonic() - started:.0f} s")
    with (tmp_path / "demo" / "report" / "results.csv").open(encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert {row["lsp"] for row in rows.values() if row["kind"] == "train"} == {"0.2", "0.5", "1.0"}
    full, half = (float(rows[f"seed-0_lsp-{lsp}"]["accuracy"]) for lsp in ("1.0", "0.5"))
    assert full > float(rows["base"]["accuracy"]) + 0.3
    assert half > 0.8 * full
