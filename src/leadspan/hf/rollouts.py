"""Rollouts in a Trainer's step: its first micro-batches become what the student writes for their rows.

Each rank writes for its own rows. Knows nothing about losses or the Trainer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from leadspan.config import RunConfig
from leadspan.errors import ConfigError
from leadspan.hf.rows import example_of, inputs_of
from leadspan.parallel import Ranks
from leadspan.training.objective import Objective
from leadspan.training.run import build_rollouts


class StepRollouts:
    """Writes the rollouts of a step with the weights as they are before it.

    Args:
        config: With `rollout`; `training.batch_size` is this rank's rows of a step.
        objective: Holds the weights in training, whole.
        tokenizer: The student's.
        rows: Prepared, all of them: prompts and horizon must fit the student.
        micro_batch_size: Rows of a forward pass.
        device: Of the weights.

    Raises:
        ConfigError: The settings need what only `leadspan train` has, or do not fit rows or micro-batches.
    """

    def __init__(
        self,
        config: RunConfig,
        objective: Objective,
        tokenizer: Any,
        rows: Iterable[Mapping[str, Any]],
        micro_batch_size: int,
        device: torch.device,
    ) -> None:
        rollout = config.rollout
        assert rollout is not None
        for key, needed in (("schedule", ("constant", "linear")), ("refresh_every_steps", (1,))):
            found = getattr(rollout, key)
            if found not in needed:
                allowed = " or ".join(map(str, needed))
                raise ConfigError(
                    f"LeadSpanTrainer: rollout.{key} must be {allowed}; got {found!r}. Use `leadspan train`."
                )
        if rollout.backend == "vllm":
            raise ConfigError(
                "LeadSpanTrainer: rollout.backend must be local or endpoint; got 'vllm'. Use "
                "`leadspan train`."
            )
        num_rows = round(rollout.share * config.training.batch_size)
        if num_rows % micro_batch_size:
            raise ConfigError(
                "LeadSpanTrainer: rollout.share times a rank's rows of a step must be a multiple of "
                f"per_device_train_batch_size ({micro_batch_size}); got {num_rows}. Raise "
                "gradient_accumulation_steps, or set share to 1."
            )
        if not hasattr(rows, "__len__"):
            raise ConfigError(
                "LeadSpanTrainer: train_dataset must have a length with rollout; got a stream. Load it whole."
            )
        self._num_batches = num_rows // micro_batch_size
        self._num_samples = rollout.num_samples
        sequences = [example_of(row).sequence for row in rows]
        alone = Ranks(0, 1, device)
        self._writer = build_rollouts(config, alone, objective, tokenizer, sequences)

    def replace(
        self, inputs: list[dict[str, Any]], step: int, num_steps: int
    ) -> list[dict[str, Any]]:
        """A step's inputs, of which the first micro-batches are rollouts.

        Args:
            inputs: Of this rank.
            step: 0-based.
            num_steps: Of the whole training.
        """
        assert self._writer is not None
        asked = inputs[: self._num_batches]
        rows = [example.sequence for each in asked for example in each["batch"].examples]
        prompts = rows[: max(1, len(rows) // self._num_samples)]
        self._writer.write({step: prompts}, num_steps, num_validations=0)
        written = [rollout.example for rollout in self._writer.take(step, prompts)]
        size = -(-len(written) // len(asked))
        rolled = [written[place * size : (place + 1) * size] for place in range(len(asked))]
        batches = [{**inputs_of(examples), "is_rollout": True} for examples in rolled]
        return [*batches, *inputs[self._num_batches :]]
