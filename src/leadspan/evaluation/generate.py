"""The transformers back end: batches that refill as answers finish. Knows nothing about grading."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from leadspan.config import SamplingConfig
from leadspan.errors import DataError
from leadspan.evaluation.requests import Completion, FinishReason, Request
from leadspan.evaluation.rows import Finished, Rows
from leadspan.models import end_of_turn_id, odd_layers, real_vocab_size


class TransformersBackend:
    """Runs a causal language model of transformers, on CPU or GPU, in the dtype it was loaded in."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sampling: SamplingConfig,
        batch_size: int = 64,
        end_id: int | None = None,
    ) -> None:
        check_attention(model.config)
        self._model, self._tokenizer = model, tokenizer
        self._sampling, self._batch_size = sampling, batch_size
        self._stop_ids = stop_ids_of(model, tokenizer, end_id)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish.

        The longest prompts start first: prompts of like length then share a forward pass, and where
        a long question takes a long answer, that answer does not come last and alone.

        Raises:
            DataError: A request has an empty prompt.
        """
        for request in requests:
            if not request.prompt_ids:
                raise DataError(f"{request.key}: the prompt must not be empty. Check the template.")
        queue = deque(sorted(requests, key=lambda request: -len(request.prompt_ids)))
        if not queue:
            return
        limits = [request.max_new_tokens or self._sampling.max_new_tokens for request in queue]
        rows = Rows(
            self._model,
            self._sampling,
            num_rows=min(self._batch_size, len(queue)),
            longest_answer=max(limits),
            stop_ids=sorted(self._stop_ids),
            vocab_size=real_vocab_size(self._tokenizer),
        )
        while queue or rows.num_live:
            rows.admit(queue)
            for finished in rows.step():
                yield self._completion(finished)

    def _completion(self, finished: Finished) -> Completion:
        ids = finished.token_ids
        stopped = bool(ids) and ids[-1] in self._stop_ids
        reason: FinishReason = "stop" if stopped else "length"
        text = self._tokenizer.decode(
            ids[:-1] if stopped else ids,
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        seconds = round(finished.seconds, 4)
        return Completion(finished.request.key, text, len(ids), reason, seconds, tuple(ids))


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
            f"sdpa or eager; got {found}. Use evaluation.backend vllm or endpoint."
        )
