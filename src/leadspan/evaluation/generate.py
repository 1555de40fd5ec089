"""The transformers back end: batches that refill as answers finish. Knows nothing about grading.

Shape suffixes: B rows, T steps, L places in the cache, V vocabulary, Q prompt tokens.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadspan.config import SamplingConfig
from leadspan.errors import DataError
from leadspan.evaluation.choose import choose_greedy, choose_sampled, compute_uniforms
from leadspan.evaluation.requests import Completion, FinishReason, Request
from leadspan.evaluation.slots import SlotCache
from leadspan.models import backbone_of, end_of_turn_id, real_vocab_size

PREFILL_TOKENS = 8192
REFILL_SHARE = 8
"""Refill when one row in this many is free: a refill costs about one step whatever its size."""


def stop_ids_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: the end of the turn, the tokenizer's eos, the model's own eos."""
    found = {end_of_turn_id(tokenizer)}
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found.update(eos if isinstance(eos, list | tuple) else [eos] if eos is not None else [])
    return frozenset(found)


class TransformersBackend:
    """Runs a causal language model of transformers, on CPU or GPU, in the dtype it was loaded in."""

    def __init__(
        self, model: Any, tokenizer: Any, sampling: SamplingConfig, batch_size: int = 64
    ) -> None:
        check_attention(model.config)
        self._model, self._tokenizer = model, tokenizer
        self._sampling, self._batch_size = sampling, batch_size
        self._stops = torch.tensor(sorted(stop_ids_of(model, tokenizer)), device=model.device)
        self._vocab_size = real_vocab_size(tokenizer)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish; the longest prompts start first.

        Raises:
            DataError: A request has an empty prompt.
        """
        queue = deque(sorted(requests, key=lambda request: -len(request.prompt_ids)))
        for request in queue:
            if not request.prompt_ids:
                raise DataError(f"{request.key}: the prompt must not be empty. Check the template.")
        if queue:
            rows = _Rows(self, min(self._batch_size, len(queue)))
            while queue or rows.live:
                rows.admit(queue)
                yield from rows.step()

    def start(self, request: Request) -> _Row:
        """Begin one answer."""
        return _Row(request, time.monotonic())

    def finish(self, row: _Row, token_ids: list[int]) -> Completion:
        """One finished row as a completion."""
        stopped = bool(token_ids) and token_ids[-1] in self._stops.tolist()
        reason: FinishReason = "stop" if stopped else "length"
        text = self._tokenizer.decode(
            token_ids[:-1] if stopped else token_ids,
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        seconds = round(time.monotonic() - row.started, 4)
        return Completion(row.request.key, text, len(token_ids), reason, seconds, tuple(token_ids))

    def choose(self, logits_BV: Tensor, uniform_B: Tensor | None) -> Tensor:
        """The next token of each row; ids beyond the tokenizer's vocabulary are never chosen."""
        logits_BV = logits_BV[:, : self._vocab_size]
        if uniform_B is None:
            return choose_greedy(logits_BV)
        sampling = self._sampling
        return choose_sampled(
            logits_BV, uniform_B, sampling.sampling_temperature, sampling.top_p, sampling.top_k
        )


def check_attention(config: Any) -> None:
    """Check that the model's memory of the past is keys and values alone.

    Raises:
        DataError: Some layer keeps another state, or attends by a kernel that takes no mask.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds or config._attn_implementation not in ("sdpa", "eager"):
        found = ", ".join(sorted(kinds)) or config._attn_implementation
        raise DataError(
            f"{config.model_type}: the transformers back end needs full or sliding attention under "
            f"sdpa or eager; got {found}. Use evaluation.backend vllm or endpoint."
        )


@dataclass(slots=True)
class _Row:
    request: Request
    started: float


class _Rows:
    """The rows of one batch: tensors of what each has written, and the requests behind them."""

    def __init__(self, backend: TransformersBackend, num_rows: int) -> None:
        model, sampling = backend._model, backend._sampling
        self._backend, self._model = backend, model
        self._device, self._dtype = model.device, model.dtype
        self._limit = sampling.max_new_tokens
        self._rows: list[_Row | None] = [None] * num_rows
        self._cache = SlotCache(num_rows, self._device, self._dtype)
        self._sees_sliding = _SlidingWindow(model.config)
        self._token_B = self._zeros(num_rows)
        self._position_B = self._zeros(num_rows)
        self._count_B = self._zeros(num_rows)
        self._live_B = torch.zeros(num_rows, dtype=torch.bool, device=self._device)
        self._written_BT = self._zeros(num_rows, min(self._limit, 256))
        self._uniform_BT = (
            torch.zeros(num_rows, self._limit, dtype=torch.float64, device=self._device)
            if sampling.sampling_temperature > 0
            else None
        )
        self._mask_BL = torch.empty(num_rows, 0, dtype=self._dtype, device=self._device)
        self._index_B = torch.arange(num_rows, device=self._device)
        self._longest = 0
        self._most_written = 0

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.long, device=self._device)

    @property
    def live(self) -> int:
        """Rows that still write."""
        return sum(row is not None for row in self._rows)

    @torch.inference_mode()
    def admit(self, queue: deque[Request]) -> None:
        """Give free rows to waiting requests, or drop free rows when nobody waits."""
        free = [index for index, row in enumerate(self._rows) if row is None]
        if not queue:
            if 4 * len(free) >= len(self._rows) > 1 and len(free) < len(self._rows):
                self._keep([index for index, row in enumerate(self._rows) if row is not None])
            return
        if len(free) < min(max(1, len(self._rows) // REFILL_SHARE), len(queue)):
            return
        taken = [(row, queue.popleft()) for row in free[: len(queue)]]
        while taken:
            longest = len(taken[0][1].prompt_ids)
            size = max(1, PREFILL_TOKENS // longest)
            self._fill(taken[:size])
            taken = taken[size:]

    def _fill(self, taken: list[tuple[int, Request]]) -> None:
        """Read prompts but for their last token, which is the row's first input."""
        longest = max(len(request.prompt_ids) for _, request in taken)
        self._reserve(max(longest, self._longest))
        rows_N = torch.tensor([row for row, _ in taken], device=self._device)
        ids = [list(request.prompt_ids) for _, request in taken]
        if longest > 1:
            padded = torch.tensor([row[:-1] + [row[-1]] * (longest - len(row)) for row in ids])
            self._cache.fill(rows_N)
            backbone_of(self._model)(
                input_ids=padded.to(self._device),
                position_ids=torch.arange(longest - 1, device=self._device).unsqueeze(0),
                attention_mask=self._prompt_mask(len(taken), longest - 1),
                past_key_values=self._cache,
                use_cache=True,
            )
            self._cache.fill(None)
        position_N = torch.tensor([len(row) - 1 for row in ids], device=self._device)
        self._token_B[rows_N] = torch.tensor([row[-1] for row in ids], device=self._device)
        self._position_B[rows_N] = position_N
        self._count_B[rows_N] = 0
        self._live_B[rows_N] = True
        places_L = torch.arange(self._mask_BL.shape[1], device=self._device)
        hidden_NL = places_L[None, :] >= position_N[:, None]
        self._mask_BL[rows_N] = hidden_NL * torch.finfo(self._dtype).min
        for row, request in taken:
            self._rows[row] = self._backend.start(request)
            if self._uniform_BT is not None:
                numbers = torch.from_numpy(compute_uniforms(request.seed, self._limit))
                self._uniform_BT[row] = numbers.to(self._device)

    def _prompt_mask(self, num_rows: int, size: int) -> Any:
        query_Q1 = torch.arange(size, device=self._device)[:, None]
        least = torch.finfo(self._dtype).min
        distance_QQ = query_Q1 - query_Q1.T
        full = ((distance_QQ < 0) * least).to(self._dtype).expand(num_rows, 1, size, size)
        return self._sees_sliding.masks(full, distance_QQ.expand(num_rows, 1, size, size))

    def _reserve(self, width: int) -> None:
        self._longest = width
        self._cache.reserve(width)
        short = self._cache.capacity - self._mask_BL.shape[1]
        if short > 0:
            least = torch.finfo(self._dtype).min
            self._mask_BL = torch.nn.functional.pad(self._mask_BL, (0, short), value=least)

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """Write one token in every row; return the answers that ended."""
        self._reserve(self._longest)
        self._mask_BL[self._index_B, self._position_B] = 0
        self._cache.place(self._position_B)
        mask = self._mask_BL[:, None, None, : self._longest]
        places = torch.arange(self._longest, device=self._device)
        distance = self._position_B[:, None, None, None] - places
        logits_BV = self._model(
            input_ids=self._token_B[:, None],
            position_ids=self._position_B[:, None],
            attention_mask=self._sees_sliding.masks(mask, distance),
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        uniform_B = None
        if self._uniform_BT is not None:
            uniform_B = self._uniform_BT[self._index_B, self._count_B]
        self._token_B = self._backend.choose(logits_BV, uniform_B)
        return self._write()

    def _write(self) -> list[Completion]:
        """Note the chosen tokens, move live rows on, close those that ended."""
        self._most_written += 1
        if self._most_written > self._written_BT.shape[1]:
            more = min(self._limit, 2 * self._written_BT.shape[1]) - self._written_BT.shape[1]
            self._written_BT = torch.nn.functional.pad(self._written_BT, (0, max(more, 0)))
        self._written_BT[self._index_B, self._count_B] = self._token_B
        self._count_B += self._live_B
        ended_B = torch.isin(self._token_B, self._backend._stops) | (self._count_B >= self._limit)
        ended_B &= self._live_B
        self._live_B &= ~ended_B
        self._position_B += self._live_B
        self._longest += 1
        ended = ended_B.nonzero().squeeze(1).tolist()
        return self._close(ended) if ended else []

    def _close(self, ended: list[int]) -> list[Completion]:
        """Free these rows; a free row goes on writing over its first place, which nobody reads."""
        completions = []
        counts = self._count_B.tolist()
        for index in ended:
            row, self._rows[index] = self._rows[index], None
            assert row is not None
            token_ids = self._written_BT[index, : counts[index]].tolist()
            completions.append(self._backend.finish(row, token_ids))
        self._count_B *= self._live_B
        self._position_B *= self._live_B
        self._most_written = int(self._count_B.max())
        self._longest = int(self._position_B.max()) + 1
        return completions

    def _keep(self, rows: list[int]) -> None:
        kept = torch.tensor(rows, device=self._device)
        self._cache.keep(kept)
        self._rows = [self._rows[row] for row in rows]
        self._index_B = torch.arange(len(rows), device=self._device)
        for name in ("_token_B", "_position_B", "_count_B", "_live_B", "_written_BT", "_mask_BL"):
            setattr(self, name, getattr(self, name)[kept])
        if self._uniform_BT is not None:
            self._uniform_BT = self._uniform_BT[kept]


class _SlidingWindow:
    """The masks a model asks for: one, or one for each kind of layer."""

    def __init__(self, config: Any) -> None:
        self._kinds = set(getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None)

    def masks(self, full: Tensor, distance: Tensor) -> Any:
        """`full` as the model takes it; `distance` is how far back each place lies."""
        if self._window is None or self._kinds == {"full_attention"}:
            return full
        far = (distance >= self._window) * torch.finfo(full.dtype).min
        sliding = torch.minimum(full, far.to(full.dtype))
        if not self._kinds:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}
