"""What a user can get wrong on the way through `train`: one clear line each, exit code 2, no traceback."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from leadspan.cli.main import main
from leadspan.config import RunConfig
from leadspan.config_io import set_key, validate
from leadspan.errors import ConfigError
from tests.conftest import save_tiny_model
from tests.study.test_sweep import write_traces

ROW = {"id": "a", "prompt": "1+2?", "cot": "1+1=2. 2+1=3.", "answer": "3", "gold": "3"}


def _run_yaml(folder: Path, student: Path, teacher: Path, **changes: Any) -> Path:
    traces = changes.pop("traces", None) or write_traces(folder / "traces.jsonl")
    content: dict[str, Any] = {
        "teacher": {"path": str(teacher), "dtype": "float32"},
        "student": {"path": str(student)},
        "traces": {"path": str(traces)},
        "training": {"steps": 2, "bf16": False},
        **changes,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def _succeeds(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert not stopped.value.code


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("truncation.lsp=0", "truncation.lsp must be greater than 0; got 0."),
        ("truncation.lsp=1.5", "truncation.lsp must be at most 1; got 1.5."),
        ("truncation.lsp=50", "Write 0.5 for 50 %."),
        ("truncation.lsp=half", "truncation.lsp must be a number; got 'half'."),
        ("supervision.sections=[thoughts]", "must be 'prompt', 'cot' or 'answer'; got 'thoughts'"),
        ("supervision.sections=[]", "supervision.sections"),
        ("truncation.lps=0.5", "Did you mean 'lsp'?"),
        ("training.steps=0", "training.steps must be at least 1; got 0."),
        ("teacher=null", "teacher is required when loss.kd_ratio > 0"),
        ("supervision.sections=[cot", "--set supervision.sections=[cot: the value must be YAML; "),
        ("traces.where={a: 1", "--set traces.where={a: 1: the value must be YAML; "),
        ("traces.where='a", "the value must be YAML; "),
        ("supervision.sections=@cot", "the value must be YAML; "),
        ("training.learning_rate=.inf", "training.learning_rate must be a finite number"),
        ("lsp=50", "truncation.lsp must be at most 1; got 50. Write 0.5 for 50 %."),
        ("sections=cot", "supervision.sections must be a list; got 'cot'. Write [cot]."),
        ("training.bf16=maybe", "training.bf16 must be true or false or 'auto'; got 'maybe'."),
        ("traces.markers={open: ''}", "traces.markers.close is required."),
        ("traces.markers=3", "traces.markers must be text or a mapping of keys; got 3."),
        ("traces.columns=[a]", "traces.columns must be a mapping of keys; got ['a']."),
        ("truncation..lsp=0.5", "--set truncation..lsp=0.5: a key must be names with single dots"),
        ("evaluation.benchmarks.1.limit=2", "evaluation.benchmarks is a list of 1 entries"),
        ("evaluation.benchmarks.limit=2", "counted from 0; got 'limit'"),
        ("evaluation.benchmarks.0.limt=2", "evaluation.benchmarks.0.limt is not a known key"),
        ("student.attention=flex_attention", "teacher.attention must be flex_attention or"),
    ],
)
def test_settings(
    setting: str,
    says: str,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    benchmarks = {"benchmarks": [{"path": "gsm8k"}]}
    path = _run_yaml(tmp_path, tiny_student, tiny_teacher, evaluation=benchmarks)
    error = _fails(capsys, "train", path, "--set", setting)
    assert says in error
    assert len(error.splitlines()) == 1 or not error.startswith("--set")


def test_every_kind_of_wrong_value_is_said_in_our_words() -> None:
    """Each value of each kind at each key of a run.yaml: no error of pydantic without words of ours."""
    wrong = [
        "x",
        True,
        None,
        -1,
        1.5,
        [],
        {},
        {"a": 1},
        float("nan"),
        b"\xff",
        "2026-13-01",
        10**400,
    ]
    good = {"student": {"path": "s"}, "traces": {"path": "t"}, "loss": {"kd_ratio": 0}}
    keys = list(_keys_of(RunConfig, ""))
    assert len(keys) > 100
    for key in keys:
        for value in wrong:
            content = set_key({**good, "training": {"steps": 1}}, key, value)
            with suppress(ConfigError):
                validate(RunConfig, content, "run.yaml")
                continue
            lines = _error_of(content).splitlines()
            assert all(line.startswith("run.yaml: ") for line in lines)
            assert not re.search(
                "pydantic|[Ii]nput|valid |constrained|tuple|[Dd]ict", str(lines)
            ), lines


def _keys_of(model: type[BaseModel], place: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{place}{field.alias or name}"
        yield key
        inner = getattr(field.annotation, "__args__", (field.annotation,))
        for one in inner:
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from _keys_of(one, f"{key}.0." if Ellipsis in inner else f"{key}.")


def _error_of(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        validate(RunConfig, content, "run.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("verb", "content", "says"),
    [
        ("train", {"base": {}, "grids": [{"lsp": [0.5]}]}, "must be a run.yaml; got a sweep"),
        ("inspect", {"base": {}, "grids": [{"lsp": [0.5]}]}, "must be a run.yaml; got a sweep"),
        ("evaluate", {"base": {}, "grids": [{"lsp": [0.5]}]}, "must be a run.yaml; got a sweep"),
        (
            "sweep",
            {"student": {"path": "s"}},
            "must be a sweep.yaml, with base and grids; got a run",
        ),
    ],
)
def test_a_file_of_the_other_kind_is_one_line(
    verb: str,
    content: dict[str, Any],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(content))
    given = ("student", "--config", path, "--output", tmp_path) if verb == "evaluate" else (path,)
    error = _fails(capsys, verb, *given)
    assert error.startswith(f"{path}: {says}")
    assert len(error.splitlines()) == 1


def test_settings_of_traces_alone(
    tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = write_traces(tmp_path / "traces.jsonl")
    for setting in ("traces.where={a: 1", "traces.where", "loss.kd_ratio=1"):
        arguments = ("analyze", traces, "--tokenizer", tiny_student, "--set", setting)
        assert len(_fails(capsys, *arguments).splitlines()) == 1


@pytest.mark.parametrize("manifest", [None, {"train_flops": None}, [1], "{"], ids=str)
def test_a_run_that_cannot_calibrate(
    manifest: Any,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _run_yaml(tmp_path, tiny_student, tiny_teacher)
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (tmp_path / "manifest.json").write_text(text)
    error = _fails(capsys, "plan", path, "--calibrate", tmp_path)
    assert error.startswith(f"--calibrate {tmp_path}: must be a finished run; ")
    assert len(error.splitlines()) == 1


def test_a_device_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = _fails(capsys, "plan", tmp_path / "run.yaml", "--device", "gpu")
    assert error == "--device must be one of cuda, cpu; got 'gpu'.\n"


def test_all_problems_of_a_config_are_shown_together(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _run_yaml(tmp_path, tiny_student, tiny_teacher, truncation={"lsp": 7, "keepp": "lead"})
    error = _fails(capsys, "train", path, "--set", "loss.kd_ratio=2")
    assert len(error.splitlines()) == 3


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "nowhere.jsonl"),
        ("", "traces.jsonl"),
        (json.dumps(ROW) + "\n{broken\n", "2"),
        (json.dumps({**ROW, "cot": ""}) + "\n", "empty_cot"),
        (json.dumps({**ROW, "prompt": ""}) + "\n", "prompt"),
    ],
    ids=["missing", "empty", "broken JSON", "no CoT", "empty prompt"],
)
def test_traces(
    rows: str | None,
    says: str,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    traces = tmp_path / ("nowhere.jsonl" if rows is None else "traces.jsonl")
    if rows is not None:
        traces.write_text(rows)
    path = _run_yaml(tmp_path, tiny_student, tiny_teacher, traces=traces)
    arguments = ("inspect", traces, "--tokenizer", tiny_student, "--json")
    if says == "2":  # one broken line is counted, not fatal: the good row is still used
        _succeeds(*arguments)
        refused = json.loads(capsys.readouterr().out)["refused"]
        assert sum(refused.values()) == 1
        return
    assert says in _fails(capsys, "train", path)


def test_a_model_folder_without_a_tokenizer(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_student, bare)
    for file in bare.glob("*token*"):
        file.unlink()
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    path = _run_yaml(tmp_path, bare, tiny_teacher)
    assert "holds no tokenizer" in _fails(capsys, "train", path)


def test_different_vocabularies(
    tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny_model(tmp_path / "other", seed=3, hidden=32)
    content = (
        (other / "tokenizer.json").read_text().replace('"a":4', '"a":5').replace('"b":5', '"b":4')
    )
    assert content != (other / "tokenizer.json").read_text() or '"a": 4' in content
    (other / "tokenizer.json").write_text(
        content.replace('"a": 4', '"a": 5', 1).replace('"b": 5', '"b": 4', 1)
    )
    path = _run_yaml(tmp_path, tiny_student, other)
    error = _fails(capsys, "train", path)
    assert "vocabular" in error
    assert "'a'" in error


def test_a_folder_of_another_config(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _run_yaml(tmp_path, tiny_student, tiny_teacher)
    out = tmp_path / "out"
    _succeeds("train", path, "--output", out)
    error = _fails(capsys, "train", path, "--output", out, "--set", "truncation.lsp=0.5")
    assert "truncation.lsp differ" in error


def test_help_answers_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from leadspan.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "truncated" in done.stdout
