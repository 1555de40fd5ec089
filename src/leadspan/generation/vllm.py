"""The vLLM back end, run in this process (extra `vllm`). Knows nothing about grading."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from leadspan.config import EvaluationConfig
from leadspan.errors import ConfigError, DataError
from leadspan.generation.requests import Completion, FinishReason, Request
from leadspan.integrity import check_checksums


class VllmBackend:
    """Generates with vLLM's own scheduler; a seed fixes a sample up to bfloat16 batching effects."""

    def __init__(
        self,
        student: str,
        config: EvaluationConfig,
        stop_ids: frozenset[int],
        revision: str | None = None,
    ) -> None:
        try:
            import vllm
        except ImportError:
            raise ConfigError(
                "evaluation.backend vllm needs vLLM and a GPU. pip install leadspan[vllm]"
            ) from None
        self._vllm, self._sampling, self._stops = vllm, config.sampling, sorted(stop_ids)
        check_checksums(Path(student))
        try:
            self._llm = vllm.LLM(
                model=student,
                revision=revision,
                tokenizer_revision=revision,
                dtype="auto" if config.dtype == "auto" else config.dtype,
                tensor_parallel_size=config.tensor_parallel_size,
                max_num_seqs=config.batch_size,
                seed=config.sampling.seed,
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
