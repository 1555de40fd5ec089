"""In which precision models compute, and that a run keeps the one it was begun in."""

from __future__ import annotations

from typing import Any

import torch

from leadspan.config import RunConfig
from leadspan.devices import resolve_bf16, resolve_dtype


def bf16_products(device: torch.device, enabled: bool) -> torch.autocast:
    """Autocast to bfloat16 over weights of any dtype, as a context manager.

    Copies of the weights are not cached: a forward pass uses each once, and under gradient checkpointing
    the cache would hold all of them, half the size of the model, where the loss needs the room.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def describe_precision(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """What `auto` comes to on this device, for the run folder."""
    teacher = config.teacher if config.loss.kd_ratio > 0 else None
    is_live = teacher is not None and teacher.cache is None
    return {
        "bf16": resolve_bf16(config.training.bf16, device),
        "teacher_dtype": resolve_dtype(teacher.dtype, device) if teacher and is_live else None,
    }


def settle_precision(config: RunConfig, precision: dict[str, Any]) -> RunConfig:
    """The config with `auto` replaced by what `describe_precision` said when the run was begun."""
    training = config.training.model_copy(update={"bf16": precision["bf16"]})
    update: dict[str, Any] = {"training": training}
    if config.teacher is not None and precision["teacher_dtype"] is not None:
        update["teacher"] = config.teacher.model_copy(update={"dtype": precision["teacher_dtype"]})
    return config.model_copy(update=update)
