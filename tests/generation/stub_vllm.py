"""A stand-in for vLLM: its interface as far as it is used, and a real model that really generates.

It holds the order in which a sleeping engine may be used: woken, given weights, its cache of prefixes
reset, asked, put to sleep. `calls` says what was asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from leadspan.config import SamplingConfig
from leadspan.generation.local import generate
from leadspan.generation.requests import Request


class Model:
    """What a worker holds."""

    def __init__(self, folder: str) -> None:
        self.inner = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Copy weights by the names of a checkpoint."""
        own = dict(self.inner.named_parameters())
        given = dict(weights)
        assert given.keys() == own.keys()
        with torch.no_grad():
            for name, weight in given.items():
                assert not weight.requires_grad
                own[name].copy_(weight)


class LLM:
    """`vllm.LLM`, which is its own `llm_engine`."""

    def __init__(self, model: str, **options: Any) -> None:
        self.options, self.calls = options, ["load"]
        self.llm_engine = self
        self._model = Model(model)
        self._awake, self._stale = True, True
        self._waiting: list[tuple[str, Any, Any]] = []

    def sleep(self, level: int) -> None:
        """Give the memory back."""
        assert self.options["enable_sleep_mode"]
        assert self._awake
        assert not self._waiting
        self._awake = False
        self.calls.append(f"sleep {level}")

    def wake_up(self) -> None:
        """Take the memory again."""
        self._awake, self._stale = True, True
        self.calls.append("wake up")

    def apply_model(self, function: Callable[[Model], Any]) -> list[Any]:
        """Run a function on the model of each worker."""
        assert self._awake
        self.calls.append("load weights")
        return [function(self._model)]

    def reset_prefix_cache(self) -> None:
        """Forget the keys and values of earlier weights."""
        assert self.calls[-1] == "load weights"
        self._stale = False
        self.calls.append("reset prefix cache")

    def add_request(self, key: str, prompt: Any, params: Any) -> None:
        """Queue a request."""
        assert self._awake
        assert not self._stale
        self._waiting.append((key, prompt, params))

    def has_unfinished_requests(self) -> bool:
        """Something is queued."""
        return bool(self._waiting)

    def step(self) -> list[Any]:
        """Finish the newest request."""
        key, prompt, params = self._waiting.pop()
        sampling = SamplingConfig(
            sampling_temperature=params.temperature,
            top_p=params.top_p,
            top_k=max(0, params.top_k),
            max_new_tokens=params.max_tokens,
        )
        request = Request(key, tuple(prompt["prompt_token_ids"]), seed=params.seed)
        (found,) = generate(self._model.inner, [request], sampling, params.stop_token_ids)
        output = SimpleNamespace(
            text="",
            token_ids=found.token_ids,
            finish_reason="stop" if found.stopped else "length",
        )
        return [SimpleNamespace(finished=True, request_id=key, outputs=[output])]


def build_stub_vllm() -> tuple[ModuleType, list[LLM]]:
    """The module, and the engines that were made of it."""
    stub, made = ModuleType("vllm"), []

    def make(**options: Any) -> LLM:
        made.append(LLM(**options))
        return made[-1]

    stub.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    stub.LLM = make  # type: ignore[attr-defined]
    return stub, made
