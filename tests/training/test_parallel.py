"""Two real torchrun ranks with gloo: the same curve as one, a clean error, resume on another number."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, Qwen3Config

from leadspan.config_io import read_yaml
from leadspan.runs import RunFolder
from leadspan.training.checkpoint import find_last
from tests.conftest import build_traces
from tests.hub_server import hub_server
from tests.training.launching import assert_same_run, torchrun
from tests.training.rendering_under_torchrun import HUB_SET


def _launch(
    num_ranks: int, folder: Path, student: Path, teacher: Path, kill_after: int = 0
) -> subprocess.CompletedProcess[str]:
    arguments = (str(folder), str(student), str(teacher), str(kill_after))
    return torchrun(num_ranks, "tests.training.under_torchrun", *arguments)


@pytest.fixture(scope="module")
def one_rank(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> Path:
    """The run on one rank."""
    folder = tmp_path_factory.mktemp("one") / "run"
    done = _launch(1, folder, tiny_student, tiny_teacher)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_ranks_train_as_one(
    one_rank: Path, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    folder = tmp_path / "run"
    done = _launch(2, folder, tiny_student, tiny_teacher)
    assert done.returncode == 0, done.stderr
    assert RunFolder(folder).manifest["num_ranks"] == 2
    assert_same_run(folder, one_rank)


def test_a_killed_rank_ends_the_run_and_one_rank_goes_on(
    one_rank: Path, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    folder = tmp_path / "run"
    killed = _launch(2, folder, tiny_student, tiny_teacher, kill_after=5)
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert not RunFolder(folder).is_complete
    last = find_last(folder / "checkpoints")
    assert last is not None
    assert last.name == "step-00000004"
    done = _launch(1, folder, tiny_student, tiny_teacher)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, one_rank)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_rank_never_holds_the_whole_of_a_sharded_model(
    tmp_path: Path, tiny_teacher: Path, tied: bool
) -> None:
    config = Qwen3Config(
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=24,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=tied,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    module = "tests.training.loading_under_torchrun"
    done = torchrun(2, module, str(tiny_teacher), str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    by_rank = {line["rank"]: line for line in lines}
    assert [by_rank[rank]["gap"] for rank in (0, 1)] == [0.0, 0.0]
    # A half, one tensor on its way, and what the allocator keeps; loading whole first takes 1.0.
    assert by_rank[1]["peak"] < 0.7 * by_rank[1]["size"]


def test_one_rank_asks_the_hub_and_one_renders(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set of the hub without a revision, and derivations to be found in it."""
    file, run_yaml = tmp_path / "rows.jsonl", tmp_path / "run.yaml"
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer, "gold": t.gold}
        for t in build_traces(12)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "student": {"path": str(tiny_student)},
        "traces": {"path": HUB_SET},
        "truncation": {"policy": "derivation"},
        "loss": {"kd_ratio": 0},
        "training": {"steps": 1, "batch_size": 4, "bf16": False},
    }
    run_yaml.write_text(json.dumps(content))
    commit, folder = "a" * 40, tmp_path / "run"
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    module = "tests.training.rendering_under_torchrun"
    with hub_server({f"datasets/{HUB_SET}": commit}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        done = torchrun(2, module, str(run_yaml), str(file), str(folder))
    assert done.returncode == 0, done.stderr
    rendered = [line for line in done.stdout.splitlines() if line.startswith("rendered ")]
    assert rendered == [f"rendered {HUB_SET} at {commit}"]
    assert server.asked == [f"datasets/{HUB_SET}"]
    assert read_yaml(folder / "run.yaml")["traces"]["revision"] == commit
    assert RunFolder(folder).manifest["num_ranks"] == 2
