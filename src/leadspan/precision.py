"""In which precision models compute: what a device does well, and that a run keeps what it was begun in.

Knows nothing about models, losses or data.
"""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import torch

from leadspan.config import RunConfig

Bf16 = bool | Literal["auto"]
PROBE_SIZES = (512, 1024, 2048)
"""Rows, inner and outer size of the product that is timed: large enough to keep the units busy."""
PROBE_SECONDS = 0.2


def has_bf16_units(device: torch.device | str) -> bool:
    """True where products in bfloat16 are faster than in float32.

    Of GPUs those that support it without emulation, of CPUs those with AMX or AVX-512 bf16. Elsewhere a CPU
    takes up to a hundred times as long in bfloat16.
    """
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.device(device).type != "cpu":
        return False
    # Not public; absent means a build for another architecture.
    found = (
        getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("amx_tile", "avx512_bf16")
    )
    return any(is_supported() for is_supported in found if is_supported is not None)


def own_device() -> Literal["cuda", "cpu"]:
    """Where a model of this process runs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def memory_bytes(device: torch.device | str) -> int:
    """All the memory of a card, or of this machine."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resolve_bf16(setting: Bf16, device: torch.device | str) -> bool:
    """Whether to compute in bfloat16: as set, or as the device is good at it."""
    return has_bf16_units(device) if setting == "auto" else setting


def resolve_dtype(setting: str, device: torch.device | str) -> Literal["float32", "bfloat16"]:
    """Dtype of weights: as set, or bfloat16 where the device is good at it."""
    if setting == "auto":
        return "bfloat16" if has_bf16_units(device) else "float32"
    return "float32" if setting == "float32" else "bfloat16"


def explain_bf16(key: str, enabled: bool, device: torch.device | str) -> str:
    """One line on what `auto` chose for a key of run.yaml, and why."""
    is_gpu = torch.device(device).type == "cuda"
    name = "this GPU" if is_gpu else "this CPU"
    if enabled:
        return f"{key} auto: bfloat16, for which {name} has units."
    lacks = "does not support bfloat16" if is_gpu else "has no AMX or AVX-512 bf16"
    return f"{key} auto: float32, because {name} {lacks}."


@torch.no_grad()
def measure_flops_per_second(device: torch.device, bf16: bool) -> float:
    """Time a product for a fifth of a second; FLOPs a second, a multiply-add counted as two."""
    rows, inner, outer = PROBE_SIZES
    dtype = torch.bfloat16 if bf16 else torch.float32
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(inner, outer, device=device, dtype=dtype)

    def multiply() -> None:
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    multiply()
    count, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < PROBE_SECONDS or not count:
        multiply()
        count += 1
    return 2 * rows * inner * outer * count / seconds


def bf16_products(device: torch.device, enabled: bool) -> torch.autocast:
    """Autocast to bfloat16 over weights of any dtype, as a context manager.

    Copies of the weights are not cached: a forward pass uses each once, and under gradient checkpointing
    the cache would hold all of them, half the size of the model, where the loss needs the room.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def describe_precision(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """What `auto` comes to on this device, for the run folder."""
    dtypes = [
        resolve_dtype(teacher.dtype, device) if teacher.is_live else None
        for teacher in config.all_teachers
    ]
    return {
        "bf16": resolve_bf16(config.training.bf16, device),
        "teacher_dtype": dtypes if config.teachers else next(iter(dtypes), None),
    }


def settle_precision(config: RunConfig, precision: dict[str, Any]) -> RunConfig:
    """The config with `auto` replaced by what `describe_precision` said when the run was begun."""
    training = config.training.model_copy(update={"bf16": precision["bf16"]})
    update: dict[str, Any] = {"training": training}
    dtype = precision["teacher_dtype"]
    if config.teacher is not None and dtype is not None:
        update["teacher"] = config.teacher.model_copy(update={"dtype": dtype})
    if config.teachers and dtype is not None:
        update["teachers"] = tuple(
            teacher.model_copy(update={"dtype": one or teacher.dtype})
            for teacher, one in zip(config.teachers, dtype, strict=True)
        )
    return config.model_copy(update=update)
