"""The vLLM back end: what it asks of vLLM, and the real one where it and a GPU are."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from leadspan.config import SamplingConfig
from leadspan.errors import ConfigError
from leadspan.generation.requests import Request
from leadspan.generation.vllm import VllmBackend

SAMPLING = SamplingConfig(max_new_tokens=9, sampling_temperature=0.6, top_p=0.95)


def test_without_vllm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r'pip install "leadspan\[vllm\]"'):
        VllmBackend("student", SAMPLING, {1}, "evaluation.backend")


class Engine:
    """Finishes the newest request first."""

    def __init__(self):
        self.waiting = []

    def add_request(self, key, prompt, params):
        self.waiting.append((key, prompt, params))

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        key, prompt, _ = self.waiting.pop()
        ids = [*prompt["prompt_token_ids"], 1]
        output = SimpleNamespace(text="t", token_ids=ids, finish_reason="stop")
        running = SimpleNamespace(finished=False, request_id="other", outputs=[])
        return [running, SimpleNamespace(finished=True, request_id=key, outputs=[output])]


def test_sampling_seed_and_stop_reach_vllm(monkeypatch):
    stub, made, engine = ModuleType("vllm"), {}, Engine()
    stub.SamplingParams = lambda **options: options
    stub.LLM = lambda **options: made.update(options) or SimpleNamespace(llm_engine=engine)
    monkeypatch.setitem(sys.modules, "vllm", stub)
    backend = VllmBackend("student", SAMPLING, {7}, "evaluation.backend", tensor_parallel_size=2)
    seen = []
    add = engine.add_request
    engine.add_request = lambda key, prompt, params: seen.append(params) or add(key, prompt, params)
    wanted = [Request("a", (5, 6), seed=3), Request("b", (8,), seed=4, max_new_tokens=2)]
    found = list(backend.generate(wanted))
    assert made["tensor_parallel_size"] == 2
    assert (
        seen[0].items() >= {"temperature": 0.6, "top_p": 0.95, "seed": 3, "max_tokens": 9}.items()
    )
    assert (seen[1]["max_tokens"], seen[1]["stop_token_ids"]) == (2, [7])
    assert seen[0]["skip_special_tokens"] is False
    assert [completion.key for completion in found] == ["b", "a"]
    assert found[1].num_tokens == 3


@pytest.mark.gpu
@pytest.mark.slow
def test_the_real_vllm_writes_what_transformers_writes(tiny_student):
    pytest.importorskip("vllm")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    sampling = SamplingConfig(max_new_tokens=8)
    backend = VllmBackend(str(tiny_student), sampling, {1}, "evaluation.backend", dtype="float32")
    found = list(backend.generate([Request("a", (5, 6, 7)), Request("b", (9,))]))
    assert {completion.key for completion in found} == {"a", "b"}
