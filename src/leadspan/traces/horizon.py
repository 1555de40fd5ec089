"""How long rollouts are: horizon, prefix, and what stands in for one before it is written.

Knows lengths of traces, not what writes or scores a rollout: training and the forecast of its cost ask
the same functions.

Shape suffixes: G tokens that the student wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadspan.config import RolloutConfig
from leadspan.errors import ConfigError
from leadspan.records import Example, Sequence, Span
from leadspan.traces.cut import select


@dataclass
class Horizon:
    """How many tokens a rollout may have at a moment. Its fields outlive a kill inside the checkpoint."""

    grown: int = 0
    """Validations after which the horizon grew (schedule entropy)."""
    first_entropy: float | None = None
    """Mean entropy of the tokens sampled before the first validation."""
    entropy_sum: float = 0.0
    """Over the tokens sampled since the last validation."""
    num_tokens: int = 0

    def length(
        self, config: RolloutConfig, num_trace_tokens: int, progress: float, num_validations: int
    ) -> int:
        """Most tokens of a rollout.

        Args:
            config: Ends and schedule.
            num_trace_tokens: Length of the completion of the prompt's own trace.
            progress: Share of the training that is done, in [0, 1].
            num_validations: Of the whole run.
        """
        share = {
            "constant": 1.0,
            "linear": progress,
            "entropy": min(1.0, self.grown / max(1, num_validations - 1)),
        }[config.schedule]
        return _horizon_at(config, share, num_trace_tokens)

    def note(self, entropies: Iterable[SequenceABC[float]]) -> None:
        """Count the entropies of the tokens of a step, rollout by rollout."""
        for entropies_G in entropies:
            self.entropy_sum += math.fsum(entropies_G)
            self.num_tokens += len(entropies_G)

    def close_interval(self, floor: float) -> float | None:
        """Grow if the entropy since the last validation is healthy, and begin the next interval.

        Returns:
            That mean entropy in nats; None where nothing was sampled.
        """
        if not self.num_tokens:
            return None
        mean = self.entropy_sum / self.num_tokens
        self.entropy_sum, self.num_tokens = 0.0, 0
        if self.first_entropy is None:
            self.first_entropy = mean
        self.grown += mean >= floor * self.first_entropy
        return mean


def in_tokens(amount: float, kind: float, num_trace_tokens: int) -> int:
    """An amount of tokens, at least one; a share of the trace where `kind` is a share."""
    if isinstance(kind, int):
        return max(1, math.floor(amount + 1e-9))
    return max(1, math.floor(amount * num_trace_tokens + 1e-9))


def _horizon_at(config: RolloutConfig, share: float, num_trace_tokens: int) -> int:
    """The horizon in tokens when it has gone this share of its way."""
    start = config.horizon if config.horizon_start is None else config.horizon_start
    return in_tokens(start + share * (config.horizon - start), config.horizon, num_trace_tokens)


def num_prompts_of_a_step(config: RolloutConfig, batch_size: int) -> int:
    """Prompts for which the student writes in a step, `num_samples` rollouts of each."""
    return round(config.share * batch_size) // config.num_samples


def num_completion_tokens(sequence: Sequence) -> int:
    """Tokens behind the prompt: what a share of the trace is a share of."""
    return len(sequence) - sequence.prompt.end


def num_context_tokens(config: RolloutConfig, sequence: Sequence) -> int:
    """Tokens before the first sampled one: the prompt and the prefix, which never holds the last token."""
    if not config.prefix:
        return sequence.prompt.end
    completion = num_completion_tokens(sequence)
    prefix = in_tokens(config.prefix, config.prefix, completion)
    return sequence.prompt.end + min(prefix, completion - 1)


def stand_in(config: RolloutConfig, sequence: Sequence) -> Example:
    """What a rollout is expected to cost before it is written: as long as the trace, or the horizon.

    A horizon that grows is taken halfway: its mean over the training, if at each validation it grows. A
    prompt alone says nothing about the length of its answer: the horizon it is.
    """
    start = num_context_tokens(config, sequence)
    horizon = _horizon_at(config, 0.5, num_completion_tokens(sequence))
    if sequence.is_prompt:
        sequence = _lengthened(sequence, horizon)
    end = min(len(sequence), start + horizon)
    kept = select(sequence, np.arange(end))
    return Example(kept, np.arange(end) >= start)


def _lengthened(prompt: Sequence, num_tokens: int) -> Sequence:
    """A prompt alone with so many tokens behind it, whichever: its last one again and again."""
    ids_T = np.pad(prompt.input_ids_T, (0, num_tokens), mode="edge")
    cot = Span(prompt.prompt.end, len(ids_T))
    return Sequence(
        prompt.trace_id, ids_T, prompt.prompt, cot, Span(cot.end, cot.end), meta=prompt.meta
    )


def num_most_tokens(config: RolloutConfig, sequence: Sequence) -> int:
    """Tokens of the longest rollout of a prompt at any moment, prompt and prefix included."""
    ends = [config.horizon, config.horizon_start or config.horizon]
    longest = max(in_tokens(end, end, num_completion_tokens(sequence)) for end in ends)
    return num_context_tokens(config, sequence) + longest


def check_context(
    config: RolloutConfig, sequences: SequenceABC[Sequence], model_config: Any, path: str
) -> None:
    """Check that prompt, prefix and horizon fit a model.

    Raises:
        ConfigError: They do not.
    """
    most = getattr(model_config, "max_position_embeddings", None)
    if most is None:
        return
    for sequence in sequences:
        context, whole = num_context_tokens(config, sequence), num_most_tokens(config, sequence)
        if context >= most:
            raise ConfigError(
                f"traces.max_tokens must leave out prompts that fill the context of {path}, {most} "
                f"tokens; prompt and prefix of {sequence.trace_id} have {context}. Set it lower."
            )
        if whole > most:
            raise ConfigError(
                f"rollout.horizon must fit the context of {path}, {most} tokens; prompt and prefix of "
                f"{sequence.trace_id} have {context} and {whole - context} may follow. Lower it, or "
                "leave long prompts out with traces.max_tokens."
            )
