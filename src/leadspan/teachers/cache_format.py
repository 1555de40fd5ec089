"""How a teacher's distributions lie on disk: packed rows, shards with checksums, the identity.

Knows nothing about models or look-ups. A sequence of T tokens has T - 1 rows: row t is the
distribution of token t + 1 given tokens 0..t.

Shape suffixes: T tokens, R rows, K kept ids, S sequences, H hidden.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from leadspan.errors import CacheError
from leadspan.losses.heads import Head, SparseTeacher
from leadspan.runs import replacing

FORMAT_VERSION = 1
IDENTITY_FILE = "identity.json"
MANIFEST_FILE = "manifest.json"
HEAD_FILE = "head.safetensors"
MAX_NATS = 24.0
"""8-bit log-probabilities reach down to exp(-24), below which a probability does not matter."""

CacheMode = Literal["topk", "hidden"]
LogprobFormat = Literal["8bit", "fp16"]


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """Everything that made a cache; two caches with one identity hold the same distributions."""

    teacher: str
    revision: str | None
    weights: str | None
    """Fingerprint of the weights, or None where a server holds them."""
    dtype: str
    tokenizer: str
    vocabulary: str
    """Fingerprint of the token-to-id mapping."""
    vocab_size: int
    mode: CacheMode
    k: int
    """Kept ids a row in mode topk, 0 in mode hidden."""
    logprobs: LogprobFormat = "8bit"
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class CapturedSequence:
    """One sequence and its packed rows, R = T - 1."""

    trace_id: str
    input_ids_T: NDArray[np.int32]
    rows: Mapping[str, Tensor]


def content_key(input_ids_T: NDArray[np.int32]) -> bytes:
    """128-bit hash of the token ids."""
    return hashlib.sha256(np.ascontiguousarray(input_ids_T, dtype="<i4").tobytes()).digest()[:16]


def pack_rows(
    identity: CacheIdentity, ids_RK: Tensor, logprobs_RK: Tensor, tail_R: Tensor
) -> dict[str, Tensor]:
    """Pack kept ids, their log-probabilities and the tail's into the tensors of a shard."""
    if identity.logprobs == "fp16":
        values_RK = logprobs_RK.half()
    else:
        # Even steps of the square root: fine near 0, where the mass is, coarse at exp(-24).
        share_RK = (logprobs_RK.neg() / MAX_NATS).clamp(0, 1)
        values_RK = (share_RK.sqrt() * 255).round().to(torch.uint8)
    packed = _pack_ids(ids_RK, identity.vocab_size)
    return {**packed, "logprobs": values_RK.cpu(), "tail": tail_R.half().cpu()}


def unpack_rows(
    identity: CacheIdentity, rows: Mapping[str, Tensor], device: torch.device | None = None
) -> SparseTeacher:
    """The distributions of packed rows, on `device`; kept part and tail sum to 1 again."""
    rows = {name: tensor.to(device) for name, tensor in rows.items()}
    values_RK, tail_R = rows["logprobs"], rows["tail"].float()
    ids_RK = _unpack_ids(rows, identity.vocab_size)
    if identity.logprobs == "fp16":
        logprobs_RK = values_RK.float()
    else:
        logprobs_RK = (values_RK.float() / 255).square_().mul_(-MAX_NATS)
    total_R = torch.logaddexp(torch.logsumexp(logprobs_RK, dim=1), tail_R)
    return SparseTeacher(ids_RK, logprobs_RK - total_R[:, None], tail_R - total_R)


def _id_bits(vocab_size: int) -> tuple[int, int]:
    """Whole bytes and left-over bits of an id: 18 bits for Qwen are 2 bytes and 2 bits."""
    return divmod(max(1, math.ceil(math.log2(vocab_size))), 8)


def _pack_ids(ids_RK: Tensor, vocab_size: int) -> dict[str, Tensor]:
    num_bytes, num_bits = _id_bits(vocab_size)
    ids = ids_RK.cpu().numpy().astype(np.int64)
    low = (
        np.stack([(ids >> (8 * place)) & 255 for place in range(num_bytes)], axis=-1)
        if (num_bytes)
        else np.empty((*ids.shape, 0))
    )
    bits = ((ids >> (8 * num_bytes))[..., None] >> np.arange(num_bits)) & 1
    flat = bits.astype(np.uint8).reshape(len(ids), ids.shape[1] * num_bits)
    high = np.packbits(flat, axis=1, bitorder="little")
    return {
        "ids_low": torch.from_numpy(low.astype(np.uint8)),
        "ids_high": torch.from_numpy(high),
    }


def _unpack_ids(rows: Mapping[str, Tensor], vocab_size: int) -> Tensor:
    num_bytes, num_bits = _id_bits(vocab_size)
    low, high = rows["ids_low"], rows["ids_high"]
    num_rows, num_kept = low.shape[:2]
    ids_RK = torch.zeros(num_rows, num_kept, dtype=torch.int64, device=low.device)
    for place in range(num_bytes):
        ids_RK += low[..., place].long() << (8 * place)
    if num_bits:
        shifts = torch.arange(8, dtype=torch.uint8, device=low.device)
        bits = (high[:, :, None] >> shifts) & 1
        bits = bits.flatten(1)[:, : num_kept * num_bits].view(num_rows, num_kept, num_bits)
        for place in range(num_bits):
            ids_RK += bits[..., place].long() << (8 * num_bytes + place)
    return ids_RK


def write_shard(folder: Path, sequences: Sequence[CapturedSequence]) -> Path:
    """Write one shard, named by its content; it appears under that name only when whole."""
    keys = b"".join(content_key(each.input_ids_T) for each in sequences)
    names = sequences[0].rows.keys()
    tensors = {name: torch.cat([each.rows[name] for each in sequences]) for name in names}
    tensors["input_ids"] = torch.from_numpy(
        np.concatenate([each.input_ids_T for each in sequences]).astype(np.int32)
    )
    tensors["num_tokens"] = torch.tensor([len(each.input_ids_T) for each in sequences])
    tensors["keys"] = torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, 16)
    trace_ids = json.dumps([each.trace_id for each in sequences])
    metadata = {"trace_ids": trace_ids, "checksum": _checksum(tensors, trace_ids)}
    path = folder / f"shard-{hashlib.sha256(keys).hexdigest()[:16]}.safetensors"
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    return path


def _checksum(tensors: Mapping[str, Tensor], trace_ids: str) -> str:
    digest = hashlib.sha256(trace_ids.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """One shard, memory-mapped: nothing is read before it is used."""

    path: Path
    tensors: Mapping[str, Tensor]
    trace_ids: tuple[str, ...]
    checksum: str

    @property
    def rows(self) -> dict[str, Tensor]:
        """The packed rows of all its sequences, one after another."""
        apart = ("input_ids", "num_tokens", "keys")
        return {name: tensor for name, tensor in self.tensors.items() if name not in apart}

    @property
    def keys(self) -> list[bytes]:
        """Content key of each sequence."""
        return [bytes(row) for row in self.tensors["keys"].numpy()]

    def check(self) -> None:
        """Read everything and compare with the checksum.

        Raises:
            CacheError: The content is not what was written.
        """
        if _checksum(self.tensors, json.dumps(list(self.trace_ids))) != self.checksum:
            raise CacheError(
                f"{self.path}: the content does not match its checksum. Delete this file and run "
                "the capture again."
            )


def read_shard(path: Path) -> Shard:
    """Map one shard into memory.

    Raises:
        CacheError: The file is not a whole shard.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        trace_ids = tuple(json.loads(metadata["trace_ids"]))
        return Shard(path, tensors, trace_ids, metadata["checksum"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CacheError(
            f"{path}: not a whole shard ({error}). Delete this file and run the capture again."
        ) from None


def identity_from(content: Mapping[str, Any], where: Path) -> CacheIdentity:
    """Read an identity back from JSON.

    Raises:
        CacheError: It was written in another format version, or in a mode that is not read.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise CacheError(
            f"{where}: format_version must be {FORMAT_VERSION}; got {version!r}. Capture again, or "
            "use the leadspan version that wrote it."
        )
    if content.get("mode") not in get_args(CacheMode):
        raise CacheError(
            f"{where}: mode must be {' or '.join(get_args(CacheMode))}; got {content.get('mode')!r}. "
            "Capture again into another folder."
        )
    return CacheIdentity(**content)


def identity_json(identity: CacheIdentity) -> dict[str, Any]:
    """The identity as JSON."""
    return asdict(identity)


def shard_paths(folder: Path) -> list[Path]:
    """The whole shards of a folder, complete or not."""
    return sorted(folder.glob("shard-*.safetensors"))


def write_head(folder: Path, head: Head, vocab_size: int) -> None:
    """Write the teacher's head, without the rows past the vocabulary, beside its hidden states."""
    tensors = {"weight": head.weight_VH[:vocab_size].detach().cpu().clone()}
    if head.bias_V is not None:
        tensors["bias"] = head.bias_V[:vocab_size].detach().cpu().clone()
    options = {"logit_scale": head.logit_scale, "soft_cap": head.soft_cap or 0.0}
    with replacing(folder / HEAD_FILE) as temporary:
        save_file(tensors, temporary, {name: repr(value) for name, value in options.items()})


def read_head(folder: Path, device: torch.device | None = None) -> Head:
    """Read what `write_head` wrote, onto a device."""
    with safe_open(folder / HEAD_FILE, framework="pt") as file:
        options = {name: float(value) for name, value in file.metadata().items()}
        bias_V = file.get_tensor("bias").to(device) if "bias" in file.keys() else None  # noqa: SIM118
        weight_VH = file.get_tensor("weight").to(device)
    return Head(weight_VH, bias_V, options["logit_scale"], options["soft_cap"] or None)
