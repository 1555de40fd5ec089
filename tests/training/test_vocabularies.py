"""Training, live and cached, where student and teacher are of one family with different added tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import DataError
from leadspan.models import real_vocab_size
from leadspan.teachers.capture import CaptureSettings, capture_run
from leadspan.training.run import train
from tests.conftest import build_tiny_model, build_tiny_tokenizer

BASE = real_vocab_size(build_tiny_tokenizer())
NUM_ROWS, NUM_ODD = 12, 3
"""Rows in all, and those whose CoT holds the token that only one side has."""


def model_folder(folder: Path, added: tuple[str, ...], width: int, seed: int) -> str:
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(list(added))
    build_tiny_model(width, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_traces(path: Path, num_odd: int = NUM_ODD) -> str:
    rows = [
        {
            "id": f"r{n}",
            "prompt": f"{n}+1?",
            "cot": f"{n} and 1 {'<x>' if n < num_odd else 'is'} {n + 1}.",
            "answer": str(n + 1),
        }
        for n in range(NUM_ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run_config(student: str, teacher: Any, traces: str) -> RunConfig:
    content = {
        "student": {"path": student},
        "teacher": teacher if isinstance(teacher, dict) else {"path": teacher},
        "traces": {"path": traces, "validation_fraction": 0},
        "truncation": {"lsp": 1.0},
        "training": {"steps": 1, "batch_size": NUM_ROWS, "bf16": False},
    }
    return validate(RunConfig, content, "test")


CASES = [
    pytest.param((), ("<x>",), BASE + 1, BASE, 0, 0, id="teacher has more"),
    pytest.param(("<x>",), (), BASE + 8, BASE, NUM_ODD, 0, id="student has more, wide teacher"),
    pytest.param(("<x>",), (), BASE, BASE, 0, NUM_ODD, id="student has more, narrow teacher"),
    pytest.param(("<x>",), ("<y>",), BASE + 8, BASE, 0, NUM_ODD, id="one id, two meanings"),
    pytest.param(("<x>",), ("<x>", "<y>"), BASE + 8, BASE + 1, 0, 0, id="both have it"),
]


@pytest.mark.parametrize(("mine", "theirs", "width", "shared", "unscored", "unread"), CASES)
def test_live_and_cached_train_on_the_common_ids(
    mine: tuple[str, ...],
    theirs: tuple[str, ...],
    width: int,
    shared: int,
    unscored: int,
    unread: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    student = model_folder(tmp_path / "student", mine, BASE + 3, seed=1)
    teacher = model_folder(tmp_path / "teacher", theirs, width, seed=2)
    # Without its token a student reads <x> as three others, all of them shared.
    traces = write_traces(tmp_path / "traces.jsonl", NUM_ODD if mine else 0)
    config = run_config(student, teacher, traces)
    live = train(config, tmp_path / "live").manifest
    assert live["vocabulary_shared"] == shared
    assert live["unshared_labels"] == unscored
    assert live["unread_by_teacher"] == unread
    assert live["num_train"] == NUM_ROWS - unread
    said = capsys.readouterr().err
    assert (f"left out, the teacher cannot read them: {unread}" in said) is (
        shared < BASE + len(mine)
    )

    settings = CaptureSettings(mode="hidden")
    capture_run(config, tmp_path / "cache", settings)
    cached = {"path": teacher, "cache": str(tmp_path / "cache")}
    again = train(run_config(student, cached, traces), tmp_path / "cached").manifest
    for key in ("vocabulary_shared", "unshared_labels", "unread_by_teacher", "tokens_scored"):
        assert again[key] == live[key], key
    assert again["train_loss"] == pytest.approx(live["train_loss"], rel=1e-2)


def test_labels_outside_are_not_scored(tmp_path: Path) -> None:
    student = model_folder(tmp_path / "student", ("<x>",), BASE + 3, seed=1)
    traces = write_traces(tmp_path / "traces.jsonl")
    scored = {}
    for name, added in (("same", ("<x>",)), ("fewer", ())):
        teacher = model_folder(tmp_path / name, added, BASE + 8, seed=2)
        run = train(run_config(student, teacher, traces), tmp_path / f"{name}-run")
        scored[name] = run.manifest["tokens_scored"]
    assert scored["same"] - scored["fewer"] == NUM_ODD


def test_a_teacher_that_can_read_no_row_is_an_error_with_the_count(tmp_path: Path) -> None:
    student = model_folder(tmp_path / "student", ("<x>",), BASE + 3, seed=1)
    teacher = model_folder(tmp_path / "teacher", (), BASE, seed=2)
    traces = write_traces(tmp_path / "traces.jsonl", NUM_ROWS)
    with pytest.raises(DataError, match=f"{NUM_ROWS} hold tokens that the teacher does not have"):
        train(run_config(student, teacher, traces), tmp_path / "run")


def test_plain_fine_tuning_uses_every_token(tmp_path: Path) -> None:
    student = model_folder(tmp_path / "student", ("<x>",), BASE + 3, seed=1)
    config = run_config(student, student, write_traces(tmp_path / "traces.jsonl"))
    loss = config.loss.model_copy(update={"kd_ratio": 0.0})
    manifest = train(config.model_copy(update={"loss": loss}), tmp_path / "run").manifest
    assert (manifest["vocabulary_shared"], manifest["unshared_labels"]) == (BASE + 1, 0)
