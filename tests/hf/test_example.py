"""The example of the Hugging Face page runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from leadspan.world.build import WorldConfig, build_world

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("leadspan.hf.dataset")


@pytest.mark.slow
def test_hf_trainer(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world", seed=1, config=WorldConfig.small())
    script, output = ROOT / "examples" / "hf_trainer.py", tmp_path / "run"
    done = subprocess.run(
        [sys.executable, script, world.path, output, "--steps", "20"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = map(float, re.findall(r"(\d+\.\d+)", done.stdout.splitlines()[-1])[:2])
    assert after < before
    assert AutoModelForCausalLM.from_pretrained(output).num_parameters() > 0
