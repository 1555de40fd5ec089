"""Run folders as training and evaluation leave them, without either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from leadspan.config import RunConfig
from leadspan.integrity import write_checksums
from leadspan.runs import RunFolder, write_json_atomic
from tests.conftest import save_tiny_model

ENVIRONMENT = {"packages": {"leadspan": "0.1.0", "torch": "2.13.0"}, "machine": "x86_64"}


def begin_run(path: Path, num_steps: int = 3, **changes: Any) -> RunFolder:
    """A run that was begun and has logged some steps."""
    config = RunConfig.model_validate(
        {
            "teacher": {"path": "Qwen/Qwen3-8B"},
            "student": {"path": "Qwen/Qwen3-0.6B-Base"},
            "traces": {"path": "traces.jsonl"},
            "truncation": {"lsp": 0.5},
            "training": {"steps": 8},
            **changes,
        }
    )
    folder = RunFolder(path)
    folder.claim(config, ENVIRONMENT)
    for step in range(1, num_steps + 1):
        record = {"kind": "train", "step": step, "loss": 4.0 / step, "seconds": 30.0}
        folder.append_metrics(record)
    folder.append_metrics({"kind": "validation", "step": num_steps, "val_loss": 1.5})
    return folder


def finish_run(path: Path, accuracy: float | None = None, **changes: Any) -> RunFolder:
    """A run that is complete, evaluated where it has an accuracy."""
    benchmarks = [] if accuracy is None else [{"path": "gsm8k"}]
    folder = begin_run(path, 8, evaluation={"benchmarks": benchmarks}, **changes)
    save_tiny_model(folder.student_path, seed=1, hidden=32)
    write_checksums(folder.student_path)
    (folder.student_path / "README.md").write_text(
        "---\nlibrary_name: transformers\n---\n\n# A card\n"
    )
    write_json_atomic(
        folder.manifest_path,
        {
            "steps": 8,
            "train_loss": 0.75,
            "val_loss": 1.25,
            "best_step": 6,
            "train_seconds": 5400.0,
            "train_flops": 2.5e15,
            "peak_memory_gib": 17.25,
            "num_train": 1200,
            "num_validation": 60,
            "refused": {"empty_cot": 3},
            "tokens_forwarded": 123456,
            "tokens_scored": 100000,
        },
    )
    if accuracy is not None:
        whole = {"accuracy": accuracy, "accuracy_low": 0.5, "accuracy_high": 0.7}
        one = {**whole, "name": "gsm8k", "problems": 200, "closed_fraction": 0.95}
        (path / "evaluation").mkdir()
        write_json_atomic(path / "evaluation" / "evaluation.json", {**whole, "benchmarks": [one]})
    return folder


def write_point(path: Path, kind: str) -> None:
    """A point of a sweep that was not begun yet."""
    path.mkdir(parents=True)
    (path / "point.json").write_text(json.dumps({"name": path.name, "kind": kind}))
    config = RunConfig.model_validate(
        {
            "student": {"path": "a/base"},
            "traces": {"path": "traces.jsonl"},
            "loss": {"kd_ratio": 0},
            "training": {"steps": 8},
        }
    )
    (path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
