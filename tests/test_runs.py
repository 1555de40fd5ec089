"""The run folder: what was damaged on disk is refused in one line or does no harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadspan.config import ModelConfig, RunConfig
from leadspan.errors import DamagedError, LeadspanError
from leadspan.integrity import check_checksums, seal, unseal, write_checksums
from leadspan.models import load_causal_lm, load_tokenizer
from leadspan.runs import RunFolder, read_json, replacing, write_json_atomic
from tests.damage import damaged, draw_damages, outcome_of

CONFIG = RunConfig.model_validate(
    {
        "student": {"path": "student"},
        "traces": {"path": "traces.jsonl"},
        "loss": {"kd_ratio": 0.0},
        "training": {"steps": 7, "learning_rate": 1e-5},
        "seed": 11,
    }
)
ENVIRONMENT = {"packages": {"torch": "2.13.0"}, "num_threads": 1}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A claimed folder with some metrics and a manifest."""
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG, ENVIRONMENT)
    for step in range(1, 6):
        folder.append_metrics({"kind": "train", "step": step, "loss": 1 / step})
    write_json_atomic(folder.manifest_path, {"steps": 7, "train_loss": 0.25, "device": "ü"})
    return folder


def _reader(folder: RunFolder, name: str) -> Any:
    described = folder.describe_metrics()
    return {
        "run.yaml": folder.read_config,
        "environment.json": lambda: folder.claim(CONFIG, ENVIRONMENT),
        "manifest.json": lambda: folder.manifest,
        "metrics.jsonl": lambda: folder.check_metrics(described),
    }[name]


@pytest.mark.parametrize("name", ["run.yaml", "environment.json", "manifest.json", "metrics.jsonl"])
def test_damage_is_refused_or_harmless(folder: RunFolder, name: str) -> None:
    read, path = _reader(folder, name), folder.path / name
    expected = read()
    refused = 0
    for what, content in draw_damages(path.read_bytes()):
        with damaged(path, content):
            found, refusal = outcome_of(read)
        if refusal is None:
            # Where the byte stood in the word "checksum", a stray key lies beside what was written:
            # the environment says so, and it changes no other key.
            if isinstance(found, dict):
                found = {key: found[key] for key in expected}
            elif name == "environment.json":
                found = [line for line in found if not line.endswith("is None")]
            assert found == expected, what
        else:
            refused += 1
            assert str(path) in refusal, what
            assert "\n" not in refusal, what
    assert refused >= 20


def test_a_config_that_was_changed_on_disk_is_another_config(folder: RunFolder) -> None:
    path = folder.config_path
    for what, content in draw_damages(path.read_bytes()):
        with damaged(path, content):
            _, refusal = outcome_of(lambda: folder.claim_config(CONFIG))
            if refusal is None:
                found = _without_none(yaml.safe_load(content))
                assert found == _without_none(CONFIG.model_dump(mode="json")), what
        lines = (refusal or "").splitlines()  # a damaged key is one that lacks and one too many
        assert all(line.startswith(str(path.parent)) for line in lines), what


@pytest.mark.parametrize(
    "name", ["key: on", "? [a]\n: b", "a: 2026-13-45", "a: 0x_", "- 1", "\x00"]
)
def test_yaml_that_is_no_config_is_refused(folder: RunFolder, name: str) -> None:
    folder.config_path.write_text(name)
    with pytest.raises(LeadspanError):
        folder.claim_config(CONFIG)
    with pytest.raises(LeadspanError):
        folder.read_config()


def _without_none(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: _without_none(value) for key, value in content.items() if value is not None}


def test_metrics_go_back_to_what_a_checkpoint_saw(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    described, lines = folder.describe_metrics(), folder.read_metrics()
    folder.append_metrics({"kind": "train", "step": 6})
    with folder.metrics_path.open("a") as file:
        file.write('{"half')
    folder.check_metrics(described)
    folder.restore_metrics(described["size"])
    assert folder.read_metrics() == lines
    folder.metrics_path.unlink()
    folder.check_metrics(described)
    folder.restore_metrics(described["size"])
    assert "is not there; a new one begins" in capsys.readouterr().err


def test_a_damaged_line_of_metrics_is_named(folder: RunFolder) -> None:
    content = folder.metrics_path.read_bytes()
    folder.metrics_path.write_bytes(content.replace(b'"step": 3', b'"step": ,'))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl:3: must be JSON"):
        folder.read_metrics()


def test_a_start_that_was_killed_at_once_can_be_repeated(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / ".run.yaml.123.tmp").write_text("half")
    folder.claim_config(CONFIG)
    assert folder.read_config() == CONFIG.model_dump(mode="json")


def test_a_checksum_travels_through_other_hands_and_says_what_was_changed(tmp_path: Path) -> None:
    content = {"a": {1: 0.1, "b": [None, "é\ud800"]}, "c": 1e-7}
    plain = json.loads(json.dumps(content))
    assert unseal(json.loads(json.dumps(seal(content))), "x") == plain
    assert unseal(plain, "x") == plain, "a hand-made file carries none"
    with pytest.raises(DamagedError, match=r"x: must carry a checksum"):
        unseal(plain, "x", required=True)
    path = tmp_path / "a.json"
    write_json_atomic(path, {"a": 1})
    path.write_text(path.read_text().replace("1,", "2,"))
    with pytest.raises(DamagedError, match=r"a\.json: .* delete the key checksum"):
        read_json(path)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("kept")
    with pytest.raises(LeadspanError), replacing(tmp_path / "old"):
        pass  # nothing was written to take its place
    assert (tmp_path / "old" / "file").read_text() == "kept"
    with replacing(tmp_path / "old") as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "checksums.json"]
)
def test_a_damaged_student_is_refused(tiny_student: Path, tmp_path: Path, name: str) -> None:
    student = tmp_path / "student"
    shutil.copytree(tiny_student, student)
    write_checksums(student)
    check_checksums(student)
    path = student / name
    refused = 0
    for what, content in draw_damages(path.read_bytes()):
        with damaged(path, content):
            _, refusal = outcome_of(lambda: check_checksums(student))
        if refusal is None:
            assert name == "checksums.json", what
        else:
            refused += 1
            assert str(student) in refusal, what
            assert refusal.endswith(f"delete {student / 'checksums.json'}."), what
    assert refused >= 20
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DamagedError, match=name):
        load_causal_lm(ModelConfig(path=str(student)))
    if name == "tokenizer.json":
        with pytest.raises(DamagedError, match=name):
            load_tokenizer(ModelConfig(path=str(student)))
