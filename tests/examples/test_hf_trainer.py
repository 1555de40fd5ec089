"""The example with transformers' Trainer runs on a folder of traces and two models, and learns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hf_trainer.py"


def test_it_trains_the_student_of_a_folder(world_folder: Path, tiny_student: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, world_folder, world_folder / "out", "--steps", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"evaluation loss (\d+\.\d+) -> (\d+\.\d+)", done.stdout)
    assert found is not None
    # A random student of 49 tokens learns which characters there are.
    assert float(found[2]) < 0.9 * float(found[1])
    trained = AutoModelForCausalLM.from_pretrained(world_folder / "out")
    before = AutoModelForCausalLM.from_pretrained(tiny_student)
    assert not trained.lm_head.weight.equal(before.lm_head.weight)
