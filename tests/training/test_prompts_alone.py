"""Training on prompts alone: what is fed, that it equals a run on traces, and what it is expected to cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.config import RolloutConfig, RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.generation.requests import Request
from leadspan.records import Message, Sequence, Span
from leadspan.runs import RunFolder
from leadspan.traces.cut import Cut
from leadspan.traces.horizon import num_most_tokens, stand_in
from leadspan.traces.prompts import Conversation
from leadspan.traces.render import Renderer
from leadspan.training.data import ExampleSource
from leadspan.training.rollouts import RolloutWriter
from leadspan.training.run import train
from tests.conftest import build_tiny_tokenizer
from tests.training.launching import assert_equal_weights
from tests.training.test_rollouts import content, rollouts_of, write_sums


def without_completions(traces: Path, path: Path) -> Path:
    rows = map(json.loads, traces.read_text(encoding="utf-8").splitlines())
    lines = [json.dumps({"id": row["id"], "prompt": row["prompt"]}) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def keys(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> dict[str, Any]:
    """Two steps on prompts alone."""
    traces = write_sums(tmp_path / "traces.jsonl")
    prompts = without_completions(traces, tmp_path / "prompts.jsonl")
    keys = content(tiny_student, tiny_teacher, prompts, horizon=6, num_samples=2)
    return {**keys, "training": {**keys["training"], "steps": 2}}


def test_the_student_is_fed_the_prompts_and_learns_what_it_learns_from_traces(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[tuple[int, ...]] = []
    sample = RolloutWriter._sample

    def recording(self: RolloutWriter, requests: list[Request]) -> Any:
        fed.extend(request.prompt_ids for request in requests)
        return sample(self, requests)

    monkeypatch.setattr(RolloutWriter, "_sample", recording)
    train(validate(RunConfig, keys, "test"), tmp_path / "alone")
    manifest = RunFolder(tmp_path / "alone").manifest
    assert (manifest["num_train"], manifest["num_validation"]) == (30, 0)
    assert (manifest["nothing_to_score"], manifest["val_loss"]) == (0, None)
    assert manifest["notes"]["prompt_alone"] == 30
    assert manifest["tokens_sampled"] == manifest["tokens_scored"] > 0

    texts = {
        row["id"]: row["prompt"]
        for row in map(json.loads, (tmp_path / "prompts.jsonl").read_text().splitlines())
    }
    asked = [texts[one["prompt_id"]] for one in rollouts_of(tmp_path / "alone")]
    renderer = Renderer(build_tiny_tokenizer())
    prompts = renderer.prompts([Conversation((Message("user", text),)) for text in asked])
    assert len(asked) == 8
    assert fed == [tuple(prompt.ids) for prompt in prompts]  # type: ignore[union-attr]

    path = str(tmp_path / "traces.jsonl")
    same = {**keys, "traces": {"path": path, "validation_fraction": 0}}
    train(validate(RunConfig, same, "test"), tmp_path / "with_traces")
    assert_equal_weights(tmp_path / "alone", tmp_path / "with_traces")


def test_a_horizon_as_a_share_is_refused_before_training(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"must be a number of tokens .* sum-0 has no trace"):
        train(validate(RunConfig, {**keys, "rollout": {"horizon": 0.5}}, "test"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_budget_counts_a_prompt_at_the_horizon(keys: dict[str, Any], tmp_path: Path) -> None:
    train(validate(RunConfig, keys, "test"), tmp_path / "two")
    flops = 2 * RunFolder(tmp_path / "two").manifest["train_flops"]
    training = {k: v for k, v in keys["training"].items() if k != "steps"}
    more = {**keys, "training": {**training, "budget": {"flops": flops}}}
    train(validate(RunConfig, more, "test"), tmp_path / "four")
    manifest = RunFolder(tmp_path / "four").manifest
    assert manifest["steps"] in (3, 4, 5)


def prompt(num_tokens: int) -> Sequence:
    whole = Span(0, num_tokens)
    end = Span(num_tokens, num_tokens)
    return Sequence("p", np.arange(num_tokens, dtype=np.int32), whole, end, end, closed=False)


def test_a_prompt_is_expected_to_cost_its_horizon() -> None:
    config = RolloutConfig(horizon=4)
    expected = stand_in(config, prompt(3))
    assert expected.supervised_T.tolist() == [False] * 3 + [True] * 4
    assert expected.sequence.input_ids_T[:3].tolist() == [0, 1, 2]
    assert num_most_tokens(config, prompt(3)) == 7
    growing = RolloutConfig(horizon=4, horizon_start=9, schedule="linear")
    assert num_most_tokens(growing, prompt(3)) == 12


def test_a_prompt_is_kept_where_rollouts_go_on_from_it_and_dropped_elsewhere() -> None:
    given = [prompt(3), prompt(5)]
    taken = ExampleSource(Cut(), given, takes_prompts=True)
    assert taken.sequences(range(2)) == given
    assert len(ExampleSource(Cut(), given)) == 0
