"""Client of OpenAI-compatible servers: many calls at once, retried with back-off, each with an end.

Knows nothing about prompts, grading or teachers: a call is a route and a JSON body, an answer is the
server's JSON. The owner of the `openai` library (extra `endpoint`).
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args
from urllib.parse import urljoin

from leadspan.config import EndpointConfig
from leadspan.errors import ConfigError, RunError

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
ServerKind = Literal["vllm", "sglang", "llamacpp", "transformers", "other"]
TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Call:
    """One POST."""

    key: str
    route: str
    """Below the base URL, such as `/chat/completions`."""
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call: a body, or an error."""

    key: str
    body: dict[str, Any] | None
    error: str | None
    is_transient: bool
    """True where another try might succeed: no answer, time-out, overload, garbage."""
    attempts: int
    seconds: float
    """Of the last attempt."""


class _RefusedError(Exception):
    """The server will never answer this call."""


class _FatalError(Exception):
    """The server will never answer any call."""


class Endpoint:
    """Calls one server; at most `config.concurrency` calls are under way at any time."""

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigError(
                'endpoint: needs the openai client. pip install "leadspan[endpoint]"'
            ) from None
        self._openai = openai
        self.config = config

    def check(self) -> ServerKind:
        """Ask the server for its models, and tell what program it is.

        Raises:
            RunError: It is down, refuses the key, or does not have the model.
        """
        models, kind = asyncio.run(self._check())
        served = [str(model.get("id")) for model in models]
        # `transformers serve` lists the hub's cache, not the folder that it serves.
        if served and self.config.model not in served and kind != "transformers":
            raise RunError(
                f"{self.config.base_url}: endpoint.model must be one it serves "
                f"({', '.join(served[:5])}); got {self.config.model!r}."
            )
        return kind

    async def _check(self) -> tuple[list[dict[str, Any]], ServerKind]:
        """The models, none where the server keeps no list, and who keeps the list."""
        async with self._client() as client:
            try:
                body = await self._get(client, "/models", 30.0)
            except (self._openai.AuthenticationError, self._openai.PermissionDeniedError) as error:
                raise RunError(self._key_refused(error)) from None
            except self._openai.APIStatusError:
                body = {}
            except (self._openai.APIConnectionError, TimeoutError) as error:
                raise RunError(
                    f"{self.config.base_url}: the server cannot be reached ({_line(error)}). "
                    "Start it, or mend endpoint.base_url."
                ) from None
        listed = body.get("data")
        models = [model for model in listed or [] if isinstance(model, dict)]
        return models, await self._kind({model.get("owned_by") for model in models})

    async def _kind(self, owners: set[Any]) -> ServerKind:
        """vLLM, SGLang and llama.cpp sign their models; `transformers serve` has a route of its own.

        A connection of its own: a server whose list of models failed hangs up on the first one.
        """
        for owner in owners & set(get_args(ServerKind)):
            return cast(ServerKind, owner)
        try:
            async with self._client() as client:
                api = await self._get(client, urljoin(self.config.base_url, "/openapi.json"), 30.0)
        except (self._openai.APIError, TimeoutError, ValueError):
            return "other"
        return "transformers" if "/load_model" in (api.get("paths") or {}) else "other"

    async def _get(self, client: Any, route: str, seconds: float) -> dict[str, Any]:
        """A JSON object of the server; empty where it answers something else."""
        seconds = min(seconds, self.config.timeout_seconds)
        body = await asyncio.wait_for(client.get(route, cast_to=object), seconds)
        return body if isinstance(body, dict) else {}

    def ask_many(self, calls: Iterable[Call]) -> Iterator[Answer]:
        """Yield one answer a call, as they come.

        Raises:
            RunError: The server refuses the key or the model, or has stopped answering.
        """
        answers: queue.Queue[Answer | BaseException | None] = queue.Queue(maxsize=256)
        abandoned = threading.Event()

        def give(answer: Answer | BaseException | None) -> None:
            while not abandoned.is_set():
                try:
                    answers.put(answer, timeout=0.5)
                    return
                except queue.Full:
                    continue

        def work() -> None:
            try:
                asyncio.run(self._ask_all(iter(calls), give, abandoned))
                give(None)
            except BaseException as error:
                give(error)

        thread = threading.Thread(target=work, name="endpoint", daemon=True)
        thread.start()
        try:
            while (answer := answers.get()) is not None:
                if isinstance(answer, _FatalError):
                    raise RunError(str(answer)) from None
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            abandoned.set()

    async def _ask_all(
        self, calls: Iterator[Call], give: Callable[[Answer], None], abandoned: threading.Event
    ) -> None:
        failed_in_a_row = 0

        async def work(client: Any) -> None:
            nonlocal failed_in_a_row
            # The iterator is shared: each worker takes the next call when it is free.
            for call in calls:
                if abandoned.is_set():
                    return
                answer = await self._ask(client, call)
                failed_in_a_row = failed_in_a_row + 1 if answer.is_transient else 0
                await asyncio.to_thread(give, answer)
                if failed_in_a_row >= max(3, self.config.concurrency):
                    raise _FatalError(
                        f"{self.config.base_url}: {failed_in_a_row} calls in a row failed, last "
                        f"{answer.error}. Mend the server and run again; what is done is kept."
                    )

        async with self._client() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(self.config.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()

    async def _ask(self, client: Any, call: Call) -> Answer:
        error, seconds = "", 0.0
        for attempt in range(1, self.config.max_retries + 2):
            started = time.monotonic()
            wait = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
            try:
                # The client's own time-out is between two reads; a server that drips has no end.
                body = await asyncio.wait_for(self._post(client, call), self.config.timeout_seconds)
                return Answer(call.key, body, None, False, attempt, time.monotonic() - started)
            except _RefusedError as refusal:
                return Answer(
                    call.key, None, str(refusal), False, attempt, time.monotonic() - started
                )
            except (TimeoutError, self._openai.APITimeoutError):
                error = f"no answer within {self.config.timeout_seconds:g} s"
            except self._openai.APIStatusError as status:
                error = f"status {status.status_code}"
                wait = max(wait, _asked_wait(status))
            except self._openai.APIConnectionError as lost:
                error = f"connection lost ({_line(lost)})"
            except ValueError as garbage:
                error = f"answered garbage ({_line(garbage)})"
            seconds = time.monotonic() - started
            if attempt <= self.config.max_retries:
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
        return Answer(call.key, None, error, True, self.config.max_retries + 1, seconds)

    async def _post(self, client: Any, call: Call) -> dict[str, Any]:
        body = {"model": self.config.model, **call.body}
        try:
            reply = await client.post(call.route, body=body, cast_to=object)
        except (self._openai.AuthenticationError, self._openai.PermissionDeniedError) as error:
            raise _FatalError(self._key_refused(error)) from None
        except self._openai.NotFoundError as error:
            raise _FatalError(
                f"{self.config.base_url}: has no {call.route} for model {self.config.model!r} "
                f"({_line(error)}). Mend endpoint.base_url, endpoint.model or endpoint.api."
            ) from None
        except self._openai.APIStatusError as error:
            if error.status_code in TRANSIENT_STATUS or error.status_code >= 500:
                raise
            raise _RefusedError(f"status {error.status_code} ({_line(error)})") from None
        if not isinstance(reply, dict):
            raise ValueError(f"not a JSON object: {str(reply)[:60]!r}")
        return reply

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        client = self._openai.AsyncOpenAI(
            base_url=self.config.base_url,
            # Servers without a key take any; the client insists on one.
            api_key=os.environ.get(self.config.api_key_env) or "none",
            timeout=self.config.timeout_seconds,
            max_retries=0,
        )
        try:
            yield client
        finally:
            await client.close()

    def _key_refused(self, error: Exception) -> str:
        return (
            f"{self.config.base_url}: the server refuses the key in ${self.config.api_key_env} "
            f"({_line(error)}). Export a valid one."
        )


def _asked_wait(error: Any) -> float:
    """Seconds of a Retry-After header, within reason."""
    try:
        return min(float(error.response.headers.get("retry-after", 0)), 60.0)
    except ValueError:
        return 0.0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
