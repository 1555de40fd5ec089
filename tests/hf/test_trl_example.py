"""examples/trl_sft.py runs as it stands, and the student learns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.hf.test_dataset import raw

pytest.importorskip("trl", reason="trl is a development extra (pip install trl)")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_trains_the_student(tmp_path: Path, tiny_student: Path) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_text("".join(json.dumps(row) + "\n" for row in raw(40)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "trl_sft.py", traces, tiny_student, tmp_path / "out"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "LEADSPAN_CACHE": str(tmp_path / "cache"),
            "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"loss (\d+\.\d+) -> (\d+\.\d+)", done.stdout)
    assert found is not None
    # A random student of 49 tokens learns which characters there are.
    assert float(found[2]) < 0.9 * float(found[1])
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0
