"""The Python of the README runs as it stands, and its first screen names what a newcomer needs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_traces

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Homepage"]


def test_the_example_runs(
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("student").symlink_to(tiny_student)
    Path("teacher").symlink_to(tiny_teacher)
    traces = build_traces(16)
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer, "gold": t.gold}
        for t in traces
    ]
    problems = [{"problem": t.prompt, "gold": t.gold} for t in traces[:4]]
    Path("traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = (block for block in blocks if "evaluate(" in block)
    code = code.replace("steps=100", "steps=2").replace(
        '"problems.jsonl"}]', '"problems.jsonl"}], "sampling": {"max_new_tokens": 8}'
    )
    exec(compile(code, "README.md", "exec"), {})
    accuracy, low, high = map(float, capsys.readouterr().out.split())
    assert 0.0 <= low <= accuracy <= high <= 1.0


def test_the_three_lines_run(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainingArguments

    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer}
        for t in build_traces(8)
    ]
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = (block for block in blocks if "LeadSpanTrainer" in block)
    names: dict[str, Any] = {
        "student": str(tiny_student),
        "teacher": str(tiny_teacher),
        "rows": Dataset.from_list(rows),
        "tokenizer": AutoTokenizer.from_pretrained(tiny_student),
        "args": TrainingArguments(str(tmp_path), max_steps=2, report_to="none", use_cpu=True),
    }
    exec(compile(code, "README.md", "exec"), names)
    assert names["trainer"].state.global_step == 2


def test_the_first_screen_names_both_commands() -> None:
    screen = "\n".join(README.splitlines()[:30])
    assert "make demo" in screen
    assert "make test" in screen


def test_links_and_pictures_work_on_the_package_index_and_name_files_that_are_here() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert [target for target in targets if not target.startswith("https://")] == []
    pages, raw = f"{HOME}/blob/main/", HOME.replace("//github.com", "//raw.githubusercontent.com")
    ours = [
        target.removeprefix(start)
        for target in targets
        for start in (pages, f"{raw}/main/")
        if target.startswith(start)
    ]
    assert len(ours) > 10
    assert [path for path in ours if not (ROOT / path).is_file()] == []


def test_extras_are_quoted() -> None:
    assert re.findall(r"pip install [^`\n\"]*\[", README) == []


@pytest.mark.parametrize("name", ["CITATION.cff", "mkdocs.yml"])
def test_the_home_is_the_same_everywhere(name: str) -> None:
    assert HOME in (ROOT / name).read_text(encoding="utf-8")
