"""`leadspan push`: exactly what the dry run prints goes to the hub, in one commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadspan.integrity import CHECKSUMS_FILE
from tests.cli.made_up_runs import begin_run, finish_run
from tests.hub_uploads import TOKEN, UploadHub, upload_hub


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    with upload_hub() as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished LoRA run."""
    path = tmp_path_factory.mktemp("runs") / "run"
    finish_run(path)
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_config.json").write_text("{}")
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return path


def _push(
    run: Path, hub: UploadHub | str, *options: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's library reads its environment once."""
    url = hub if isinstance(hub, str) else hub.url
    environment = {
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": token,
        "no_proxy": "127.0.0.1",
    }
    command = [sys.executable, "-m", "leadspan", "push", str(run), *options]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _dry(said: str) -> dict[str, int]:
    rows = re.findall(r"^ +([\d,]+)  (\S+)$", said, re.MULTILINE)
    return {name: int(size.replace(",", "")) for size, name in rows}


def test_the_dry_run_prints_exactly_what_goes(run: Path, hub: UploadHub) -> None:
    dry = _push(run, hub, "--repo", "me/student", "--dry-run")
    assert dry.returncode == 0
    assert not hub.repositories
    done = _push(run, hub, "--repo", "me/student")
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["me/student"]
    assert not repository.is_private
    (files,) = repository.commits
    assert {name: len(content) for name, content in files.items()} == _dry(dry.stdout)
    assert f"{sum(map(len, files.values())):,}  bytes in {len(files)} files" in dry.stdout
    assert {"README.md", "model.safetensors", "tokenizer.json", "config.json"} <= files.keys()
    assert CHECKSUMS_FILE not in files
    for name, content in files.items():
        assert content == (run / "student" / name).read_bytes()
    assert done.stdout.strip() == f"{hub.url}/me/student/commit/{1:040x}"


def test_a_private_repository_with_the_adapter_alone(run: Path, hub: UploadHub) -> None:
    done = _push(run, hub, "--repo", "team/adapter", "--private", "--adapter")
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["team/adapter"]
    assert repository.is_private
    (files,) = repository.commits
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert files["adapter_model.safetensors"] == b"weights"


def test_a_second_push_is_a_second_commit(run: Path, hub: UploadHub) -> None:
    assert _push(run, hub, "--repo", "me/twice").returncode == 0
    assert _push(run, hub, "--repo", "me/twice").returncode == 0
    assert len(hub.repositories["me/twice"].commits) == 2


def test_what_the_hub_refuses_is_one_line(run: Path, hub: UploadHub) -> None:
    wrong = _push(run, hub, "--repo", "me/student", token="wrong")
    hub.is_read_only = True
    forbidden = _push(run, hub, "--repo", "me/student")
    for done, status in ((wrong, "401"), (forbidden, "403")):
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"me/student: the hub refused with status {status} (")
        assert line.endswith("Log in with a token that may write: hf auth login, or HF_TOKEN.")


def test_no_hub_is_one_line(run: Path) -> None:
    done = _push(run, "http://127.0.0.1:9", "--repo", "me/student")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "me/student: the upload failed (" in done.stderr


def test_what_cannot_be_pushed(run: Path, tmp_path: Path) -> None:
    begin_run(tmp_path / "halfway")
    finish_run(tmp_path / "plain")
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "student" / "config.json").write_text("{}")
    for path, options, says in (
        (tmp_path / "halfway", ["--repo", "me/a"], "must be the folder of a finished run"),
        (tmp_path / "plain", ["--repo", "me/a", "--adapter"], "Only a run with student.lora has"),
        (damaged, ["--repo", "me/a"], "config.json: must have"),
        (run, ["--repo", "student"], "--repo must be user/name; got 'student'."),
    ):
        done = _push(path, "http://127.0.0.1:9", *options, "--dry-run")
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
