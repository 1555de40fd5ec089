"""One way from a config to tokenizer and template: every verb loads the student that run.yaml pins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.config import ModelConfig, RenderConfig
from leadspan.config_io import read_yaml
from leadspan.errors import DataError
from leadspan.models import load_tokenizer
from leadspan.traces.render import Renderer

PINNED, NEWER = "a" * 40, "b" * 40
Hub = Callable[[str, Path], None]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Puts a model into the hub's cache at PINNED; its `main` has moved on to NEWER, which is empty."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))

    def put(name: str, model: Path) -> None:
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(model, folder / "snapshots" / PINNED)
        (folder / "snapshots" / NEWER).mkdir()
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(NEWER)

    return put


@pytest.fixture
def run_yaml(tmp_path: Path, hub: Hub, tiny_student: Path, tiny_teacher: Path) -> Path:
    hub("me/student", tiny_student)
    traces = tmp_path / "traces.jsonl"
    rows = [
        {"prompt": f"what is {n} + {n}?", "cot": f"{n} + {n} = {2 * n}. ", "answer": f"{2 * n}"}
        for n in range(10, 22)
    ]
    traces.write_text("".join(json.dumps({**row, "gold": row["answer"]}) + "\n" for row in rows))
    path = tmp_path / "run.yaml"
    content = {
        "student": {"path": "me/student", "revision": PINNED},
        "teacher": {"path": str(tiny_teacher)},
        "traces": {"path": str(traces), "validation_fraction": 0.2},
        "training": {"steps": 1, "batch_size": 2},
    }
    path.write_text(json.dumps(content))
    return path


VERBS = {
    "inspect": ["--json"],
    "doctor": [],
    "prepare": ["set"],
    "analyze": ["--json"],
    "advise": ["--json"],
    "plan": ["--json"],
    "capture": ["--output", "teacher"],
    "train": ["--output", "run"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_loads_the_pinned_student(
    verb: str, run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [verb, str(run_yaml), *VERBS[verb]])
    assert result.exception is None, result.output
    moved = CliRunner().invoke(
        app, [verb, str(run_yaml), *VERBS[verb], "--set", f"student.revision={NEWER}"]
    )
    assert moved.exception is not None, "the other revision holds nothing, so it cannot be loaded"


def test_offline_a_run_takes_the_commit_of_the_hub_s_cache_and_keeps_it(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main = tmp_path / "hub" / "models--me--student" / "refs" / "main"
    main.write_text(PINNED)
    content = json.loads(run_yaml.read_text())
    del content["student"]["revision"]
    run_yaml.write_text(json.dumps(content))
    runs = {
        "train": (["--output", "run"], "run/run.yaml"),
        "capture": (["--output", "teacher"], "teacher/date.json"),
    }
    for newest in (PINNED, NEWER):  # which holds nothing: who took it could load no tokenizer
        main.write_text(newest)
        for verb, (options, kept) in runs.items():
            result = CliRunner().invoke(app, [verb, str(run_yaml), *options])
            assert result.exception is None, result.output
            assert read_yaml(tmp_path / kept)["student"]["revision"] == PINNED


def test_the_template_is_decided_once(tmp_path: Path, tiny_student: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    student = ModelConfig(path=str(tiny_student))
    for asked, expected in ((None, "<end>"), (str(template), "[{{"), ("plain", None)):
        render = RenderConfig(chat_template=asked)
        tokenizer = load_tokenizer(student, render)
        found: Any = Renderer(tokenizer, render).layout.template
        assert found == tokenizer.chat_template
        assert found is None if expected is None else expected in found
    with pytest.raises(DataError, match=r"render\.chat_template: must be a readable Jinja file"):
        load_tokenizer(student, RenderConfig(chat_template=str(tmp_path / "none.jinja")))
