"""Who writes rollouts: the weights in training here, vLLM beside them, or a server with weights of its own.

Each is a `generation.requests.Backend`. Knows nothing about prompts, horizons or losses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from leadspan.config import RunConfig, SamplingConfig
from leadspan.errors import ConfigError
from leadspan.generation.local import TransformersBackend, check_attention, stop_ids_of
from leadspan.generation.requests import Backend, Completion, Request
from leadspan.parallel import Ranks, gathered
from leadspan.precision import bf16_products, resolve_bf16
from leadspan.training.objective import Objective


class LocalEngine:
    """The weights in training; no copy is made. Every rank calls it, with what it has to write."""

    def __init__(
        self, backend: TransformersBackend, objective: Objective, ranks: Ranks, bf16: bool
    ) -> None:
        self._backend, self._objective = backend, objective
        self._device, self._bf16 = ranks.device, bf16

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish; each has its entropies."""
        with gathered(self._objective), bf16_products(self._device, self._bf16):
            yield from self._backend.generate(requests)


def build_engine(
    config: RunConfig, ranks: Ranks, objective: Objective, tokenizer: Any, max_tokens: int
) -> tuple[Backend, Collection[int]]:
    """What writes the rollouts of a run, and the tokens at which they end.

    Args:
        config: With `rollout`.
        ranks: Every rank calls this.
        objective: Holds the weights in training.
        tokenizer: The student's.
        max_tokens: Of the longest rollout, prompt included.

    Raises:
        ConfigError: The back end needs what is not there, or cannot write for so many ranks.
        DataError: The student cannot be run by it.
        RunError: The server is down, or does not have the model.
    """
    rollout = config.rollout
    assert rollout is not None
    student = objective.causal_lm
    stop_ids = stop_ids_of(student, tokenizer)
    sampling = SamplingConfig(
        sampling_temperature=rollout.sampling_temperature, top_p=rollout.top_p, top_k=rollout.top_k
    )
    bf16 = resolve_bf16(config.training.bf16, ranks.device)
    if rollout.backend == "endpoint":
        from leadspan.generation.served import EndpointBackend

        assert rollout.endpoint is not None
        return EndpointBackend(rollout.endpoint, sampling, stop_ids=stop_ids), stop_ids
    if rollout.backend == "vllm":
        from leadspan.generation.vllm import ColocatedVllm

        if ranks.size > 1:
            raise ConfigError(
                f"rollout.backend must be local or endpoint on several ranks; got 'vllm' on "
                f"{ranks.size}. Train on one GPU, or write with local."
            )
        engine = ColocatedVllm(
            config.student.path,
            sampling,
            stop_ids,
            "rollout.backend",
            weights=lambda: ((n, p.detach()) for n, p in student.named_parameters()),
            revision=config.student.revision,
            dtype="bfloat16" if bf16 else "float32",
            max_num_seqs=rollout.max_concurrent,
            max_model_len=max_tokens,
            gpu_memory_utilization=rollout.vllm_memory_fraction,
            seed=config.seed,
        )
        return engine, stop_ids
    check_attention(student.config)
    backend = TransformersBackend(
        student,
        tokenizer,
        sampling,
        rollout.max_concurrent,
        vocab_size=objective.vocab_size,
        with_entropies=True,
    )
    return LocalEngine(backend, objective, ranks, bf16), stop_ids
