"""Exit codes: one table, and Ctrl-C is one line and 130 in every verb."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadspan.cli.exits import MEANINGS, RESUMABLE, ExitCode
from leadspan.cli.main import app, main
from leadspan.errors import ConfigError, LeadspanError, RunStopped
from leadspan.runs import RunFolder
from tests.study.test_sweep import write_traces
from tests.training.launching import wait_for

ROOT = Path(__file__).resolve().parents[2]
VERBS = {(command.callback.__name__,): command for command in app.registered_commands} | {  # type: ignore[union-attr]
    (group.name, command.callback.__name__): command  # type: ignore[union-attr]
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands  # type: ignore[union-attr]
}


def _end(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def _break(patched: pytest.MonkeyPatch, error: BaseException, *verb: str) -> None:
    """Have a verb raise at once."""

    def broken() -> None:
        raise error

    broken.__name__ = verb[-1]
    patched.setattr(VERBS[verb], "callback", broken)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_ctrl_c_is_one_line_in_every_verb(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break(monkeypatch, KeyboardInterrupt(), *verb)
    assert _end(*verb) == 130
    said = capsys.readouterr().err
    assert re.fullmatch(rf"{verb[0]}: stopped\.[^\n]*\n", said)
    assert ("goes on" in said) is (verb[0] in RESUMABLE)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("run.yaml: wrong"), ExitCode.MISTAKE),
        (LeadspanError("wrong"), ExitCode.MISTAKE),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), ExitCode.MISTAKE),
        (RunStopped("run: stopped at step 3"), ExitCode.INTERRUPTED),
    ],
    ids=repr,
)
def test_errors(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _break(monkeypatch, error, "doctor")
    assert _end("doctor") == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert _end("--verbose", "doctor") == code
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert type(error).__name__ in shown


def test_a_mistake_of_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, ValueError("ours"), "doctor")
    with pytest.raises(ValueError, match="ours"):
        main(["doctor"])


def test_wrong_arguments_are_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end("--quiet", "--verbose", "doctor", "x") == ExitCode.MISTAKE
    assert _end("trian") == ExitCode.MISTAKE
    assert "Did you mean 'train'" in capsys.readouterr().err


def test_help_and_documentation_show_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert not _end("--help")
    shown = " ".join(capsys.readouterr().out.split())
    documented = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for code, meaning in MEANINGS.items():
        assert f"{code:d} {meaning}" in shown
        assert f"| {code:d} | {meaning} |" in documented


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert not _end("--version")
    assert re.fullmatch(r"leadspan \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_a_shell_completes_verbs() -> None:
    asked = {
        "_LEADSPAN_COMPLETE": "complete_bash",
        "COMP_WORDS": "leadspan ev",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'leadspan'; "
         "from leadspan.cli.main import app; app(prog_name='leadspan')"],
        env={**os.environ, **asked}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["evaluate"]


@pytest.mark.parametrize(("options", "says"), [((), True), (("--quiet",), False)], ids=str)
def test_an_interrupted_training_ends_with_130_and_a_checkpoint(
    options: tuple[str, ...], says: bool, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    content = {
        "teacher": {"path": str(tiny_teacher), "dtype": "float32"},
        "student": {"path": str(tiny_student)},
        "traces": {"path": str(write_traces(tmp_path / "traces.jsonl"))},
        "training": {"steps": 100_000, "bf16": False, "validate_every_epochs": 10_000},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, "-m", "leadspan", *options, "train", str(path)]
    child = subprocess.Popen(
        [*command, "--output", str(folder.path)], stderr=subprocess.PIPE, text=True
    )
    child.is_alive = lambda: child.poll() is None  # type: ignore[attr-defined]
    wait_for(lambda: len(folder.read_metrics()) >= 2, child)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130
    last = said.splitlines()[-1]
    assert "stopped at step" in last
    assert last.endswith("checkpoint written. The same command goes on from there.")
    assert ("stopping after this step; press again to stop now" in said) is says
    assert any(folder.checkpoints_path.glob("step-*/manifest.json"))


A_LONG_CALL = """
import hashlib
from leadspan.training.stopping import stop_requests
with stop_requests() as stop:
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call into C, of an hour
    print("over", flush=True)
"""


def test_within_a_step_of_any_length_it_is_said_at_once_and_obeyed_the_second_time() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", A_LONG_CALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGINT)
    child.send_signal(
        signal.SIGINT
    )  # torchrun passes on what the terminal has sent: no second request
    assert child.stdout.readline() == "stopping after this step; press again to stop now\n"
    assert child.poll() is None
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=60)
    assert rest == "stopped now. The same command goes on from the last checkpoint.\n"
    assert child.returncode == 130
