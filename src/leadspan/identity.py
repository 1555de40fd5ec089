"""When two configs are the same: which keys change a result, which only its speed, which nothing at all.

Knows the parts of run.yaml; knows no files, models or data.
"""

from __future__ import annotations

from typing import Any

from leadspan.config import LossConfig, RunConfig

SPEED_KEYS = (
    "training.micro_batch_tokens",
    "training.gradient_checkpointing",
    "training.checkpoint_every_steps",
    "traces.num_processes",
    "tracking",
    "evaluation",
)
"""Keys, or whole parts, that may change while a run goes on: no weight depends on them."""
READS_BETA = ("jsd", "skew_kl", "reverse_skew_kl", "mixed_kl")


def effective(config: RunConfig) -> RunConfig:
    """The same run with each key that changes nothing at its default; equal runs become equal."""
    supervision, loss = config.supervision, config.loss
    if not supervision.mask_fraction:
        supervision = supervision.model_copy(update={"mask_seed": 0})
    teacher = config.teacher
    if loss.kd_ratio == 0:
        loss, teacher = LossConfig(kd_ratio=0), None
    elif loss.divergence not in READS_BETA:
        loss = loss.model_copy(update={"beta": LossConfig().beta})
    return config.model_copy(
        update={
            "truncation": config.truncation.effective(),
            "supervision": supervision,
            "loss": loss,
            "teacher": teacher,
        }
    )


def result_keys(config: RunConfig) -> dict[str, Any]:
    """What the trained weights depend on, as plain data: the effective config without SPEED_KEYS."""
    content = effective(config).model_dump(mode="json")
    for key in SPEED_KEYS:
        part, _, name = key.partition(".")
        if name:
            del content[part][name]
        else:
            del content[part]
    return content
