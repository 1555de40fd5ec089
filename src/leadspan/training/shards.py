"""Tensors that several ranks hold, as safetensors files that any number of ranks can read.

A file holds what one rank has of each tensor; the listing says where in the whole tensor that part
begins, so a reader picks what overlaps its own part. Knows nothing about models or checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from leadspan.errors import RunError
from leadspan.integrity import describe_file
from leadspan.parallel import Ranks

MAX_FILE_BYTES = 2 * 2**30
"""A rank holds no more than this, and one tensor, in memory while it writes."""

Part = tuple[str, Tensor, list[int]]
"""Name, what this rank has of the tensor, and where in the whole tensor that begins."""


def local_part(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """What this rank has of a tensor, sharing its memory, and where in the whole it begins."""
    if isinstance(tensor, DTensor):
        sharded: Any = tensor.detach()
        (chunk,) = sharded.__create_chunk_list__()  # the protocol of torch.distributed.checkpoint
        return sharded.to_local(), list(chunk.offsets)
    return tensor.detach(), [0] * tensor.dim()


def write_shards(
    folder: Path, ranks: Ranks, tensors: Iterable[tuple[str, Tensor]], own: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Write this rank's part of `tensors` into new files named by their content.

    Args:
        folder: Where; other files in it are left alone.
        ranks: Tensors that are not sharded are alike on all ranks: the first writes them.
        tensors: Named, the same names on every rank.
        own: What belongs to this rank alone, under names of its own.

    Returns:
        The listing: for each file its size and checksum, and the offsets of the tensors in it.

    Raises:
        OSError, SafetensorError: The disk refuses.
    """
    listing = {}
    temporary = folder / f".rank-{ranks.rank:05d}.tmp"
    for parts in _files_of(_parts_to_write(ranks, tensors, own)):
        save_file({name: part.cpu().contiguous() for name, part, _ in parts}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        described = describe_file(temporary)
        name = f"rank-{ranks.rank:05d}-{described['sha256'][:16]}.safetensors"
        os.replace(temporary, folder / name)
        listing[name] = {**described, "offsets": {name: offsets for name, _, offsets in parts}}
    return listing


def _parts_to_write(
    ranks: Ranks, tensors: Iterable[tuple[str, Tensor]], own: Mapping[str, Tensor]
) -> Iterator[Part]:
    for name, tensor in tensors:
        part, offsets = local_part(tensor)
        if part.numel() and (isinstance(tensor, DTensor) or ranks.is_first):
            yield name, part, offsets
    for name, tensor in own.items():
        yield name, *local_part(tensor)


def _files_of(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """The parts, as many together as a file may hold."""
    together: list[Part] = []
    size = 0
    for part in parts:
        together.append(part)
        size += part[1].nbytes
        if size >= MAX_FILE_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together


class ShardReader:
    """The files of a listing, memory-mapped; nothing is read before it is used.

    The files must have been compared with their checksums.
    """

    def __init__(self, folder: Path, listing: Mapping[str, Any]) -> None:
        self._folder = folder
        self._chunks: dict[str, list[tuple[Any, list[int], list[int]]]] = {}
        for file_name, described in listing.items():
            file: Any = safe_open(folder / file_name, framework="pt")
            for name, offsets in described["offsets"].items():
                shape = file.get_slice(name).get_shape()
                self._chunks.setdefault(name, []).append((file, offsets, shape))

    def names(self, prefix: str) -> list[str]:
        """Names of the tensors that begin so."""
        return [name for name in self._chunks if name.startswith(prefix)]

    def shape(self, name: str) -> list[int]:
        """Shape of the whole tensor."""
        if name not in self._chunks:
            raise RunError(f"{self._folder}: holds no tensor {name}: it is of another student.")
        ends = [
            [start + size for start, size in zip(offsets, shape, strict=True)]
            for _, offsets, shape in self._chunks[name]
        ]
        return [max(column) for column in zip(*ends, strict=True)]

    @torch.no_grad()
    def fill(self, name: str, target: Tensor) -> None:
        """Read this rank's part of a tensor into `target`.

        Raises:
            RunError: The tensor is not there, or has another shape or dtype.
        """
        if self.shape(name) != list(target.shape):
            raise RunError(
                f"{self._folder}: {name} must have shape {list(target.shape)}; got "
                f"{self.shape(name)}. The checkpoint is of another student."
            )
        part, start = local_part(target)
        filled = 0
        for file, offsets, shape in self._chunks[name]:
            low = [max(pair) for pair in zip(start, offsets, strict=True)]
            high = [
                min(s + n, o + m)
                for s, n, o, m in zip(start, part.shape, offsets, shape, strict=True)
            ]
            if any(end <= begin for begin, end in zip(low, high, strict=True)):
                continue
            whole = [b - a for a, b in zip(low, high, strict=True)] == shape
            found = (
                file.get_tensor(name) if whole else file.get_slice(name)[_box(low, high, offsets)]
            )
            if found.dtype != part.dtype:
                raise RunError(
                    f"{self._folder}: {name} must be {part.dtype}; got {found.dtype}. The "
                    "checkpoint is of another student."
                )
            part[_box(low, high, start)].copy_(found)
            filled += found.numel()
        if filled != part.numel():
            raise RunError(f"{self._folder}: {name} is not there whole.")

    def read(self, name: str) -> Tensor:
        """A small tensor that one rank wrote whole."""
        self.shape(name)
        tensor: Tensor = self._chunks[name][0][0].get_tensor(name)
        return tensor


def _box(low: list[int], high: list[int], origin: list[int]) -> tuple[slice, ...]:
    """The region between two corners, counted from `origin`."""
    return tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
