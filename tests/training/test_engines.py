"""Who writes rollouts: vLLM and servers by stand-ins that really generate, one of which dies."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import leadspan.endpoint
from leadspan.config import RolloutConfig, RunConfig, SamplingConfig, StudentConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError, RunError
from leadspan.generation.local import generate
from leadspan.generation.requests import Completion, Request
from leadspan.models import load_student
from leadspan.parallel import Ranks
from leadspan.runs import RunFolder
from leadspan.training.engines import build_engine
from leadspan.training.objective import Objective
from leadspan.training.rollouts import RolloutWriter
from leadspan.training.run import train
from tests.conftest import build_tiny_tokenizer
from tests.generation.stub_server import Stub, serving
from tests.generation.stub_vllm import LLM, build_stub_vllm
from tests.training.launching import (
    assert_equal_weights,
    assert_same_run,
    metrics_of,
    start_child,
    torchrun,
    wait_for,
)
from tests.training.test_rollouts import content, rollouts_of, sequence, write_sums

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def on_policy(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> dict[str, Any]:
    traces = write_sums(tmp_path_factory.mktemp("traces") / "traces.jsonl")
    return content(tiny_student, tiny_teacher, traces, num_samples=2, refresh_every_steps=2)


def by(keys: dict[str, Any], backend: str, **rollout: Any) -> dict[str, Any]:
    return {**keys, "rollout": {**keys["rollout"], "backend": backend, **rollout}}


@pytest.fixture
def vllm_engines(monkeypatch: pytest.MonkeyPatch) -> list[LLM]:
    stub, engines = build_stub_vllm()
    monkeypatch.setitem(sys.modules, "vllm", stub)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    return engines


def test_vllm_writes_what_the_weights_in_training_would(
    vllm_engines: list[LLM], on_policy: dict[str, Any], tmp_path: Path
) -> None:
    """The stand-in samples as the local back end does, so two runs are one only by equal weights."""
    train(validate(RunConfig, by(on_policy, "local"), "test"), tmp_path / "local")
    train(validate(RunConfig, by(on_policy, "vllm"), "test"), tmp_path / "vllm")
    expected = [
        {key: value for key, value in record.items() if not key.startswith("entropy")}
        for record in metrics_of(tmp_path / "local")
    ]
    assert metrics_of(tmp_path / "vllm") == expected
    assert_equal_weights(tmp_path / "vllm", tmp_path / "local")
    written, local = rollouts_of(tmp_path / "vllm"), rollouts_of(tmp_path / "local")
    assert [one["text"] for one in written] == [one["text"] for one in local]
    assert {one["entropy"] for one in written} == {None}
    (engine,) = vllm_engines
    writing = ["wake up", "load weights", "reset prefix cache", "sleep 1"]
    assert engine.calls == ["load", "sleep 1", *3 * writing]
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    expected_options = {"gpu_memory_utilization": 0.3, "dtype": "float32", "max_num_seqs": 64}
    assert engine.options.items() >= expected_options.items()


def test_what_vllm_needs_is_said(
    on_policy: dict[str, Any], tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = validate(RunConfig, by(on_policy, "vllm"), "test")
    student = load_student(StudentConfig(path=str(tiny_student)))
    objective = Objective(student, config.loss, 48)
    tokenizer = build_tiny_tokenizer()
    with pytest.raises(ConfigError, match="must be local or endpoint on several ranks"):
        build_engine(config, Ranks(1, 2, ALONE.device), objective, tokenizer, 100)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"rollout.backend vllm needs .*leadspan\[vllm\]"):
        build_engine(config, ALONE, objective, tokenizer, 100)


class Fixed:
    """Gives every request the same answer."""

    def __init__(self, answer: Completion) -> None:
        self._answer = answer

    def generate(self, requests: list[Request]) -> Iterator[Completion]:
        """Yield it once."""
        yield self._answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Completion("0", "", 2, "length", 0.0, (3, 10)), "wrote token 10.* share the first 10"),
        (Completion("0", "", None, "error", 0.0, error="status 400"), "status 400"),
    ],
)
def test_an_answer_that_is_no_rollout_stops_the_step(answer: Completion, said: str) -> None:
    writer = RolloutWriter(
        RolloutConfig(horizon=2), Fixed(answer), ALONE, str, 10, {1}, (), batch_size=1, seed=0
    )
    with pytest.raises(RunError, match=said):
        writer.write({0: [sequence(3, 4, 2)]}, 1, 1)
    assert not writer.is_written(0)


ENDPOINT = {"model": "student", "api": "completions", "concurrency": 2, "max_retries": 1}


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"backend": "endpoint"}, "endpoint goes with backend endpoint"),
        ({"endpoint": {**ENDPOINT, "base_url": "u"}}, "endpoint goes with backend endpoint"),
        (
            {"backend": "endpoint", "endpoint": {"model": "m", "base_url": "u"}},
            "must be completions",
        ),
        (
            {"backend": "vllm", "horizon": 1.0, "horizon_start": 0.5, "schedule": "entropy"},
            "entropy needs backend local",
        ),
    ],
)
def test_half_a_setting_is_refused(
    rollout: dict[str, Any], said: str, on_policy: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(RunConfig, {**on_policy, "rollout": rollout}, "run.yaml")


def test_adapters_are_not_handed_to_vllm(on_policy: dict[str, Any]) -> None:
    student = {**on_policy["student"], "lora": {"rank": 2}}
    with pytest.raises(ConfigError, match=r"must be local with student\.lora"):
        validate(RunConfig, {**by(on_policy, "vllm"), "student": student}, "run.yaml")


def answer_with(folder: str) -> Any:
    """The behaviour of a server that generates with the model in `folder` and returns token ids."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, lock = build_tiny_tokenizer(), threading.Lock()

    def answer(number: int, body: dict[str, Any]) -> dict[str, Any]:
        sampling = SamplingConfig(
            max_new_tokens=body["max_tokens"], sampling_temperature=body["temperature"]
        )
        request = Request("", tuple(body["prompt"]), seed=body["seed"])
        with lock:
            (found,) = generate(model, [request], sampling, body["stop_token_ids"])
        choice = {
            "text": tokenizer.decode(found.token_ids),
            "token_ids": found.token_ids,
            "finish_reason": "stop" if found.stopped else "length",
        }
        return {"choices": [choice]}

    return answer


def test_a_server_writes_with_weights_of_its_own(
    on_policy: dict[str, Any], tiny_student: Path, tmp_path: Path
) -> None:
    answer, given = answer_with(str(tiny_student)), []

    def note(number: int, body: dict[str, Any]) -> dict[str, Any]:
        given.append(answer(number, body))
        return given[-1]

    with serving(note, owner="vllm") as server:
        keys = by(on_policy, "endpoint", endpoint={**ENDPOINT, "base_url": server.url})
        train(validate(RunConfig, keys, "test"), tmp_path / "run")
    _, body = server.bodies[0]
    assert body["return_token_ids"] is True
    assert (body["stop_token_ids"], body["temperature"]) == ([1], 1.0)
    tokenizer = build_tiny_tokenizer()
    texts = [tokenizer.decode(reply["choices"][0]["token_ids"]) for reply in given]
    written = rollouts_of(tmp_path / "run")
    assert sorted(one["text"] for one in written) == sorted(texts)
    assert len({one["text"] for one in written}) > 12
    assert {(one["entropy"], one["staleness"]) for one in written} == {(None, None)}
    for record in RunFolder(tmp_path / "run").read_metrics():
        assert record.keys().isdisjoint({"entropy", "entropy_by_decile", "staleness"})
        if record["kind"] == "train":
            assert record["tokens_scored"] == record["tokens_sampled"] > 0


def test_two_ranks_ask_a_server_for_a_share_each(
    on_policy: dict[str, Any], tiny_student: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    with serving(answer_with(str(tiny_student))) as server:
        keys = by(on_policy, "endpoint", endpoint={**ENDPOINT, "base_url": server.url})
        path.write_text(json.dumps(keys), encoding="utf-8")
        done = torchrun(2, "leadspan", "train", str(path), "--output", str(tmp_path / "two"))
        calls = server.calls
        train(validate(RunConfig, keys, "test"), tmp_path / "one")
    assert done.returncode == 0, done.stderr
    texts = [one["text"] for one in rollouts_of(tmp_path / "one")]
    assert [one["text"] for one in rollouts_of(tmp_path / "two")] == texts
    assert calls == server.calls - calls == len(texts)
    assert_same_run(tmp_path / "two", tmp_path / "one")


TEXT_ALONE = {"choices": [{"text": "1+1=2.", "finish_reason": "stop"}]}


def test_a_server_that_gives_text_alone_is_refused(
    on_policy: dict[str, Any], tmp_path: Path
) -> None:
    with serving(lambda number, body: TEXT_ALONE) as server:
        keys = by(on_policy, "endpoint", endpoint={**ENDPOINT, "base_url": server.url})
        with pytest.raises(RunError, match=r"no rollouts for step 1: .*got its text alone"):
            train(validate(RunConfig, keys, "test"), tmp_path / "run")


def _serve(folder: str, port: int, last_call: int) -> None:
    """In a child: answer so many calls, and die at the next."""
    torch.set_num_threads(1)
    answer = answer_with(folder)

    def answer_or_die(number: int, body: dict[str, Any]) -> dict[str, Any]:
        if number > last_call:
            os._exit(1)
        return answer(number, body)

    Stub(answer_or_die, owner="vllm", port=port).serve_forever()


def start_server(folder: Path, port: int, last_call: int) -> Any:
    child = start_child(_serve, str(folder), port, last_call)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, child)
    return child


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_server_that_dies_in_mid_step_stops_the_run_which_goes_on_with_another(
    on_policy: dict[str, Any],
    tiny_student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leadspan.endpoint, "FIRST_WAIT_SECONDS", 0.02)
    port = free_port()
    endpoint = {**ENDPOINT, "base_url": f"http://127.0.0.1:{port}/v1"}
    keys = by(on_policy, "endpoint", endpoint=endpoint, refresh_every_steps=1)
    # Every step has 4 rollouts: the fourth gets 3. A checkpoint was due after step 2.
    config, folder = validate(RunConfig, keys, "test"), tmp_path / "run"
    server = start_server(tiny_student, port, last_call=15)
    with pytest.raises(
        RunError,
        match=r"no rollouts for step 4: .*The same command goes on from the last checkpoint",
    ):
        train(config, folder)
    server.join()
    server = start_server(tiny_student, port, last_call=sys.maxsize)
    try:
        train(config, folder)
        train(config, tmp_path / "whole")
    finally:
        server.kill()
    assert metrics_of(folder) == metrics_of(tmp_path / "whole")
    assert_equal_weights(folder, tmp_path / "whole")
    assert json.loads((folder / "manifest.json").read_text())["steps"] == 6
