"""Write tiny models, traces and a three-point sweep for `run.sh`: python write_sweep.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import save_tiny_model
from tests.study.test_sweep import write_traces


def main(folder: Path) -> None:
    """Write everything under `folder`."""
    student = save_tiny_model(folder / "student", seed=1, hidden=32)
    teacher = save_tiny_model(folder / "teacher", seed=2, hidden=48)
    sweep = {
        "base": {
            "teacher": {"path": str(teacher), "dtype": "float32"},
            "student": {"path": str(student)},
            "traces": {"path": str(write_traces(folder / "traces.jsonl"))},
            "training": {
                "steps": 300,
                "bf16": False,
                "checkpoint_every_steps": 20,
                "validate_every_epochs": 20,
            },
        },
        "grids": [{"lsp": [0.5, 0.75, 1.0]}],
        "capture": {"mode": "topk", "k": 8},
        "reference_models": False,
        "slurm": {"gpus": 0, "cpus": 1, "minutes": 30},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
