"""What the rollouts of a run will cost: their lengths, the FLOPs of writing them, keys and values.

They are taken to be as long as training takes them to be before they are written. What a student
really writes may be shorter. Knows no traces, no teacher and no time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from leadspan.analysis.memory import StepShape
from leadspan.config import RolloutConfig
from leadspan.flops import Attention, ModelShape, generation_flops
from leadspan.records import Sequence
from leadspan.sizes import kv_cache_bytes
from leadspan.traces.horizon import num_context_tokens, num_most_tokens, stand_in

_KEY_AND_VALUE_BYTES = {"autocast": 3, "float32": 4, "bfloat16": 2}
"""Mean of both: under autocast the rotation leaves keys in float32, values are in bfloat16."""


@dataclass(frozen=True, slots=True)
class RolloutLengths:
    """Tokens of one rollout of each prompt."""

    context: tuple[int, ...]
    """Before the first sampled one."""
    sampled: tuple[int, ...]
    """As many as are expected."""
    most: tuple[int, ...]
    """Of the longest that is possible at any moment, context included."""

    @property
    def forwarded(self) -> tuple[int, ...]:
        """Through student and teacher: all but the last."""
        return tuple(c + s - 1 for c, s in zip(self.context, self.sampled, strict=True))

    def times(self, count: int) -> RolloutLengths:
        """Of so many times the prompts."""
        return RolloutLengths(self.context * count, self.sampled * count, self.most * count)


def rollout_lengths(config: RolloutConfig, sequences: Iterable[Sequence]) -> RolloutLengths:
    """Lengths of the rollouts whose prompts come from these uncut traces."""
    found = [
        (
            num_context_tokens(config, sequence),
            stand_in(config, sequence).num_scored_tokens,
            num_most_tokens(config, sequence),
        )
        for sequence in sequences
    ]
    context, sampled, most = zip(*found, strict=True) if found else ((), (), ())
    return RolloutLengths(context, sampled, most)


def writing_flops(
    config: RolloutConfig, student: ModelShape, lengths: RolloutLengths, attention: Attention
) -> int:
    """FLOPs of writing every sample of every prompt once."""
    context, sampled = (
        [length for length in each for _ in range(config.num_samples)]
        for each in (lengths.context, lengths.sampled)
    )
    return generation_flops(student, context, sampled, attention, config.num_samples)


def writing_bytes(
    config: RolloutConfig,
    student: ModelShape,
    lengths: RolloutLengths,
    step: StepShape,
    num_rollouts: float,
) -> int:
    """Keys and values of the rollouts that one rank writes side by side; 0 where another engine does.

    Args:
        config: Says who writes, and how many at a time.
        student: Its sizes.
        lengths: Of the rollouts.
        step: How the student computes.
        num_rollouts: Of a step, this rank's share.
    """
    if config.backend != "local" or not lengths.most:
        return 0
    rows = min(config.max_concurrent, math.ceil(num_rollouts * config.refresh_every_steps))
    width = _KEY_AND_VALUE_BYTES[step.compute]
    return kv_cache_bytes(student, rows, max(lengths.most), width)
