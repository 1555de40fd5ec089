"""`leadspan rollouts`: what the student wrote, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.cli.main import main
from leadspan.training.rollout_log import by_decile, describe_step, mean_by_decile

ESCAPES = "\x1b[2J\x1b[31mred [bold]not bold[/bold] \x07 \u202eright to left \ud800"


def record(step: int, sample: int = 0, **other: Any) -> dict[str, Any]:
    return {
        "step": step,
        "prompt_id": "sum-1",
        "sample": sample,
        "num_tokens": 20,
        "ended": sample == 0,
        "staleness": 0,
        "entropy": 0.5 + sample,
        "entropy_by_decile": [0.5 + sample] * 10,
        "kd_by_decile": [0.1 * step] * 10,
        "text": f"written at step {step}, sample {sample}",
        **other,
    }


def write_run(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "run.yaml").write_text("seed: 0\n")  # a run under way: no manifest yet
    lines = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "rollouts.jsonl").write_text(lines)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(
        tmp_path / "run", *(record(step, sample) for step in (7, 8) for sample in (0, 1))
    )


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return int(ended.value.code or 0)


def test_the_steps_and_the_texts_of_the_last(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rollouts", run) == 0
    out = capsys.readouterr().out
    (cells,) = [line.split() for line in out.splitlines() if line.startswith(" 7 ")]
    # mean entropy: of 0.5 and 1.5 over as many tokens
    assert cells == ["7", "2", "20.0", "50%", "1.000", "0.700"]
    assert "written at step 8, sample 0" in out
    assert "written at step 8, sample 1" in out
    assert "stopped at the horizon" in out
    assert "written at step 7" not in out


def test_another_step_and_fewer_texts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rollouts", run, "--step", 7, "--limit", 1) == 0
    out = capsys.readouterr().out
    assert "written at step 7, sample 0" in out
    assert "written at step 7, sample 1" not in out
    assert "1 more of step 7: --limit 2" in out


def test_json_holds_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rollouts", run, "--json", "--limit", 1) == 0
    found = json.loads(capsys.readouterr().out)
    assert [step["step"] for step in found["steps"]] == [7, 8]
    assert found["steps"][1]["kd"] == pytest.approx(0.8)
    assert found["rollouts"] == [record(8)]


def test_text_of_the_model_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", record(1, text=ESCAPES, prompt_id=ESCAPES))
    assert call("rollouts", folder) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e", "\ud800"} & set(out)
    assert "[bold]not bold[/bold]" in out
    assert "␛[31mred" in out


def test_without_entropies_a_dash_stands_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", record(1, entropy=None, entropy_by_decile=None))
    assert call("rollouts", folder) == 0
    assert "entropy –" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ('{"step": 1, "text"', "rollouts.jsonl:2: must be JSON"),
        ("[1]", "rollouts.jsonl:2: must be a JSON object; got list"),
        (json.dumps({**record(1), "text": 5}), "rollouts.jsonl:2: text must be str; got 5"),
        (
            json.dumps({**record(1), "kd_by_decile": ["high"]}),
            "rollouts.jsonl:2: kd_by_decile must be a list of 1 to 10 numbers",
        ),
        (
            json.dumps({**record(1), "kd_by_decile": [0.1] * 11}),
            "rollouts.jsonl:2: kd_by_decile must be a list of 1 to 10 numbers",
        ),
        (
            json.dumps({**record(1), "num_tokens": 0}),
            "rollouts.jsonl:2: num_tokens must be at least 1; got 0",
        ),
        (json.dumps({**record(1), "step": True}), "rollouts.jsonl:2: step must be int; got True"),
    ],
    ids=["half a line", "a list", "another type", "no numbers", "too many", "no tokens", "no step"],
)
def test_a_damaged_line_is_named(
    damage: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", record(1))
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write(damage + "\n")
    assert call("rollouts", folder) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_is_not_there_is_said_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "run.yaml").write_text("seed: 0\n")
    for arguments, said in (
        ([tmp_path / "nowhere"], "must be the folder of a run"),
        ([tmp_path / "plain"], "has no rollouts.jsonl"),
        ([run, "--step", 3], "--step must be one of the steps that are kept, 7 to 8; got 3."),
    ):
        assert call("rollouts", *arguments) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_tenths_of_long_and_short_rollouts() -> None:
    """Of 20 tokens two make a tenth; of 4 tokens each stands in the tenths that it covers."""
    long, short = by_decile(np.arange(20.0).tolist()), by_decile([0.0, 1.0, 2.0, 3.0])
    assert long == [0.5 + 2 * place for place in range(10)]
    assert short == [0.0, 1.0, 2.0, 3.0]
    expected = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert mean_by_decile([short]) == expected
    assert mean_by_decile([short, long]) == [
        (a + b) / 2 for a, b in zip(expected, long, strict=True)
    ]


def test_a_step_weighs_entropy_by_tokens_and_tenths_by_rollouts() -> None:
    found = describe_step([record(1, num_tokens=30), record(1, 1, num_tokens=10)])
    assert found["entropy"] == pytest.approx((30 * 0.5 + 10 * 1.5) / 40)
    assert found["entropy_by_decile"] == pytest.approx([1.0] * 10)
