"""Checkpoints that a killed run goes on from, on the same or another number of ranks.

A checkpoint is a folder of safetensors files under names that are never used twice, and a
`manifest.json`, replaced in one move, that lists them with their checksums and holds the trainer's
state. So the folder is the old checkpoint or the new one at every moment, and nothing in it can run
code. Knows nothing about losses or data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from leadspan.errors import DamagedError, RunError
from leadspan.integrity import check_folder
from leadspan.parallel import Ranks, reshard
from leadspan.progress import warn
from leadspan.runs import read_json, write_json_atomic
from leadspan.training.shards import ShardReader, write_shards

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
NUM_KEPT = 2
"""Step checkpoints that stay: the last, and the one to go back to where the last is damaged."""

Check = Callable[[Mapping[str, Any]], None]


def save_checkpoint(
    folder: Path,
    ranks: Ranks,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    trainer_state: Mapping[str, Any],
) -> None:
    """Write a checkpoint; one that is in `folder` already can be loaded until this one can.

    Args:
        folder: Where.
        ranks: Every rank calls this.
        model: Only its trainable weights are written.
        optimizer: None writes weights alone.
        trainer_state: What the loop wants back, as JSON; the first rank's counts.

    Raises:
        RunError: The disk refuses.
    """
    reshard(model)

    def write_part() -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        own = {} if optimizer is None else _rng_state(ranks)
        return write_shards(folder, ranks, _named_tensors(model, optimizer), own)

    def write_manifest() -> None:
        if ranks.is_first:
            content = {
                "format_version": FORMAT_VERSION,
                "num_ranks": ranks.size,
                "trainer_state": dict(trainer_state),
                "files": files,
            }
            write_json_atomic(folder / MANIFEST, content)

    try:
        parts = ranks.together(lambda: _try(folder, write_part))
        files = {name: described for part in parts for name, described in part.items()}
        ranks.together(lambda: _try(folder, write_manifest))
    finally:
        if ranks.is_first:
            _drop_unlisted(folder)


def _try(folder: Path, write: Callable[[], Any]) -> Any:
    try:
        return write()
    except (OSError, RunError, SafetensorError) as error:
        raise RunError(
            f"{folder}: the checkpoint cannot be written ({' '.join(str(error).split())[:200]}). "
            "Make room and run again; training goes on from the last whole checkpoint."
        ) from error


def _drop_unlisted(folder: Path) -> None:
    """Delete tensor files that the manifest does not list: of an earlier save, or of a failed one."""
    try:
        listed = read_json(folder / MANIFEST, sealed=True)["files"]
    except RunError:
        listed = {}
    for path in folder.glob("*rank-*"):
        if path.name not in listed:
            path.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path,
    ranks: Ranks,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    check: Check | None = None,
) -> dict[str, Any]:
    """Load what `save_checkpoint` wrote into model and optimiser, once its checksums were compared.

    Args:
        folder: The checkpoint.
        ranks: Every rank calls this; each compares its share of the files.
        model: Gets its trainable weights.
        optimizer: None loads weights alone.
        check: Looks at the trainer's state before anything is loaded; raises DamagedError.

    Returns:
        The trainer's state.

    Raises:
        DamagedError: A file is missing or is not what was written; names it.
        RunError: The checkpoint has an earlier format, or is of another student.
    """

    def verify() -> dict[str, Any]:
        manifest = _read_manifest(folder)
        files = manifest["files"]
        check_folder(folder, files, sorted(files)[ranks.rank :: ranks.size])
        if check is not None:
            check(manifest["trainer_state"])
        return manifest

    manifest = ranks.together(verify)[ranks.rank]
    reader = ShardReader(folder, manifest["files"])
    reshard(model)
    for name, parameter in _trained(model):
        reader.fill(f"model.{name}", parameter)
        if optimizer is not None:
            _load_optimizer_state(reader, f"optimizer.{name}.", optimizer, parameter)
    if optimizer is not None and manifest["num_ranks"] == ranks.size:
        _set_rng_state(reader, ranks)
    state: dict[str, Any] = manifest["trainer_state"]
    return state


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file() and (folder / ".metadata").exists():
        raise RunError(
            f"{folder}: is a checkpoint of an earlier version, whose .metadata can run code and is "
            "not opened. Finish the run with the version that began it, or delete its folder."
        )
    manifest: dict[str, Any] = read_json(folder / MANIFEST, sealed=True)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise RunError(
            f"{folder / MANIFEST}: format_version must be {FORMAT_VERSION}; got "
            f"{manifest.get('format_version')!r}. Use the leadspan version that wrote it."
        )
    return manifest


def load_last(
    folder: Path,
    ranks: Ranks,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    check: Check,
) -> dict[str, Any] | None:
    """Load the latest step checkpoint that is whole, and say which are passed over.

    Returns:
        The trainer's state, or None where no checkpoint was ever finished.

    Raises:
        RunError: None is whole, though one was finished; or see `load_checkpoint`.
    """
    damage: DamagedError | None = None
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not any((path / name).exists() for name in (MANIFEST, ".metadata")):
            _warn(ranks, f"{path}: was not finished, and is passed over.")
            continue
        try:
            return load_checkpoint(path, ranks, model, optimizer, check)
        except DamagedError as error:
            damage = error
            _warn(ranks, f"{error} Looking for the checkpoint before {path.name}.")
    if damage is not None:
        raise RunError(
            f"{damage} No whole checkpoint is left; delete {folder} to start from the first step."
        )
    return None


def load_best(folder: Path, ranks: Ranks, model: torch.nn.Module, step: int) -> None:
    """Load the weights after `step` steps, from the best checkpoint or the step's own.

    Raises:
        RunError: Neither is whole.
    """
    damage: DamagedError | None = None
    for path in (best_folder(folder, step), step_folder(folder, step)):
        try:
            load_checkpoint(path, ranks, model, None)
        except DamagedError as error:
            damage = damage or error
            _warn(ranks, f"{error}")
        else:
            return
    raise RunError(
        f"{damage} The weights of step {step}, the best, are lost; delete the run folder and train "
        "again."
    )


def _warn(ranks: Ranks, text: str) -> None:
    if ranks.is_first:
        warn(text)


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def _named_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer | None
) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in _trained(model):
        yield f"model.{name}", parameter
        if optimizer is not None:
            for key, value in optimizer.state[parameter].items():
                yield f"optimizer.{name}.{key}", value


def _load_optimizer_state(
    reader: ShardReader, prefix: str, optimizer: torch.optim.Optimizer, parameter: Tensor
) -> None:
    """Make the state of one parameter anew: moments are sharded as it is, counters are not."""
    optimizer.state[parameter].clear()
    for name in reader.names(prefix):
        shape = reader.shape(name)
        value = torch.zeros_like(parameter) if shape else torch.zeros((), device=parameter.device)
        reader.fill(name, value)
        optimizer.state[parameter][name.removeprefix(prefix)] = value


def gather_weights(model: torch.nn.Module) -> dict[str, Any]:
    """All trainable weights, whole, on the CPU of the first rank; every rank calls this."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights: dict[str, Any] = get_model_state_dict(model, options=options)
    return weights


def _rng_state(ranks: Ranks) -> dict[str, Tensor]:
    state = {f"rng.{ranks.rank}.cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        state[f"rng.{ranks.rank}.cuda"] = torch.cuda.get_rng_state()
    return state


def _set_rng_state(reader: ShardReader, ranks: Ranks) -> None:
    torch.set_rng_state(reader.read(f"rng.{ranks.rank}.cpu"))
    if ranks.device.type == "cuda" and reader.names(f"rng.{ranks.rank}.cuda"):
        torch.cuda.set_rng_state(reader.read(f"rng.{ranks.rank}.cuda"))


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps lies."""
    return folder / f"step-{step:08d}"


def best_folder(folder: Path, step: int) -> Path:
    """Where the weights lie that were the best after `step` steps."""
    return folder / f"best-{step:08d}"


def find_last(folder: Path) -> Path | None:
    """The latest step checkpoint that was finished, or None."""
    return max(_finished(folder), default=None)


def _finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"step-*/{MANIFEST}"))


def drop_old(folder: Path, best_step: int | None) -> None:
    """Delete all but the last step checkpoints and the best weights that they or the loop name."""
    kept = _finished(folder)[-NUM_KEPT:]
    best_steps = {best_step}
    for path in kept:
        try:
            best_steps.add(_read_manifest(path)["trainer_state"]["totals"]["best_step"])
        except RunError:  # damaged: it names none
            continue
    best = {best_folder(folder, step) for step in best_steps if step is not None}
    for path in folder.glob("*-*"):
        if path.is_dir() and path not in best and path not in kept:
            (path / MANIFEST).unlink(missing_ok=True)  # never half a checkpoint that looks whole
            shutil.rmtree(path, ignore_errors=True)
