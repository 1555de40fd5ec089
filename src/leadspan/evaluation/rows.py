"""The rows of one batch: what each has written, where it stands, and the model's next step for all.

A row that ends is given to the next request while the others go on. Knows nothing about text.

Shape suffixes: B rows, N rows that are filled, T steps, L places in the cache, Q prompt tokens.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadspan.config import SamplingConfig
from leadspan.evaluation.choose import choose_greedy, choose_sampled, compute_uniforms
from leadspan.evaluation.requests import Request
from leadspan.evaluation.slots import AttentionMasks, SlotCache
from leadspan.models import backbone_of

PREFILL_TOKENS = 8192
"""Prompt tokens of one forward pass."""
REFILL_SHARE = 8
"""Refill when one row in this many is free: a refill costs about one step whatever its size."""
FIRST_STEPS = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """A row that ended."""

    request: Request
    token_ids: list[int]
    seconds: float


class Rows:
    """A batch in flight. Dead rows go on writing over their first place, which nobody reads."""

    def __init__(
        self,
        model: Any,
        sampling: SamplingConfig,
        num_rows: int,
        longest_answer: int,
        stop_ids: list[int],
        vocab_size: int,
    ) -> None:
        self._model, self._sampling, self._vocab_size = model, sampling, vocab_size
        self._device = model.device
        self._longest_answer = longest_answer
        self._stops = torch.tensor(stop_ids, device=self._device)
        self._requests: list[tuple[Request, float] | None] = [None] * num_rows
        self._cache = SlotCache(num_rows, self._device)
        self._masks = AttentionMasks(model.config, num_rows, self._device, model.dtype)
        self._index_B = torch.arange(num_rows, device=self._device)
        self._token_B = self._zeros(num_rows)
        self._position_B = self._zeros(num_rows)
        self._count_B = self._zeros(num_rows)
        self._limit_B = self._zeros(num_rows)
        self._live_B = torch.zeros(num_rows, dtype=torch.bool, device=self._device)
        self._written_BT = self._zeros(num_rows, min(longest_answer, FIRST_STEPS))
        self._uniform_BT: Tensor | None = None
        if sampling.sampling_temperature > 0:
            shape = (num_rows, longest_answer)
            self._uniform_BT = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._width = 1
        self._most_written = 0

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.long, device=self._device)

    @property
    def num_live(self) -> int:
        """Rows that still write."""
        return sum(request is not None for request in self._requests)

    @torch.inference_mode()
    def admit(self, queue: deque[Request]) -> None:
        """Give free rows to waiting requests; with nobody waiting, drop them."""
        free = [row for row, request in enumerate(self._requests) if request is None]
        size = len(self._requests)
        if not queue:
            if 4 * len(free) >= size > len(free):
                self._keep([row for row in range(size) if self._requests[row] is not None])
            return
        if len(free) < min(max(1, size // REFILL_SHARE), len(queue)):
            return
        taken = [(row, queue.popleft()) for row in free[: len(queue)]]
        while taken:
            size = max(1, PREFILL_TOKENS // len(taken[0][1].prompt_ids))
            self._fill(taken[:size])
            taken = taken[size:]

    def _fill(self, taken: list[tuple[int, Request]]) -> None:
        """Read prompts up to their last token, which is the row's first input."""
        prompts = [list(request.prompt_ids) for _, request in taken]
        rows_N = torch.tensor([row for row, _ in taken], device=self._device)
        longest = max(len(prompt) for prompt in prompts)
        self._reserve(max(longest, self._width))
        if longest > 1:
            padded = [ids[:-1] + [ids[-1]] * (longest - len(ids)) for ids in prompts]
            with self._cache.filling(rows_N):
                backbone_of(self._model)(
                    input_ids=torch.tensor(padded, device=self._device),
                    position_ids=torch.arange(longest - 1, device=self._device).unsqueeze(0),
                    attention_mask=self._masks.of_prompts(len(taken), longest - 1),
                    past_key_values=self._cache,
                    use_cache=True,
                )
        position_N = torch.tensor([len(ids) - 1 for ids in prompts], device=self._device)
        self._masks.begin(rows_N, position_N)
        self._token_B[rows_N] = torch.tensor([ids[-1] for ids in prompts], device=self._device)
        self._position_B[rows_N] = position_N
        self._limit_B[rows_N] = torch.tensor(
            [request.max_new_tokens or self._sampling.max_new_tokens for _, request in taken],
            device=self._device,
        )
        self._count_B[rows_N] = 0
        self._live_B[rows_N] = True
        for row, request in taken:
            self._requests[row] = (request, time.monotonic())
            if self._uniform_BT is not None:
                numbers = torch.from_numpy(compute_uniforms(request.seed, self._longest_answer))
                self._uniform_BT[row] = numbers.to(self._device)

    def _reserve(self, width: int) -> None:
        self._width = width
        self._cache.reserve(width)
        self._masks.reserve(self._cache.capacity)

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """Write one token in every row; return those that ended."""
        self._reserve(self._width)
        self._cache.place(self._position_B)
        logits_BV = self._model(
            input_ids=self._token_B[:, None],
            position_ids=self._position_B[:, None],
            attention_mask=self._masks.of_step(self._position_B, self._width),
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1, : self._vocab_size]
        if self._uniform_BT is None:
            self._token_B = choose_greedy(logits_BV)
        else:
            self._token_B = choose_sampled(
                logits_BV,
                self._uniform_BT[self._index_B, self._count_B],
                self._sampling.sampling_temperature,
                self._sampling.top_p,
                self._sampling.top_k,
            )
        return self._write()

    def _write(self) -> list[Finished]:
        """Note the chosen tokens, move live rows on, free those that ended."""
        self._most_written += 1
        self._width += 1
        if self._most_written > self._written_BT.shape[1]:
            more = min(self._longest_answer, 2 * self._most_written) - self._written_BT.shape[1]
            self._written_BT = torch.nn.functional.pad(self._written_BT, (0, more))
        self._written_BT[self._index_B, self._count_B] = self._token_B
        self._count_B += self._live_B
        ended_B = torch.isin(self._token_B, self._stops) | (self._count_B >= self._limit_B)
        ended_B &= self._live_B
        self._live_B &= ~ended_B
        self._position_B += self._live_B
        ended = ended_B.nonzero().squeeze(1).tolist()
        return self._free(ended) if ended else []

    def _free(self, ended: list[int]) -> list[Finished]:
        now, counts = time.monotonic(), self._count_B.tolist()
        finished = []
        for row in ended:
            entry, self._requests[row] = self._requests[row], None
            assert entry is not None
            token_ids = self._written_BT[row, : counts[row]].tolist()
            finished.append(Finished(entry[0], token_ids, now - entry[1]))
        self._count_B *= self._live_B
        self._position_B *= self._live_B
        self._most_written = int(self._count_B.max())
        self._width = int(self._position_B.max()) + 1
        return finished

    def _keep(self, rows: list[int]) -> None:
        kept = torch.tensor(rows, device=self._device)
        self._cache.keep(kept)
        self._masks.keep(kept)
        self._requests = [self._requests[row] for row in rows]
        self._index_B = torch.arange(len(rows), device=self._device)
        self._token_B, self._position_B = self._token_B[kept], self._position_B[kept]
        self._count_B, self._limit_B = self._count_B[kept], self._limit_B[kept]
        self._live_B, self._written_BT = self._live_B[kept], self._written_BT[kept]
        if self._uniform_BT is not None:
            self._uniform_BT = self._uniform_BT[kept]
