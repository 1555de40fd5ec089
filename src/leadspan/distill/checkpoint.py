"""Checkpoints that a killed run goes on from, on the same or another number of ranks.

Written by torch.distributed.checkpoint into a temporary folder that is renamed when whole. Knows
nothing about losses or data; what the loop wants to remember is a JSON mapping.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from leadspan.distill.parallel import Ranks
from leadspan.errors import RunError
from leadspan.runs import read_json, write_json_atomic

OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)
BEST = "best"


def save_checkpoint(
    folder: Path,
    ranks: Ranks,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    memory: dict[str, Any],
) -> None:
    """Write `folder` so that it is there whole or not at all.

    Args:
        folder: Where; what stood there is replaced.
        ranks: Every rank calls this.
        model: Only its trainable weights are written.
        optimizer: None writes weights alone.
        memory: What the loop wants back, as JSON.

    Raises:
        RunError: The disk refuses.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    if ranks.is_first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
    ranks.barrier()
    state: dict[str, Any] = {"model": get_model_state_dict(model, options=OPTIONS)}
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=OPTIONS)
        state[f"rng_{ranks.rank}"] = _rng_state(ranks)
    try:
        with _quiet():
            save(state, checkpoint_id=temporary, no_dist=ranks.size == 1)
        ranks.barrier()
        if ranks.is_first:
            write_json_atomic(temporary / "memory.json", {**memory, "num_ranks": ranks.size})
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    except (OSError, RunError, CheckpointException) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(
            f"{folder}: the checkpoint cannot be written ({' '.join(str(error).split())[:200]}). "
            "Make room and run again; training goes on from the last whole checkpoint."
        ) from error
    ranks.barrier()


def load_checkpoint(
    folder: Path,
    ranks: Ranks,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> dict[str, Any]:
    """Load what `save_checkpoint` wrote into model and optimiser, and give back its `memory`."""
    memory: dict[str, Any] = read_json(folder / "memory.json")
    state: dict[str, Any] = {"model": get_model_state_dict(model, options=OPTIONS)}
    same_ranks = memory["num_ranks"] == ranks.size
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=OPTIONS)
        if same_ranks:
            state[f"rng_{ranks.rank}"] = _rng_state(ranks)
    with _quiet():
        load(state, checkpoint_id=folder, no_dist=ranks.size == 1)
    set_model_state_dict(model, state["model"], options=OPTIONS)
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=OPTIONS)
        if same_ranks:
            _set_rng_state(state[f"rng_{ranks.rank}"])
    return memory


def gather_weights(model: torch.nn.Module) -> dict[str, Any]:
    """All trainable weights, whole, on the CPU of the first rank; every rank calls this."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights: dict[str, Any] = get_model_state_dict(model, options=options)
    return weights


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that one process saves alone: that is what `no_dist` asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _rng_state(ranks: Ranks) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_rng_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps lies."""
    return folder / f"step-{step:08d}"


def find_last(folder: Path) -> Path | None:
    """The latest whole checkpoint, or None."""
    return max(folder.glob("step-*"), default=None)


def drop_all_but(folder: Path, kept: Path) -> None:
    """Delete the other step checkpoints; the best one stays."""
    for other in folder.glob("step-*"):
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
