"""The example of a plain PyTorch loop runs on a folder of traces and two models, and learns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_loop.py"


def test_it_trains_the_student_of_a_folder(world_folder: Path, tiny_student: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, world_folder, "--steps", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", done.stdout)]
    assert len(losses) == 30
    # A random student of 49 tokens starts near ln 49 and learns which characters there are.
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    trained = AutoModelForCausalLM.from_pretrained(world_folder / "distilled")
    before = AutoModelForCausalLM.from_pretrained(tiny_student)
    assert not trained.lm_head.weight.equal(before.lm_head.weight)
