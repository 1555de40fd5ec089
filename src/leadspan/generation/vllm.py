"""The vLLM back end, run in this process (extra `vllm`). Knows nothing about grading or training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leadspan.config import SamplingConfig
from leadspan.errors import ConfigError, DataError
from leadspan.generation.requests import Completion, FinishReason, Request
from leadspan.integrity import check_checksums


class VllmBackend:
    """Generates with vLLM's own scheduler; a seed fixes a sample up to bfloat16 batching effects."""

    def __init__(
        self,
        student: str,
        sampling: SamplingConfig,
        stop_ids: Collection[int],
        key: str,
        revision: str | None = None,
        **engine: Any,
    ) -> None:
        """Load the model.

        Args:
            student: A folder or hub id.
            sampling: Of every answer.
            stop_ids: Tokens that end an answer.
            key: Of run.yaml, that asks for vLLM.
            revision: Of the hub.
            **engine: Further arguments of `vllm.LLM`.

        Raises:
            ConfigError: vLLM is not installed.
            DataError: It could not load the model.
        """
        try:
            import vllm
        except ImportError:
            raise ConfigError(
                f'{key} vllm needs vLLM and a GPU. pip install "leadspan[vllm]"'
            ) from None
        self._vllm, self._sampling, self._stops = vllm, sampling, sorted(stop_ids)
        check_checksums(Path(student))
        try:
            self._llm = vllm.LLM(
                model=student, revision=revision, tokenizer_revision=revision, **engine
            )
        except Exception as error:  # vLLM raises many kinds for one cause
            line = " ".join(str(error).split())[:200]
            raise DataError(f"{student}: vLLM could not load it ({line}).") from None

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish."""
        engine: Any = self._llm.llm_engine
        started = time.monotonic()
        for request in requests:
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            engine.add_request(request.key, prompt, self._params(request))
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    yield self._completion(output, time.monotonic() - started)

    def _params(self, request: Request) -> Any:
        sampling = self._sampling
        return self._vllm.SamplingParams(
            temperature=sampling.sampling_temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,
            max_tokens=request.max_new_tokens or sampling.max_new_tokens,
            seed=request.seed,
            stop_token_ids=self._stops,
            skip_special_tokens=False,
        )

    def _completion(self, output: Any, seconds: float) -> Completion:
        first = output.outputs[0]
        reason: FinishReason = "length" if first.finish_reason == "length" else "stop"
        token_ids = tuple(first.token_ids)
        return Completion(
            output.request_id, first.text, len(token_ids), reason, round(seconds, 4), token_ids
        )


Weights = Callable[[], Iterable[tuple[str, Tensor]]]
"""The weights of now, by the names that they have in the model's folder."""


class ColocatedVllm(VllmBackend):
    """vLLM beside a training on one GPU: it writes with the weights of then, and sleeps in between."""

    def __init__(
        self,
        student: str,
        sampling: SamplingConfig,
        stop_ids: Collection[int],
        key: str,
        weights: Weights,
        revision: str | None = None,
        **engine: Any,
    ) -> None:
        """See `VllmBackend`; `weights` are asked for before each writing."""
        # The engine in this very process: the weights are handed over, not sent.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        super().__init__(
            student, sampling, stop_ids, key, revision, enable_sleep_mode=True, **engine
        )
        self._weights = weights
        self._llm.sleep(level=1)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish; the weights must stay until the last one."""
        torch.cuda.empty_cache()  # what the training has freed is not free for vLLM until then
        self._llm.wake_up()
        try:
            self._llm.apply_model(lambda model: model.load_weights(self._weights()))
            self._llm.reset_prefix_cache()
            yield from super().generate(requests)
        finally:
            self._llm.sleep(level=1)
