"""What the examples run on: a folder of traces and two models, as `leadspan world` lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import build_traces


@pytest.fixture
def world_folder(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> Path:
    (tmp_path / "student").symlink_to(tiny_student)
    (tmp_path / "teacher").symlink_to(tiny_teacher)
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer, "gold": t.gold}
        for t in build_traces(40)
    ]
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path
