"""A teacher on a server scores rollouts and traces in training, and may die in mid-step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import leadspan.endpoint
from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError, RunError
from leadspan.training.run import train
from tests.conftest import build_tiny_tokenizer
from tests.teachers.scoring_stub import Stub
from tests.training.launching import assert_equal_weights, metrics_of
from tests.training.test_rollouts import content, write_sums

pytest.importorskip("openai")
SIZE = len(build_tiny_tokenizer())


@pytest.fixture(params=["vllm", "someone"])
def stub(request: pytest.FixtureRequest, tiny_teacher: Path) -> Iterator[Stub]:
    model = AutoModelForCausalLM.from_pretrained(tiny_teacher).eval()
    server = Stub(model, owner=request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def live(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> dict[str, Any]:
    return content(tiny_student, tiny_teacher, write_sums(tmp_path / "traces.jsonl"), horizon=8)


def served(keys: dict[str, Any], stub: Stub, **endpoint: Any) -> dict[str, Any]:
    url = f"http://127.0.0.1:{stub.server_port}/v1"
    asked = {"base_url": url, "model": "big", "max_retries": 0, **endpoint}
    return {**keys, "teacher": {"path": keys["teacher"]["path"], "endpoint": asked}}


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in metrics_of(folder) if record["kind"] == "train"]


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_every_id_of_a_server_is_the_live_teacher(
    stub: Stub, live: dict[str, Any], tmp_path: Path, divergence: str
) -> None:
    live["loss"]["divergence"] = divergence
    train(validate(RunConfig, live, "test"), tmp_path / "live")
    train(validate(RunConfig, served(live, stub, k=10_000), "test"), tmp_path / "served")
    expected = losses(tmp_path / "live")
    assert min(expected) > 0.05
    assert losses(tmp_path / "served") == pytest.approx(expected, rel=1e-4)
    assert_equal_models(tmp_path / "served", tmp_path / "live")
    asked = {tuple(body["prompt"]) for body in stub.bodies}
    assert len(asked) == len(stub.bodies), "a sequence was asked for twice"


def assert_equal_models(folder: Path, reference: Path) -> None:
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(each / "student").state_dict()
        for each in (folder, reference)
    )
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


def test_few_ids_see_less_than_the_whole_divergence(
    stub: Stub, live: dict[str, Any], tmp_path: Path
) -> None:
    train(validate(RunConfig, live, "test"), tmp_path / "live")
    train(validate(RunConfig, served(live, stub, k=2), "test"), tmp_path / "served")
    first, whole = losses(tmp_path / "served")[0], losses(tmp_path / "live")[0]
    assert 0.05 < first < whole


def test_sampled_tokens_alone_can_teach(stub: Stub, live: dict[str, Any], tmp_path: Path) -> None:
    live["loss"]["divergence"] = "reverse_kl"
    live["traces"]["validation_fraction"] = 0
    train(validate(RunConfig, live, "test"), tmp_path / "live")
    keys = served(live, stub, estimator="sampled")
    keys["rollout"] = {**keys["rollout"], "num_samples": 4}
    train(validate(RunConfig, keys, "test"), tmp_path / "served")
    bodies = [body.get("prompt_logprobs") or body.get("logprobs") for body in stub.bodies]
    assert set(bodies) == {1}
    # One sample a token is noisy; it is of the size of what it estimates.
    assert losses(tmp_path / "served")[0] == pytest.approx(losses(tmp_path / "live")[0], rel=0.8)


def test_a_teacher_that_dies_in_mid_step_is_asked_again_and_then_the_run_can_go_on(
    stub: Stub,
    live: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(leadspan.endpoint, "FIRST_WAIT_SECONDS", 0.02)
    live["traces"]["validation_fraction"] = 0
    config = validate(RunConfig, served(live, stub), "test")
    train(config, tmp_path / "whole")
    num_calls = len(stub.bodies)
    stub.bodies.clear()
    # The first call is that of the timed pass; every step has 4 rollouts.
    stub.last_call = 1 + 3 * 4 + 2
    folder = tmp_path / "run"
    with pytest.raises(RunError, match=r"no teacher rows for step 4: .*The same command goes on"):
        train(config, folder)
    assert "Asking once more" in capsys.readouterr().err
    stub.last_call = 10 * num_calls
    elsewhere = served(live, stub, concurrency=3, timeout_seconds=60.0)
    train(validate(RunConfig, elsewhere, "test"), folder)
    assert metrics_of(folder) == metrics_of(tmp_path / "whole")
    assert_equal_weights(folder, tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": {"kd_ratio": 1.0}}, "needs loss.divergence reverse_kl"),
        ({"rollout": {"horizon": 8, "sampling_temperature": 0.8}}, "sampling_temperature 1"),
        ({"rollout": {"horizon": 8, "top_p": 0.9}}, "top_p 1"),
        ({"rollout": {"horizon": 8, "refresh_every_steps": 2}}, "refresh_every_steps 1"),
        ({"rollout": None}, "rollout.share 1"),
        ({"loss": {"kd_ratio": 1.0, "kd_temperature": 2.0}}, "kd_temperature must be 1"),
        ({}, "validation_fraction must be 0"),
    ],
)
def test_what_one_sample_cannot_estimate_is_refused(
    change: dict[str, Any], said: str, live: dict[str, Any]
) -> None:
    live["loss"]["divergence"] = "reverse_kl"
    endpoint = {"base_url": "http://x/v1", "model": "big", "estimator": "sampled"}
    teacher = {"path": "t", "endpoint": endpoint}
    with pytest.raises(ConfigError, match=said):
        validate(RunConfig, {**live, "teacher": teacher, **change}, "run.yaml")
