"""Several teachers: each row has one, and a step adds up what each of them says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.traces.doctor import examine
from leadspan.traces.sources import TEACHER, TEACHER_PROMPT
from leadspan.training.run import train
from tests.conftest import save_tiny_model
from tests.training.launching import metrics_of
from tests.training.test_rollouts import rollouts_of

TASKS = ("math", "code", "chat")


@pytest.fixture
def keys(tmp_path: Path, tiny_student: Path) -> dict[str, Any]:
    rows = [
        {
            "id": f"row-{n}",
            "prompt": f"{n}+{n % 7}?",
            "cot": f"{n}+{n % 7}={n + n % 7}.",
            "answer": str(n + n % 7),
            "task": TASKS[n % 3],
        }
        for n in range(30)
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "student": {"path": str(tiny_student)},
        "traces": {"path": str(path), "validation_fraction": 0},
        "loss": {"kd_ratio": 1.0},
        "training": {"steps": 1, "batch_size": 20, "bf16": False, "learning_rate": 1e-3},
    }


@pytest.fixture
def two(tiny_teacher: Path, tmp_path: Path) -> list[dict[str, Any]]:
    other = save_tiny_model(tmp_path / "other", seed=77, hidden=48)
    return [
        {"path": str(tiny_teacher), "dtype": "float32", "where": {"task": "math"}},
        {"path": str(other), "dtype": "float32", "where": {"task": ["code"]}, "weight": 3.0},
    ]


def first(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = metrics_of(folder)[0]
    return record


def test_a_step_adds_up_what_each_teacher_says_of_its_rows(
    keys: dict[str, Any], two: list[dict[str, Any]], tmp_path: Path
) -> None:
    both = train(validate(RunConfig, {**keys, "teachers": two}, "test"), tmp_path / "both")
    assert both.manifest["refused"] == {"no_teacher": 10}
    assert both.manifest["num_train"] == 20
    total, tokens, flops = 0.0, 0, 0
    keys["training"]["batch_size"] = 10
    for place, routed in enumerate(two):
        alone = {key: routed[key] for key in ("path", "dtype")}
        traces = {**keys["traces"], "where": routed["where"]}
        config = validate(RunConfig, {**keys, "teacher": alone, "traces": traces}, "test")
        one = train(config, tmp_path / str(place))
        record = first(tmp_path / str(place))
        assert record["loss"] > 0.05
        total += routed.get("weight", 1.0) * record["loss"] * record["tokens_scored"]
        tokens += record["tokens_scored"]
        flops += one.manifest["teacher_flops"]
    record = first(tmp_path / "both")
    assert record["tokens_scored"] == tokens
    assert record["loss"] == pytest.approx(total / tokens, rel=1e-6)
    assert both.manifest["teacher_flops"] == flops


def test_rollouts_are_scored_by_the_teacher_of_their_prompt(
    keys: dict[str, Any], two: list[dict[str, Any]], tmp_path: Path
) -> None:
    keys |= {"rollout": {"horizon": 6}}
    train(validate(RunConfig, {**keys, "teachers": two}, "test"), tmp_path / "both")
    written = {r["prompt_id"]: r for r in rollouts_of(tmp_path / "both")}
    math, code = {"row-0", "row-3", "row-6"}, {"row-1", "row-4", "row-7"}
    assert math | code <= set(written)
    for place, (routed, mine) in enumerate(zip(two, (math, code), strict=True)):
        alone = {key: routed[key] for key in ("path", "dtype")}
        config = validate(RunConfig, {**keys, "teacher": alone}, "test")
        train(config, tmp_path / f"all-{place}")
        others = {r["prompt_id"]: r for r in rollouts_of(tmp_path / f"all-{place}")}
        same = [
            written[name]["kd_by_decile"] == pytest.approx(others[name]["kd_by_decile"], rel=1e-4)
            for name in mine & set(others)
        ]
        assert same
        assert all(same)


def test_the_first_that_claims_a_row_has_it_and_an_empty_claim_has_the_rest(
    keys: dict[str, Any], two: list[dict[str, Any]], tmp_path: Path
) -> None:
    two[1]["where"] = {}
    run = train(validate(RunConfig, {**keys, "teachers": two}, "test"), tmp_path / "run")
    assert run.manifest["refused"] == {}
    assert run.manifest["num_train"] == 30


def test_doctor_looks_at_each(keys: dict[str, Any], two: list[dict[str, Any]]) -> None:
    two[1]["path"] = "nowhere"
    findings = examine(validate(RunConfig, {**keys, "teachers": two}, "test"))
    vocabularies = [finding for finding in findings if finding.check == "vocabularies"]
    assert [finding.level for finding in vocabularies] == ["ok", "error"]


def test_teacher_and_teachers_are_one_or_the_other(
    keys: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    with pytest.raises(ConfigError, match="not both"):
        validate(RunConfig, {**keys, "teacher": {"path": "t"}, "teachers": two}, "run.yaml")
    two[0]["cache"] = "c"
    with pytest.raises(ConfigError, match="a cache goes with a single teacher"):
        validate(RunConfig, {**keys, "teachers": two}, "run.yaml")


def test_a_column_of_the_data_does_not_choose_the_teacher(
    keys: dict[str, Any], two: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = Path(keys["traces"]["path"])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    own = {"teacher": "DeepSeek-R1", TEACHER: 7, "meta": {TEACHER: 8, TEACHER_PROMPT: [1]}}
    lines = [json.dumps({**row, **own}) + "\n" for row in rows]
    alone = {key: two[0][key] for key in ("path", "dtype")}
    train(validate(RunConfig, {**keys, "teacher": alone}, "test"), tmp_path / "plain")
    path.write_text("".join(lines), encoding="utf-8")
    train(validate(RunConfig, {**keys, "teacher": alone}, "test"), tmp_path / "named")
    assert first(tmp_path / "named")["loss"] == first(tmp_path / "plain")["loss"] > 0.05
