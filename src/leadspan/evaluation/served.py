"""The endpoint back end: an OpenAI-compatible server generates. Knows nothing about grading.

The same seed is sent with a request every time; what a server makes of it, and of the other
requests that it batches with it, is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leadspan.config import EndpointConfig, SamplingConfig
from leadspan.endpoint import Answer, Call, Endpoint
from leadspan.evaluation.requests import Completion, FinishReason, Request

SERVER_SEED_BITS = 31
"""Servers keep seeds in signed 32 bits, some of them."""


class EndpointBackend:
    """Asks a server for every answer."""

    def __init__(
        self,
        config: EndpointConfig,
        sampling: SamplingConfig,
        think_open: str = "<think>",
        think_close: str = "</think>",
    ) -> None:
        self._endpoint = Endpoint(config)
        self._endpoint.check()
        self._api, self._sampling = config.api, sampling
        self._open, self._close = think_open, think_close

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they come.

        Raises:
            RunError: The server is down, refuses the key or the model, or has stopped answering.
        """
        calls = (self._call(request) for request in requests)
        for answer in self._endpoint.ask_many(calls):
            yield self._completion(answer)

    def _call(self, request: Request) -> Call:
        sampling = self._sampling
        body: dict[str, Any] = {
            "max_tokens": request.max_new_tokens or sampling.max_new_tokens,
            "temperature": sampling.sampling_temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % 2**SERVER_SEED_BITS,
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if self._api == "completions":
            return Call(request.key, "/completions", {**body, "prompt": request.prompt_text})
        messages = [{"role": turn.role, "content": turn.content} for turn in request.turns]
        return Call(request.key, "/chat/completions", {**body, "messages": messages})

    def _completion(self, answer: Answer) -> Completion:
        if answer.body is None:
            return self._failed(answer, answer.error or "no answer", answer.is_transient)
        try:
            choice = answer.body["choices"][0]
            text = choice["text"] if self._api == "completions" else self._read_message(choice)
            if not isinstance(text, str):
                raise TypeError
        except (KeyError, IndexError, TypeError):
            return self._failed(answer, f"answered garbage: {str(answer.body)[:80]}", True)
        if choice.get("finish_reason") == "content_filter":
            return self._failed(answer, "stopped by the server's content filter", False)
        reason: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
        usage = answer.body.get("usage")
        num_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return Completion(answer.key, text, num_tokens, reason, round(answer.seconds, 4))

    def _read_message(self, choice: dict[str, Any]) -> str:
        """The message as the model wrote it: a server that splits the reasoning off has it joined."""
        message = choice["message"]
        content = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if not reasoning:
            return str(content)
        closed = bool(content) or choice.get("finish_reason") != "length"
        return f"{self._open}{reasoning}{self._close if closed else ''}{content}"

    def _failed(self, answer: Answer, error: str, is_transient: bool) -> Completion:
        return Completion(
            answer.key, "", None, "error", round(answer.seconds, 4), (), error, is_transient
        )
