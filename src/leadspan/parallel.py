"""Ranks: one process, or several under torchrun with the student sharded by FSDP2.

The sharded root is the small module whose forward returns the loss, so the head is gathered while the
fused loss reads it and tied embeddings stay in one group. Knows nothing about losses or data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from leadspan.errors import LeadspanError

T = TypeVar("T")
Loaded = TypeVar("Loaded", bound=torch.nn.Module)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True on the rank that writes files and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The value of each rank, on every rank; it travels between the processes of this run alone."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def together(self, task: Callable[[], T]) -> list[T]:
        """Do a task on every rank; where it fails on one, all raise that rank's error.

        Returns:
            What each rank's task gave.

        Raises:
            LeadspanError: The first rank's that failed.
        """
        result: T | LeadspanError
        try:
            result = task()
        except LeadspanError as error:
            result = error
        results = self.gather(result)
        for each in results:
            if isinstance(each, LeadspanError):
                raise each
        return results  # type: ignore[return-value]

    def from_first(self, task: Callable[[], T]) -> T:
        """What a task gives on the first rank, which alone does it, on every rank.

        Raises:
            LeadspanError: It failed there.
        """
        first, *_ = self.together(lambda: task() if self.is_first else None)
        return first  # type: ignore[return-value]

    def agree(self, flag: bool) -> bool:
        """True on every rank if it is true on any."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the process group that torchrun describes in the environment, or stay alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if size == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def load_sharded(
    load: Callable[[str], Loaded], shard: Callable[[Loaded], None], ranks: Ranks
) -> Loaded:
    """Load a module of which each rank's device holds its shards and, while loading, one tensor more.

    The first rank reads the weights into its own memory and sends them, a tensor at a time.

    Args:
        load: Builds the module on the CPU, or on device `meta` without weights.
        shard: Applies `fully_shard`.
        ranks: Every rank calls this.
    """
    module = load("cpu" if ranks.is_first else "meta")
    weights = module.state_dict() if ranks.is_first else {}
    buffers = dict(module.named_buffers())
    shapes = module.to("meta")
    _tie(shapes)
    shard(shapes)
    shapes.to_empty(device=ranks.device)
    _tie(shapes)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(shapes, weights, options=options)
    for name, buffer in shapes.named_buffers():  # those that no state dict holds among them
        if ranks.is_first:
            buffer.copy_(buffers[name])
        dist.broadcast(buffer, src=0)
    return shapes


def _tie(module: torch.nn.Module) -> None:
    """Tie weights again after a move, which gives every use of a weight a copy of its own."""
    for child in module.modules():
        tie = getattr(child, "tie_weights", None)
        if callable(tie):
            tie()


def shard_student(root: torch.nn.Module, layers: Any, bf16: bool) -> None:
    """Shard each decoder layer, then what is left (embeddings, norm, head) with the root.

    Gradients are summed over ranks, not averaged: the loss is already divided by the scored tokens of
    the whole step.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32
    )
    for module in [*layers, root]:
        fully_shard(module, mp_policy=policy)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no scaled sum
            module.set_force_sum_reduction_for_comms(True)


def shard_teacher(layers: Any) -> None:
    """Shard the teacher's decoder layers; its embeddings and head stay whole on every rank."""
    for module in layers:
        fully_shard(module)


@contextmanager
def gathered(root: torch.nn.Module) -> Iterator[None]:
    """Within, every rank holds all weights, so that each can generate at its own pace.

    Only after a forward pass through `root`, which settles who gathers what.
    """
    sharded = [module for module in root.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for module in sharded:
            module.set_reshard_after_forward(module is not root, recurse=False)
            module.reshard()


def reshard(root: torch.nn.Module) -> None:
    """Let go of weights that a forward pass has gathered: then parameters are what is optimised."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
