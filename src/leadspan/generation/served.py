"""The endpoint back end: an OpenAI-compatible server generates. Knows nothing about grading.

The same seed is sent with a request every time; what a server makes of it, and of the other
requests that it batches with it, is its own affair. What a request leaves open, servers fill in from
the model's `generation_config.json` or from habits of their own; every knob is set here, in the words
of the server at hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from leadspan.config import EndpointConfig, SamplingConfig
from leadspan.endpoint import Answer, Call, Endpoint, ServerKind
from leadspan.errors import RunError
from leadspan.generation.requests import Completion, FinishReason, Request
from leadspan.messages import Unusable, read_message, without_end_tokens

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
        added_start: str = "",
        stop_ids: Collection[int] = (),
    ) -> None:
        """Ask the server what it is.

        Args:
            config: The server.
            sampling: Of every answer.
            think_open: Put before reasoning that the server split off.
            think_close: Put behind it.
            added_start: What the tokenizer itself puts before a text, such as a start token.
            stop_ids: With them the server must take prompts as tokens, end answers at these tokens and
                return the tokens of each answer; without, texts are enough.
        """
        self._stop_ids = sorted(stop_ids)
        self._endpoint = Endpoint(config)
        self._kind = self._endpoint.check()
        self._added_start = added_start
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
        body: dict[str, Any] = {
            "max_tokens": request.max_new_tokens or self._sampling.max_new_tokens,
            "temperature": self._sampling.sampling_temperature,
            "top_p": self._sampling.top_p,
            "seed": request.seed % 2**SERVER_SEED_BITS,
            **own_fields(self._kind, self._sampling),
        }
        if self._stop_ids:
            body |= {"return_token_ids": True, "stop_token_ids": self._stop_ids}
        if self._api == "completions":
            return Call(request.key, "/completions", {**body, "prompt": self._prompt(request)})
        messages = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        return Call(request.key, "/chat/completions", {**body, "messages": messages})

    def _prompt(self, request: Request) -> str | list[int]:
        """Tokens where they are known to be taken; of a text, what the server will not add again."""
        takes_ids = self._stop_ids or self._kind in ("vllm", "sglang", "llamacpp")
        if request.prompt_ids and takes_ids:
            return list(request.prompt_ids)
        return request.prompt_text.removeprefix(self._added_start)

    def _completion(self, answer: Answer) -> Completion:
        if answer.body is None:
            return self._failed(answer, answer.error or "no answer", answer.is_transient)
        try:
            choice = answer.body["choices"][0]
            text = choice["text"] if self._api == "completions" else self._read_message(choice)
            if not isinstance(text, str):
                raise TypeError
        except Unusable as unusable:
            return self._failed(answer, f"answered with what is no text: {unusable}", False)
        except (KeyError, IndexError, TypeError):
            return self._failed(answer, f"answered garbage: {str(answer.body)[:80]}", True)
        if choice.get("finish_reason") == "content_filter":
            return self._failed(answer, "stopped by the server's content filter", False)
        reason: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
        if reason == "stop":
            text = without_end_tokens(text)
        usage = answer.body.get("usage")
        num_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        ids = self._token_ids(choice) if self._stop_ids else ()
        return Completion(answer.key, text, num_tokens, reason, round(answer.seconds, 4), ids)

    def _token_ids(self, choice: dict[str, Any]) -> tuple[int, ...]:
        """The tokens that the model wrote; its text read by a tokenizer may give others."""
        ids = choice.get("token_ids")
        if not isinstance(ids, list) or not ids or not all(isinstance(one, int) for one in ids):
            raise RunError(
                f"{self._endpoint.config.base_url}: must return the tokens of an answer "
                "(return_token_ids, which vLLM knows from 0.10.2 on); got its text alone, of which the "
                "tokens are not known. Take such a server, or another backend."
            )
        return tuple(ids)

    def _read_message(self, choice: dict[str, Any]) -> str:
        """The message as the model wrote it: a server that splits the reasoning off has it joined."""
        message = choice["message"]
        content = message.get("content")
        read = read_message({**message, "content": "" if content is None else content}, "assistant")
        if not read.reasoning:
            return read.text
        # No content at all: the model stopped within its reasoning, whatever the finish reason.
        ended = content is not None and choice.get("finish_reason") != "length"
        closing = self._close if read.text or ended else ""
        return f"{self._open}{read.reasoning}{closing}{read.text}"

    def _failed(self, answer: Answer, error: str, is_transient: bool) -> Completion:
        return Completion(
            answer.key,
            "",
            None,
            "error",
            round(answer.seconds, 4),
            error=error,
            is_transient=is_transient,
        )


def own_fields(kind: ServerKind, sampling: SamplingConfig) -> dict[str, Any]:
    """What sets the rest of the sampling on one kind of server, beyond OpenAI's own fields."""
    if kind == "transformers":
        # It refuses unknown fields, samples only where the model's own config does, and makes a
        # repetition penalty of 1 from this frequency penalty.
        fields: dict[str, Any] = {"frequency_penalty": 0.0}
        if sampling.sampling_temperature > 0:
            sampled = {"do_sample": True, "top_k": sampling.top_k, "min_p": 0.0}
            fields["generation_config"] = json.dumps(sampled)
        return fields
    if kind == "other":
        return {"top_k": sampling.top_k} if sampling.top_k else {}
    neutral = {"top_k": sampling.top_k or -1, "min_p": 0.0}
    if kind == "llamacpp":
        return {**neutral, "repeat_penalty": 1.0}
    # Think markers are special tokens of some models.
    return {**neutral, "repetition_penalty": 1.0, "skip_special_tokens": False}
