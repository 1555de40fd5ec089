"""Capture from a server's prompt log-probabilities, for teachers that fit no card here.

Knows two dialects: vLLM's `prompt_logprobs`, keyed by token id, and the older `echo` with `logprobs`,
where the server must name tokens by id. The prompt is token ids, so no template is applied there.

Shape suffixes: T tokens, R rows (R = T - 1), K kept ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceABC
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from leadspan.config import EndpointConfig
from leadspan.endpoint import Call, Endpoint
from leadspan.errors import CacheError
from leadspan.teachers.cache_format import CacheIdentity, CapturedSequence, pack_rows

Dialect = Literal["endpoint", "vllm"]
TOKEN_ID = "token_id:"
SMALLEST_TAIL = 1e-7
"""A remainder is known no better than float32 rounding; 0 would claim that nothing else can come."""


class ServerBackend:
    """A teacher behind an OpenAI-compatible `/completions`.

    Args:
        endpoint: The server.
        identity: Of the cache to be written; mode topk.
        dialect: How the server is asked, and how it answers.
    """

    def __init__(self, endpoint: EndpointConfig, identity: CacheIdentity, dialect: Dialect) -> None:
        self.identity = identity
        self._endpoint = Endpoint(endpoint)
        self._dialect = dialect

    def prepare(self, output: Path) -> None:
        """Ask the server whether it has the model, before anything is written."""
        self._endpoint.check()

    def capture(
        self, sequences: SequenceABC[tuple[str, NDArray[np.int32]]]
    ) -> Iterator[CapturedSequence]:
        """Yield sequences as the server answers.

        Raises:
            CacheError: An answer lacks log-probabilities or names tokens that do not exist.
        """
        calls = (
            Call(str(place), "/completions", self._body(tokens))
            for place, (_, tokens) in enumerate(sequences)
        )
        for answer in self._endpoint.ask_many(calls):
            trace_id, tokens = sequences[int(answer.key)]
            if answer.body is None:
                raise CacheError(
                    f"{self._endpoint.config.base_url}: no log-probabilities for {trace_id}: "
                    f"{answer.error}. What is captured is kept; run the same capture again."
                )
            try:
                rows = read_prompt_logprobs(answer.body, self._dialect)
                yield CapturedSequence(trace_id, tokens, self._pack(rows, tokens))
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise CacheError(
                    f"{self._endpoint.config.base_url}: the answer for {trace_id} must hold the "
                    f"{self.identity.k} likeliest ids of every prompt position; {error}. Start the "
                    f"server with --max-logprobs {self.identity.k}, or choose the other backend."
                ) from None

    def _body(self, tokens: NDArray[np.int32]) -> dict[str, Any]:
        body: dict[str, Any] = {"prompt": tokens.tolist(), "max_tokens": 1, "temperature": 0}
        if self._dialect == "vllm":
            return {**body, "prompt_logprobs": self.identity.k}
        options = {"echo": True, "logprobs": self.identity.k, "return_tokens_as_token_ids": True}
        return {**body, **options}

    def _pack(
        self, rows: SequenceABC[Mapping[int, float] | None], tokens: NDArray[np.int32]
    ) -> dict[str, torch.Tensor]:
        # The first prompt token has no distribution; an echo may add the generated one at the end.
        wanted = rows[1 : len(tokens)]
        if len(wanted) != len(tokens) - 1:
            raise ValueError(f"it has {len(rows)} positions for {len(tokens)} tokens")
        kept = [_likeliest(row, self.identity) for row in wanted]
        ids_RK = torch.tensor([[token for token, _ in row] for row in kept])
        logprobs_RK = torch.tensor([[value for _, value in row] for row in kept]).double()
        tail_R = (1 - logprobs_RK.exp().sum(1)).clamp(min=SMALLEST_TAIL).log()
        if self.identity.k == self.identity.vocab_size:
            tail_R = torch.full_like(tail_R, -math.inf)
        return pack_rows(self.identity, ids_RK, logprobs_RK, tail_R)


def read_prompt_logprobs(
    body: Mapping[str, Any], dialect: Dialect
) -> list[Mapping[int, float] | None]:
    """For each prompt position its log-probabilities by token id; None at the first."""
    choice = body["choices"][0]
    if dialect == "vllm":
        positions = choice.get("prompt_logprobs") or body["prompt_logprobs"]
        return [
            row and {int(token): float(entry["logprob"]) for token, entry in row.items()}
            for row in positions
        ]
    return [
        row and {_token_id(name): float(value) for name, value in row.items()}
        for row in choice["logprobs"]["top_logprobs"]
    ]


def _token_id(name: str) -> int:
    if not name.startswith(TOKEN_ID):
        raise ValueError(f"it names tokens by text ({name!r}), and one text may be several tokens")
    return int(name.removeprefix(TOKEN_ID))


def _likeliest(row: Mapping[int, float] | None, identity: CacheIdentity) -> list[tuple[int, float]]:
    """The k likeliest; servers add the actual token where it is not among them."""
    if row is None or len(row) < identity.k:
        raise ValueError(f"a position has {0 if row is None else len(row)}")
    if not all(0 <= token < identity.vocab_size for token in row):
        raise ValueError(f"token {max(row)} is not in the vocabulary of {identity.vocab_size}")
    return sorted(row.items(), key=lambda item: (-item[1], item[0]))[: identity.k]
