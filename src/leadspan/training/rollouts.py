"""Rollouts: sequences that the student writes during training, for the teacher to score.

A rollout is a prompt, perhaps a lead of the prompt's own trace, and what the student samples behind
it, up to a horizon. It is an `Example` like any other: batches, teacher rows and the loss do not know
who wrote it. Knows nothing about engines, losses or optimisers.

Shape suffixes: T tokens of a sequence, G tokens that the student wrote.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as SequenceABC
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from leadspan.config import RolloutConfig
from leadspan.errors import RunError
from leadspan.generation.requests import Backend, Request, seed_of
from leadspan.parallel import Ranks
from leadspan.records import Example, Sequence, Span
from leadspan.traces.horizon import (
    Horizon,
    num_completion_tokens,
    num_context_tokens,
    num_prompts_of_a_step,
    stand_in,
)
from leadspan.traces.render import Renderer


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the student wrote for one prompt."""

    prompt_id: str
    sample: int
    example: Example
    text: str
    """What the student wrote, end token included."""
    ended: bool
    """It wrote an end token, which is scored too; a rollout that reached the horizon has none."""
    entropies_G: tuple[float, ...]
    """Entropy of the student's distribution at each token, in nats, before top_p and top_k; empty where
    what wrote it does not say."""
    staleness: int | None
    """Optimiser steps that the weights have taken since they wrote it; None for a server's weights."""

    @property
    def num_tokens(self) -> int:
        """Written, and scored."""
        return self.example.num_scored_tokens

    @property
    def mean_entropy(self) -> float | None:
        """In nats; None where it is not known."""
        return math.fsum(self.entropies_G) / self.num_tokens if self.entropies_G else None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was written for one request of a step, which need not have come yet."""

    ids_G: SequenceABC[int]
    entropies_G: SequenceABC[float]

    def pack(self) -> list[str]:
        """As JSON, to the bit: entropies come as float32."""
        return [_pack(self.ids_G, "<i4"), _pack(self.entropies_G, "<f4")]

    @classmethod
    def unpack(cls, packed: SequenceABC[str]) -> Sampled:
        """What `pack` gave."""
        ids, entropies = packed
        return cls(_unpack(ids, "<i4"), _unpack(entropies, "<f4"))


def _pack(values: SequenceABC[float], dtype: str) -> str:
    return base64.b64encode(np.array(values, dtype=dtype).tobytes()).decode("ascii")


def _unpack(packed: str, dtype: str) -> list[Any]:
    values: list[Any] = np.frombuffer(base64.b64decode(packed), dtype=dtype).tolist()
    return values


class RolloutWriter:
    """Has rollouts written: says of what, how long, by which seed, and makes examples of them.

    By the local back end, a rollout depends on the weights, the run's seed, the step, the prompt and the
    sample number, not on what is written beside it (in float32).
    """

    def __init__(
        self,
        config: RolloutConfig,
        engine: Backend,
        ranks: Ranks,
        decode: Callable[[SequenceABC[int]], str],
        vocab_size: int,
        stop_ids: Iterable[int],
        close_ids: tuple[int, ...],
        batch_size: int,
        seed: int,
    ) -> None:
        """`vocab_size` is of the tokens that student and teacher share."""
        self._config, self._engine, self._ranks = config, engine, ranks
        self._decode, self._vocab_size = decode, vocab_size
        self._stop_ids, self._close_ids = frozenset(stop_ids), close_ids
        self._seed = seed
        self.num_prompts = num_prompts_of_a_step(config, batch_size)
        """Of a step."""
        self.refresh_every_steps = config.refresh_every_steps
        self.horizon = Horizon()
        self._pending: dict[int, list[Sampled]] = {}
        """By step, what was written for it and not yet used."""

    def expected(self, sequences: Iterable[Sequence]) -> list[Example]:
        """Stand-ins of the rollouts of a step for its cost: the traces themselves, up to the horizon."""
        copies = range(self._config.num_samples)
        return [stand_in(self._config, one) for one in sequences for _ in copies]

    def write(
        self,
        prompts: Mapping[int, SequenceABC[Sequence]],
        num_steps: int,
        num_validations: int,
    ) -> None:
        """Write the rollouts of one or several steps with the weights as they are; all ranks call this.

        Args:
            prompts: By 0-based step, uncut sequences, one a prompt.
            num_steps: Of the whole run.
            num_validations: Of the whole run.

        Raises:
            RunError: One could not be had; then none is kept.
        """
        asked = [
            (step, sequence, sample)
            for step, sequences in prompts.items()
            for sequence in sequences
            for sample in range(self._config.num_samples)
        ]

        def request(place: int) -> Request:
            step, sequence, sample = asked[place]
            progress = step / max(1, num_steps - 1)
            trace_tokens = num_completion_tokens(sequence)
            return Request(
                key=str(place),
                prompt_ids=tuple(self._context(sequence).tolist()),
                seed=seed_of(self._seed, step, sequence.trace_id, sample),
                max_new_tokens=self.horizon.length(
                    self._config, trace_tokens, progress, num_validations
                ),
            )

        # In one piece, so that the samples of a prompt are together and its prompt is read once.
        rank, size = self._ranks.rank, self._ranks.size
        mine = range(len(asked) * rank // size, len(asked) * (rank + 1) // size)
        found = self._ranks.together(lambda: self._sample([request(place) for place in mine]))
        sampled = {key: one for part in found for key, one in part.items()}
        for place, (step, _, _) in enumerate(asked):
            self._pending.setdefault(step, []).append(sampled[str(place)])

    def _sample(self, requests: SequenceABC[Request]) -> dict[str, Sampled]:
        """This rank's share, by the requests' keys."""
        sampled = {}
        for answer in self._engine.generate(requests):
            if answer.finish_reason == "error":
                raise RunError(f"no answer could be had: {answer.error}.")
            highest = max(answer.token_ids)
            if highest >= self._vocab_size:
                raise RunError(
                    f"rollout.backend {self._config.backend} wrote token {highest}, and student and "
                    f"teacher share the first {self._vocab_size}. Write with backend local."
                )
            sampled[answer.key] = Sampled(answer.token_ids, answer.entropies)
        return sampled

    def is_written(self, step: int) -> bool:
        """The rollouts of a 0-based step are there and wait for `take`."""
        return step in self._pending

    def take(self, step: int, sequences: SequenceABC[Sequence]) -> list[Rollout]:
        """The rollouts of a 0-based step, every rank's, in order; they are given away once.

        Args:
            step: One of those that were written.
            sequences: Those that `write` had for it.
        """
        asked = [
            (sequence, sample)
            for sequence in sequences
            for sample in range(self._config.num_samples)
        ]
        staleness = None
        if self._config.backend != "endpoint":
            staleness = step % self._config.refresh_every_steps
        rollouts = [
            self._rollout(sequence, sample, sampled, staleness)
            for (sequence, sample), sampled in zip(asked, self._pending.pop(step), strict=True)
        ]
        self.horizon.note(rollout.entropies_G for rollout in rollouts)
        return rollouts

    def state(self) -> dict[str, Any]:
        """What outlives a kill inside the checkpoint, as JSON."""
        return {
            "horizon": asdict(self.horizon),
            "pending": {
                str(step): [one.pack() for one in sampled]
                for step, sampled in self._pending.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.horizon = Horizon(**state["horizon"])
        self._pending = {
            int(step): [Sampled.unpack(packed) for packed in sampled]
            for step, sampled in state["pending"].items()
        }

    def note_validation(self) -> None:
        """A validation has taken place, at which the horizon may grow."""
        self.horizon.close_interval(self._config.entropy_floor)

    def _context(self, sequence: Sequence) -> Any:
        """What stands before the first sampled token."""
        return sequence.input_ids_T[: num_context_tokens(self._config, sequence)]

    def _rollout(
        self, sequence: Sequence, sample: int, sampled: Sampled, staleness: int | None
    ) -> Rollout:
        ids = sampled.ids_G
        context_T = self._context(sequence)
        ended = ids[-1] in self._stop_ids
        ids_T = np.concatenate([context_T, np.array(ids, dtype=np.int32)])
        edge = _find(ids_T, self._close_ids, sequence.prompt.end)
        supervised_T = np.arange(len(ids_T)) >= len(context_T)
        rolled = Sequence(
            trace_id=f"{sequence.trace_id}#{sample}",
            input_ids_T=ids_T,
            prompt=sequence.prompt,
            cot=Span(sequence.prompt.end, edge or len(ids_T)),
            answer=Span(edge or len(ids_T), len(ids_T)),
            was_cut=not ended,
            closed=edge is not None,
            meta=sequence.meta,
        )
        return Rollout(
            prompt_id=sequence.trace_id,
            sample=sample,
            example=Example(rolled, supervised_T),
            text=self._decode(ids),
            ended=ended,
            entropies_G=tuple(sampled.entropies_G),
            staleness=staleness,
        )


def _find(ids_T: Any, pattern: tuple[int, ...], start: int) -> int | None:
    """The end of the first place at or after `start` where `pattern` stands."""
    if not pattern:
        return None
    width = len(pattern)
    windows = (
        np.lib.stride_tricks.sliding_window_view(ids_T[start:], width)
        if len(ids_T) >= start + width
        else np.empty((0, width))
    )
    places = np.flatnonzero((windows == np.array(pattern)).all(axis=1))
    return start + int(places[0]) + width if len(places) else None


def closing_ids(renderer: Renderer) -> tuple[int, ...]:
    """The tokens that close a chain of thought, as traces are rendered.

    Of a marker with white space around it only the marker's own token counts, where it has one.
    """
    closing = renderer.encoder.control(renderer.layout.block.close)
    own = [token for token in closing if token in renderer.tokenizer.added_tokens_decoder]
    return (own[0],) if len(own) == 1 else tuple(closing)
