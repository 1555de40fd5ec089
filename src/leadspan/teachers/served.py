"""A teacher behind an OpenAI-compatible `/completions` that scores token ids.

Knows two dialects: vLLM's `prompt_logprobs`, keyed by token id, and the older `echo` with `logprobs`,
where the server must name tokens by id. The prompt is token ids, so no template is applied there.
Capture writes the answers down; training asks for each step.

Shape suffixes: T tokens, R rows (R = T - 1), N scored tokens, K kept ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceABC
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leadspan.config import EndpointConfig, ServedTeacherConfig
from leadspan.endpoint import Call, Endpoint
from leadspan.errors import RunError
from leadspan.losses.heads import SampledTeacher, SparseTeacher
from leadspan.records import Example
from leadspan.traces.batches import Batch, num_forwarded_tokens

Dialect = Literal["endpoint", "vllm"]
Row = Mapping[int, float]
"""Log-probabilities by token id of one position."""
TOKEN_ID = "token_id:"
SMALLEST_TAIL = 1e-7
"""A remainder is known no better than float32 rounding; 0 would claim that nothing else can come."""


class ScoringServer:
    """Asks for the log-probabilities of the positions of prompts.

    Args:
        endpoint: The server.
        k: Likeliest ids a position.
        vocab_size: Ids are below it.
        dialect: How the server is asked, and how it answers; None tells it by what signs its models.
    """

    def __init__(
        self, endpoint: EndpointConfig, k: int, vocab_size: int, dialect: Dialect | None = None
    ) -> None:
        self.k, self.vocab_size = k, vocab_size
        self._endpoint = Endpoint(endpoint)
        self._dialect = dialect

    def check(self) -> None:
        """Ask the server whether it has the model.

        Raises:
            RunError: It is down, refuses the key, or does not have the model.
        """
        kind = self._endpoint.check()
        self._dialect = self._dialect or ("vllm" if kind == "vllm" else "endpoint")

    def ask(
        self, prompts: SequenceABC[tuple[str, SequenceABC[int]]]
    ) -> Iterator[tuple[int, list[Row]]]:
        """Yield the place of each prompt and its R rows, as the server answers.

        Args:
            prompts: Name, for errors, and token ids.

        Raises:
            RunError: It gives no answer, or one that lacks log-probabilities or names tokens that do not
                exist.
        """
        calls = (
            Call(str(place), "/completions", self._body(tokens))
            for place, (_, tokens) in enumerate(prompts)
        )
        where = self._endpoint.config.base_url
        for answer in self._endpoint.ask_many(calls):
            name, tokens = prompts[int(answer.key)]
            if answer.body is None:
                raise RunError(f"{where}: no log-probabilities for {name}: {answer.error}.")
            try:
                yield int(answer.key), self._rows(answer.body, tokens)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise RunError(
                    f"{where}: the answer for {name} must hold the {self.k} likeliest ids of every prompt "
                    f"position; {error}. Start the server with --max-logprobs {self.k}, or choose the "
                    "other backend."
                ) from None

    def _body(self, tokens: SequenceABC[int]) -> dict[str, Any]:
        body: dict[str, Any] = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0}
        if self._dialect == "vllm":
            return {**body, "prompt_logprobs": self.k}
        return {**body, "echo": True, "logprobs": self.k, "return_tokens_as_token_ids": True}

    def _rows(self, body: Mapping[str, Any], tokens: SequenceABC[int]) -> list[Row]:
        # The first prompt token has no distribution; an echo may add the generated one at the end.
        given = read_prompt_logprobs(body, self._dialect or "endpoint")
        wanted = given[1 : len(tokens)]
        if len(wanted) != len(tokens) - 1:
            raise ValueError(f"it has {len(given)} positions for {len(tokens)} tokens")
        rows = []
        for row, token in zip(wanted, tokens[1:], strict=True):
            if row is None or len(row) < self.k:
                raise ValueError(f"a position has {0 if row is None else len(row)}")
            if token not in row:
                raise ValueError(f"a position lacks its own token {token}")
            if not all(0 <= other < self.vocab_size for other in row):
                raise ValueError(f"token {max(row)} is not in the vocabulary of {self.vocab_size}")
            rows.append(row)
        return rows


def read_prompt_logprobs(body: Mapping[str, Any], dialect: Dialect) -> list[Row | None]:
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


def likeliest(rows: Iterable[Row], k: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k likeliest ids [R, K], their log-probabilities [R, K], and the log of the rest [R].

    Servers add the actual token where it is not among them.
    """
    kept = [sorted(row.items(), key=lambda item: (-item[1], item[0]))[:k] for row in rows]
    ids_RK = torch.tensor([[token for token, _ in row] for row in kept], dtype=torch.int64)
    logprobs_RK = torch.tensor([[value for _, value in row] for row in kept], dtype=torch.float64)
    ids_RK, logprobs_RK = ids_RK.reshape(len(kept), k), logprobs_RK.reshape(len(kept), k)
    tail_R = (1 - logprobs_RK.exp().sum(1)).clamp(min=SMALLEST_TAIL).log()
    return ids_RK, logprobs_RK, torch.full_like(tail_R, -math.inf) if k == vocab_size else tail_R


class ServedTeacher:
    """Rows of a server for the batches of a pass. What it has answered in a step is not asked again there."""

    model_config = None
    """Nothing is run here."""

    def __init__(self, served: ServedTeacherConfig, vocab_size: int) -> None:
        self._is_sampled = served.estimator == "sampled"
        # Servers name the actual token whatever k is.
        k = 1 if self._is_sampled else min(served.k, vocab_size)
        self._server = ScoringServer(served, k, vocab_size)
        self._server.check()
        self._answers: dict[bytes, tuple[Tensor, ...]] = {}
        self._kept: dict[bytes, tuple[Tensor, ...]] = {}

    def prepare(self, batches: SequenceABC[Batch], keep: bool = False) -> None:
        """Ask for all batches of a pass at once.

        Args:
            batches: Of the pass.
            keep: They will come again.

        Raises:
            RunError: The server does not answer, or not what it should.
        """
        asked = {
            _asked(example).tobytes(): (example.sequence.trace_id, _asked(example).tolist())
            for batch in batches
            for example in batch.examples
        }
        known = self._answers | self._kept
        self._answers = {key: answer for key, answer in known.items() if key in asked}
        missing = [key for key in asked if key not in known]
        for place, rows in self._server.ask([asked[key] for key in missing]):
            self._answers[missing[place]] = self._pack(rows, asked[missing[place]][1])
        if keep:
            self._kept |= self._answers

    def _pack(self, rows: list[Row], tokens: SequenceABC[int]) -> tuple[Tensor, ...]:
        if self._is_sampled:
            return (
                torch.tensor([row[token] for row, token in zip(rows, tokens[1:], strict=True)]),
            )
        return likeliest(rows, self._server.k, self._server.vocab_size)

    def rows(self, batch: Batch) -> SparseTeacher | SampledTeacher:
        """What the server said of `batch.labels_N`."""
        found = [self._at_labels(example) for example in batch.examples] or [self._pack([], ())]
        parts = [torch.cat(each).to(batch.labels_N.device) for each in zip(*found, strict=True)]
        return SampledTeacher(*parts) if self._is_sampled else SparseTeacher(*parts)

    def _at_labels(self, example: Example) -> tuple[Tensor, ...]:
        places = np.flatnonzero(example.supervised_T) - 1
        return tuple(part_R[places] for part_R in self._answers[_asked(example).tobytes()])


def _asked(example: Example) -> NDArray[np.int32]:
    """The tokens up to the last label, whose own row is the last one needed."""
    return example.sequence.input_ids_T[: num_forwarded_tokens(example) + 1]
