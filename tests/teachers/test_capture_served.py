"""Capture from a server: a real HTTP stub that answers as vLLM and as older servers do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from leadspan.config import EndpointConfig, TeacherConfig
from leadspan.errors import CacheError, RunError
from leadspan.parallel import Ranks
from leadspan.teachers.cache import TeacherCache
from leadspan.teachers.capture import capture
from leadspan.teachers.capture_live import build_identity
from leadspan.teachers.capture_served import ServerBackend
from leadspan.teachers.check import compare
from tests.conftest import build_tiny_tokenizer
from tests.teachers.scoring_stub import Stub
from tests.teachers.test_capture import full_sequences

pytest.importorskip("openai")
K = 6
ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def model(tiny_teacher: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_teacher).eval()


@pytest.fixture
def stub(model: Any) -> Iterator[Stub]:
    server = Stub(model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def backend_for(stub: Stub, teacher: Path, dialect: Any, k: int = K) -> ServerBackend:
    url = f"http://127.0.0.1:{stub.server_port}/v1"
    endpoint = EndpointConfig(base_url=url, model="big", concurrency=2, max_retries=4)
    config = TeacherConfig(path=str(teacher), dtype="float32")
    identity = build_identity(config, build_tiny_tokenizer(), "topk", k, "fp16")
    return ServerBackend(endpoint, identity, dialect)


@pytest.mark.parametrize("dialect", ["vllm", "endpoint"])
def test_a_server_gives_the_same_cache_as_the_model(
    stub: Stub, tiny_teacher: Path, model: Any, tmp_path: Path, dialect: Any
) -> None:
    sequences = full_sequences(6)
    report = capture(sequences, backend_for(stub, tiny_teacher, dialect), tmp_path, ALONE)
    assert report.num_captured_now == 6
    assert sorted(body["prompt"] for body in stub.bodies) == sorted(
        sequence.input_ids_T.tolist() for sequence in sequences
    )
    found = compare(TeacherCache(tmp_path), model, 6)
    assert found.num_rows == sum(len(sequence) - 1 for sequence in sequences)
    assert 0.2 < found.mass_kept < 0.99
    # fp16 log-probabilities, and the tail from the remainder.
    assert found.mean_kl < 1e-6
    assert found.max_logprob_error < 5e-3
    again = capture(sequences, backend_for(stub, tiny_teacher, dialect), tmp_path, ALONE)
    assert again.num_captured_now == 0


def test_an_overloaded_server_is_asked_again(
    stub: Stub, tiny_teacher: Path, tmp_path: Path
) -> None:
    stub.fault = "busy"
    capture(full_sequences(3), backend_for(stub, tiny_teacher, "vllm"), tmp_path, ALONE)
    assert len(TeacherCache(tmp_path)) == 3


@pytest.mark.parametrize(
    ("fault", "dialect", "message"),
    [
        ("few", "vllm", r"6 likeliest ids .* a position has [23]\. Start the server with"),
        ("short", "vllm", r"it has \d+ positions for \d+ tokens"),
        ("foreign", "vllm", "token 10000 is not in the vocabulary of 48"),
        ("text", "endpoint", r"names tokens by text \('\d+'\)"),
    ],
)
def test_answers_that_cannot_be_used_are_named(
    stub: Stub, tiny_teacher: Path, tmp_path: Path, fault: str, dialect: Any, message: str
) -> None:
    stub.fault = fault
    with pytest.raises(CacheError, match=message):
        capture(full_sequences(3), backend_for(stub, tiny_teacher, dialect), tmp_path, ALONE)
    with pytest.raises(CacheError, match="the capture was not finished"):
        TeacherCache(tmp_path)


def test_a_server_that_is_down_is_one_line(stub: Stub, tiny_teacher: Path, tmp_path: Path) -> None:
    backend = backend_for(stub, tiny_teacher, "vllm")
    stub.shutdown()
    stub.server_close()
    with pytest.raises(RunError, match="the server cannot be reached"):
        capture(full_sequences(3), backend, tmp_path, ALONE)


def test_positions_line_up_with_the_labels(
    stub: Stub, tiny_teacher: Path, model: Any, tmp_path: Path
) -> None:
    # The classic silent bug: a row that belongs to the token before or after.
    sequence = full_sequences(6)[5]
    capture([sequence], backend_for(stub, tiny_teacher, "vllm", k=48), tmp_path, ALONE)
    tokens = sequence.input_ids_T
    teacher: Any = TeacherCache(tmp_path).rows(tokens, np.arange(len(tokens) - 1))
    log_p = torch.full((len(tokens) - 1, 48), -torch.inf)
    log_p.scatter_(1, teacher.topk_ids_NK, teacher.topk_logprobs_NK)
    labels = torch.from_numpy(tokens[1:].astype(np.int64))
    mine = -log_p.gather(1, labels[:, None]).mean()
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0, :-1]
    theirs = torch.nn.functional.cross_entropy(logits, labels)
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-3)
