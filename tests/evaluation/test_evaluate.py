"""The whole path on a tiny random student: samples kept, resumed, summarised."""

import json
from pathlib import Path

import pytest

from leadspan.config import BenchmarkConfig, EvaluationConfig, SamplingConfig
from leadspan.errors import ConfigError, DataError
from leadspan.evaluation.evaluate import evaluate


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    rows = [{"id": str(k), "problem": f"{k}+{k}?", "gold": str(2 * k)} for k in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(problems: Path, **sampling: object) -> EvaluationConfig:
    return EvaluationConfig(
        benchmarks=(BenchmarkConfig(path=str(problems), grading="exact"),),
        sampling=SamplingConfig(max_new_tokens=12, **sampling),
        batch_size=4,
    )


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sample_is_kept_and_counted(tiny_student, problems, tmp_path):
    result = evaluate(tiny_student, config_of(problems, num_samples=2), tmp_path / "out")
    rows = read(tmp_path / "out" / "samples.jsonl")
    assert len({(row["problem_id"], row["sample"]) for row in rows}) == 24
    assert result.benchmarks[0].samples == 24
    assert sum(result.benchmarks[0].outcomes.values()) == 24
    summary = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert summary["accuracy"] == result.accuracy


def test_a_killed_evaluation_goes_on_where_it_stopped(tiny_student, problems, tmp_path):
    config = config_of(problems, sampling_temperature=1.0)
    evaluate(tiny_student, config, tmp_path / "whole")
    whole = read(tmp_path / "whole" / "samples.jsonl")
    half = tmp_path / "half"
    half.mkdir()
    lines = (tmp_path / "whole" / "samples.jsonl").read_text().splitlines(keepends=True)
    (half / "identity.json").write_bytes((tmp_path / "whole" / "identity.json").read_bytes())
    (half / "samples.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    evaluate(tiny_student, config, half)
    resumed = read(half / "samples.jsonl")

    def texts(rows):
        return {row["problem_id"]: row["text"] for row in rows}

    assert resumed[:5] == whole[:5]
    assert len(resumed) == 12
    assert texts(resumed) == texts(whole)


def test_refusals_come_before_the_model(tmp_path):
    with pytest.raises(ConfigError, match="at least one benchmark"):
        evaluate("no/such/model", EvaluationConfig(), tmp_path)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match="at least one problem"):
        evaluate("no/such/model", config_of(empty), tmp_path)
    without = tmp_path / "without.jsonl"
    without.write_text('{"id": "a7", "problem": "1+1?", "gold": null}\n')
    with pytest.raises(DataError, match="a7"):
        evaluate("no/such/model", config_of(without), tmp_path)
