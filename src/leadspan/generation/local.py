"""Generate with a model in this process: batches that refill as answers finish.

A row that ends is given to the next request while the others go on. `generate` works on a model that
is already loaded, such as one in training, and knows tokens alone; `TransformersBackend` adds text.

transformers has such batches too (`generate_batch`). In 5.23 they take no seed for a request, and on a
busy CPU 64 greedy answers of a tiny model took 20.5 s, start-up included, against 0.26 s here.

Shape suffixes: B rows, N rows that are filled, P prompts that are read for them, V vocabulary, T steps,
L places in the cache, Q prompt tokens.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leadspan.config import SamplingConfig
from leadspan.errors import DataError
from leadspan.generation.kv_cache import AttentionMasks, SlotCache
from leadspan.generation.requests import Completion, Request
from leadspan.models import backbone_of, end_of_turn_id, odd_layers, real_vocab_size


def compute_uniforms(seed: int, steps: int) -> NDArray[np.float64]:
    """One uniform number a step, shape [T], in [0, 1); the same for a seed on every machine."""
    return np.random.Generator(np.random.Philox(key=seed)).random(steps)


def choose_greedy(logits_BV: Tensor) -> Tensor:
    """The likeliest token of each row, shape [B]."""
    return logits_BV.argmax(dim=-1)


def choose_sampled(
    logits_BV: Tensor,
    uniform_B: Tensor,
    sampling_temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """Sample a token of each row by inverting its cumulative distribution at `uniform_B`.

    A row's token depends on its own logits and its own number alone, so an answer is the same
    whatever stands beside it. The cumulative sum runs in float64 and in the vocabulary's order: two
    tokens of nearly equal probability cannot trade places when the logits move by rounding.

    Args:
        logits_BV: Raw logits, any float dtype.
        uniform_B: float64, in [0, 1).
        sampling_temperature: > 0.
        top_p: Keep the smallest set of likeliest tokens with at least this mass.
        top_k: Keep this many of the likeliest tokens; 0 keeps all. Applied before `top_p`.

    Returns:
        Token ids, shape [B].
    """
    probs_BV = torch.softmax(logits_BV.double() / sampling_temperature, dim=-1)
    if 0 < top_k < probs_BV.shape[-1]:
        least_B1 = probs_BV.topk(top_k, dim=-1).values[:, -1:]
        probs_BV = probs_BV.masked_fill(probs_BV < least_B1, 0.0)
        probs_BV = probs_BV / probs_BV.sum(dim=-1, keepdim=True)
    if top_p < 1.0:
        sorted_BV = probs_BV.sort(dim=-1, descending=True).values
        before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
        # The last token whose predecessors hold less than top_p is the least likely one kept.
        kept_B1 = (before_BV < top_p).sum(dim=-1, keepdim=True)
        least_B1 = sorted_BV.gather(-1, kept_B1 - 1)
        probs_BV = probs_BV.masked_fill(probs_BV < least_B1, 0.0)
    cumulative_BV = probs_BV.cumsum(dim=-1)
    target_B1 = uniform_B.unsqueeze(-1) * cumulative_BV[:, -1:]
    return (
        torch.searchsorted(cumulative_BV, target_B1, right=True)
        .squeeze(-1)
        .clamp_max(probs_BV.shape[-1] - 1)
    )


def compute_entropy(logits_BV: Tensor) -> Tensor:
    """Entropy of each row's distribution, in nats, shape [B], float32."""
    log_p_BV = torch.log_softmax(logits_BV.float(), dim=-1)
    return -(log_p_BV.exp() * log_p_BV).sum(dim=-1)


CHOICE_BYTES = 2560 * 2**10
"""Logits from which a CPU chooses at a time: so few that what is made of them stays in its cache."""


def choice_rows(logits_BV: Tensor) -> int:
    """Rows that are sampled together; a GPU takes all at once. Changes speed alone."""
    if logits_BV.device.type != "cpu":
        return len(logits_BV)
    return max(1, CHOICE_BYTES // logits_BV[0].nbytes)


PREFILL_TOKENS = 8192
"""Prompt tokens of one forward pass."""
REFILL_SHARE = 8
"""Refill when one row in this many is free: a refill costs about one step whatever its size."""
FIRST_STEPS = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """One generated answer."""

    request: Request
    token_ids: list[int]
    """The end token included, where there is one."""
    stopped: bool
    """True at an end token, False at the limit."""
    seconds: float
    entropies: list[float]
    """Of the model's distribution at each token, in nats; empty where nobody asked."""


class Rows:
    """A batch in flight. Dead rows go on writing over their first place, which nobody reads."""

    def __init__(
        self,
        model: Any,
        sampling: SamplingConfig,
        num_rows: int,
        longest_answer: int,
        stop_ids: Collection[int],
        vocab_size: int | None,
        with_entropies: bool,
    ) -> None:
        self._model, self._sampling, self._vocab_size = model, sampling, vocab_size
        self._device = model.device
        self._longest_answer = longest_answer
        self._stop_ids = frozenset(stop_ids)
        self._stops = torch.tensor(sorted(stop_ids), dtype=torch.long, device=self._device)
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
        self._entropy_BT = torch.zeros_like(self._written_BT).float() if with_entropies else None
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
        taken: dict[tuple[int, ...], list[tuple[int, Request]]] = {}
        for row in free[: len(queue)]:
            request = queue.popleft()
            taken.setdefault(request.prompt_ids, []).append((row, request))
        prompts = list(taken)
        while prompts:
            size = max(1, PREFILL_TOKENS // len(prompts[0]))
            self._fill(prompts[:size], [taken[prompt] for prompt in prompts[:size]])
            prompts = prompts[size:]

    def _fill(self, prompts: list[tuple[int, ...]], asked: list[list[tuple[int, Request]]]) -> None:
        """Read prompts up to their last token, which is the first input of each row that asked."""
        taken = [entry for entries in asked for entry in entries]
        rows_N = torch.tensor([row for row, _ in taken], device=self._device)
        source_N = torch.repeat_interleave(
            torch.arange(len(prompts), device=self._device),
            torch.tensor([len(entries) for entries in asked], device=self._device),
        )
        longest = max(len(prompt) for prompt in prompts)
        self._reserve(max(longest, self._width))
        if longest > 1:
            padded = [[*ids[:-1], *[ids[-1]] * (longest - len(ids))] for ids in prompts]
            with self._cache.filling(rows_N, source_N):
                backbone_of(self._model)(
                    input_ids=torch.tensor(padded, device=self._device),
                    position_ids=torch.arange(longest - 1, device=self._device).unsqueeze(0),
                    attention_mask=self._masks.of_prompts(len(prompts), longest - 1),
                    past_key_values=self._cache,
                    use_cache=True,
                )
        position_P = torch.tensor([len(ids) - 1 for ids in prompts], device=self._device)
        position_N = position_P[source_N]
        self._masks.begin(rows_N, position_N)
        last_P = torch.tensor([ids[-1] for ids in prompts], device=self._device)
        self._token_B[rows_N] = last_P[source_N]
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
        rows = choice_rows(logits_BV)
        if self._entropy_BT is not None:
            self._entropy_B = torch.cat(
                [compute_entropy(part) for part in torch.split(logits_BV, rows)]
            )
        self._token_B = self._choose(logits_BV, rows)
        return self._write()

    def _choose(self, logits_BV: Tensor, rows: int) -> Tensor:
        if self._uniform_BT is None:
            return choose_greedy(logits_BV)
        uniform_B = self._uniform_BT[self._index_B, self._count_B]
        sampling = self._sampling
        parts = zip(torch.split(logits_BV, rows), torch.split(uniform_B, rows), strict=True)
        return torch.cat(
            [
                choose_sampled(
                    logits, uniform, sampling.sampling_temperature, sampling.top_p, sampling.top_k
                )
                for logits, uniform in parts
            ]
        )

    def _write(self) -> list[Finished]:
        """Note the chosen tokens, move live rows on, free those that ended."""
        self._most_written += 1
        self._width += 1
        if self._most_written > self._written_BT.shape[1]:
            more = min(self._longest_answer, 2 * self._most_written) - self._written_BT.shape[1]
            self._written_BT = torch.nn.functional.pad(self._written_BT, (0, more))
            if self._entropy_BT is not None:
                self._entropy_BT = torch.nn.functional.pad(self._entropy_BT, (0, more))
        self._written_BT[self._index_B, self._count_B] = self._token_B
        if self._entropy_BT is not None:
            self._entropy_BT[self._index_B, self._count_B] = self._entropy_B
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
            stopped = token_ids[-1] in self._stop_ids
            entropies = []
            if self._entropy_BT is not None:
                entropies = self._entropy_BT[row, : counts[row]].tolist()
            finished.append(Finished(entry[0], token_ids, stopped, now - entry[1], entropies))
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
        if self._entropy_BT is not None:
            self._entropy_BT = self._entropy_BT[kept]
        if self._uniform_BT is not None:
            self._uniform_BT = self._uniform_BT[kept]


@contextmanager
def _in_eval_mode(trained: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Within, these modules, which are in training mode, are in evaluation mode."""
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def generate(
    model: Any,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    stop_ids: Collection[int],
    batch_size: int = 64,
    vocab_size: int | None = None,
    with_entropies: bool = False,
) -> Iterator[Finished]:
    """Yield one answer a request, as they finish.

    The model is used as it stands, without a copy. Whenever an answer is yielded, each of its modules
    is in the mode it was in before and gradients are as the caller has them. Its weights must stay
    until the last answer, and no autocast may be on.

    An answer depends on its prompt and its request's seed, not on the batch (float32; bfloat16 may
    round otherwise). Seeds by `seed_of(seed, prompt id, sample number)` make samples repeatable.

    The longest prompts start first: prompts of like length then share a forward pass, and where a
    long question takes a long answer, that answer does not come last and alone. Requests with the same
    prompt stand together, and those that start together have it read once.

    Args:
        model: A causal language model of transformers, in any dtype and mode.
        requests: Prompts as tokens, each with its seed and perhaps its own limit.
        sampling: Temperature, top_p, top_k and the limit; its seed and num_samples are not read.
        stop_ids: Tokens that end an answer; none generates up to the limit.
        batch_size: Answers side by side; changes speed alone.
        vocab_size: Tokens that may be chosen, from the front of the head; None is all.
        with_entropies: Give the entropy at each token too.

    Raises:
        DataError: A request has an empty prompt, or the model's attention cannot be used.
    """
    check_attention(model.config)
    for request in requests:
        if not request.prompt_ids:
            raise DataError(f"{request.key}: the prompt must not be empty. Check the template.")
    if not requests:
        return
    first: dict[tuple[int, ...], int] = {}
    for place, request in enumerate(requests):
        first.setdefault(request.prompt_ids, place)
    queue = deque(sorted(requests, key=lambda r: (-len(r.prompt_ids), first[r.prompt_ids])))
    rows = Rows(
        model,
        sampling,
        num_rows=min(batch_size, len(queue)),
        longest_answer=max(r.max_new_tokens or sampling.max_new_tokens for r in queue),
        stop_ids=stop_ids,
        vocab_size=vocab_size,
        with_entropies=with_entropies,
    )
    trained = [module for module in model.modules() if module.training]
    while queue or rows.num_live:
        with _in_eval_mode(trained):
            rows.admit(queue)
            finished = rows.step()
        yield from finished


class TransformersBackend:
    """Runs a causal language model of transformers, on CPU or GPU, in the dtype it was loaded in."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sampling: SamplingConfig,
        batch_size: int = 64,
        end_id: int | None = None,
        vocab_size: int | None = None,
        with_entropies: bool = False,
    ) -> None:
        """See `generate`; a `vocab_size` of None is the tokenizer's."""
        self._model, self._tokenizer = model, tokenizer
        self._sampling, self._batch_size = sampling, batch_size
        self._vocab_size = real_vocab_size(tokenizer) if vocab_size is None else vocab_size
        self._with_entropies = with_entropies
        self._stop_ids = stop_ids_of(model, tokenizer, end_id)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish; see `generate`."""
        answers = generate(
            self._model,
            requests,
            self._sampling,
            self._stop_ids,
            self._batch_size,
            self._vocab_size,
            self._with_entropies,
        )
        for answer in answers:
            ids = answer.token_ids
            yield Completion(
                answer.request.key,
                self._tokenizer.decode(
                    ids[:-1] if answer.stopped else ids,
                    skip_special_tokens=False,
                    clean_up_tokenization_spaces=False,
                ),
                len(ids),
                "stop" if answer.stopped else "length",
                round(answer.seconds, 4),
                tuple(ids),
                tuple(answer.entropies),
            )


def stop_ids_of(model: Any, tokenizer: Any, end_id: int | None = None) -> frozenset[int]:
    """Every id that ends an answer: the end of the turn, the tokenizer's eos, the model's own eos.

    Base students end turns in another token than their eos; either ends an answer.
    """
    found = {end_of_turn_id(tokenizer) if end_id is None else end_id}
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found.update(eos if isinstance(eos, list | tuple) else [eos] if eos is not None else [])
    return frozenset(found)


def check_attention(config: Any) -> None:
    """Check that the model's memory of the past is keys and values alone.

    Raises:
        DataError: Some layer keeps another state, or attends by a kernel that takes no mask.
    """
    odd = odd_layers(config)
    if odd or config._attn_implementation not in ("sdpa", "eager"):
        found = ", ".join(odd) or config._attn_implementation
        raise DataError(
            f"{config.model_type}: the transformers back end needs full or sliding attention under "
            f"sdpa or eager; got {found}. Use the backend vllm or endpoint."
        )
