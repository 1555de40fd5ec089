"""In which precision models compute."""

from __future__ import annotations

import torch


def bf16_products(device: torch.device, enabled: bool) -> torch.autocast:
    """Autocast to bfloat16 over weights of any dtype, as a context manager.

    Copies of the weights are not cached: a forward pass uses each once, and under gradient checkpointing
    the cache would hold all of them, half the size of the model, where the loss needs the room.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
