"""The teacher cache on disk: bytes per token, and what quantization and truncation each cost in nats.

    python benchmarks/cache.py              # under a minute, plus building the small world
    python benchmarks/cache.py --world DIR  # an existing world
    python benchmarks/cache.py --json       # one JSON object as the last line

Synthetic rows: Zipf-like distributions over a real vocabulary (V = 151,936) of 0.5 to 3 nats entropy,
k = 64, 8-bit. Real rows: the embedded world's teacher over its own traces, k = 8. The quantization
error is KL(exact top k and tail || stored); the truncation error is what the tail class hides:
KL(whole || top k and an evenly spread tail), without quantization. Both are means over tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leadspan.config import RunConfig
from leadspan.models import load_causal_lm
from leadspan.teachers import check
from leadspan.teachers.cache import TeacherCache
from leadspan.teachers.cache_format import (
    CacheIdentity,
    CapturedSequence,
    pack_rows,
    shard_paths,
    unpack_rows,
    write_shard,
)
from leadspan.teachers.capture import CaptureSettings, capture_run, finish
from leadspan.teachers.capture_live import reduce_to_topk

VOCAB, K = 151_936, 64
# Odd and no factor of the vocabulary: times it, modulo it, is a permutation of the ids.
STRIDE = 7_919


def zipf_rows(num_rows: int, generator: torch.Generator) -> Tensor:
    """Logits by rank, each row with an entropy drawn evenly from 0.5 to 3 nats, ranks jittered."""
    log_rank_V = torch.arange(1, VOCAB + 1).double().log()
    slopes = torch.linspace(1.2, 6.0, 200, dtype=torch.float64)
    log_p = torch.log_softmax(-slopes[:, None] * log_rank_V, 1)
    entropies = -(log_p.exp() * log_p).sum(1)
    wanted = 0.5 + 2.5 * torch.rand(num_rows, generator=generator).double()
    nearest = (entropies[None, :] - wanted[:, None]).abs().argmin(1)
    jitter = 0.3 * torch.randn(num_rows, VOCAB, generator=generator)
    return (-slopes[nearest][:, None] * log_rank_V).float() + jitter


def synthetic(num_rows: int, folder: Path) -> dict[str, float]:
    """Write a cache of synthetic rows and measure it."""
    identity = CacheIdentity(
        "zipf", None, None, "float32", "none", "0" * 16, VOCAB, mode="topk", k=K
    )
    generator = torch.Generator().manual_seed(0)
    kl, spread, entropy, sequences = [], [], [], []
    for number in range(num_rows // 500):
        parts = []
        for _ in range(5):
            logits_nV = zipf_rows(100, generator)
            log_p_nV = logits_nV.double().log_softmax(1)
            rows = reduce_to_topk(logits_nV, K)
            stored = unpack_rows(identity, pack_rows(identity, *rows))
            found = check.compare_rows(log_p_nV, stored)
            kl.append(found[0])
            spread.append(found[3])
            entropy.append(-(log_p_nV.exp() * log_p_nV).sum(1))
            parts.append(rows)
        ids, values, tail = (torch.cat(column) for column in zip(*parts, strict=True))
        packed = pack_rows(identity, (ids * STRIDE + number) % VOCAB, values, tail)
        tokens = np.random.default_rng(number).integers(0, VOCAB, 501).astype(np.int32)
        sequences.append(CapturedSequence(f"zipf-{number}", tokens, packed))
    write_shard(folder, sequences)
    finish(folder, identity)
    entropies = torch.cat(entropy)
    print(
        f"synthetic: entropy {entropies.min():.2f} to {entropies.max():.2f} nats, "
        f"mean {entropies.mean():.2f}"
    )
    return {
        "bytes_per_token": bytes_per_token(folder),
        "quantisation_error_nats": torch.cat(kl).mean().item(),
        "truncation_error_nats": torch.cat(spread).mean().item(),
    }


def bytes_per_token(folder: Path) -> float:
    """Bytes of the whole folder over its tokens."""
    size = sum(path.stat().st_size for path in shard_paths(folder))
    return size / TeacherCache(folder).num_tokens


def real(world: Path | None, folder: Path, num_traces: int) -> dict[str, float]:
    """Capture the world's teacher at k = 8 and compare it with the live one."""
    from leadspan.world.build import WorldConfig, build_world

    built = build_world(world or folder / "world", 1, False, WorldConfig.small())
    config = RunConfig.model_validate(
        {
            "teacher": {"path": str(built.teacher), "dtype": "float32"},
            "student": {"path": str(built.student)},
            "traces": {"path": str(built.traces), "sample": num_traces},
            "training": {"steps": 1, "bf16": False},
        }
    )
    output = folder / "captured"
    capture_run(config, output, CaptureSettings(k=8))
    assert config.teacher is not None
    cache = TeacherCache(output)
    found = check.compare(cache, load_causal_lm(config.teacher), len(cache))
    return {
        "world_bytes_per_token": bytes_per_token(output),
        "world_quantisation_error_nats": found.mean_kl,
        "world_truncation_error_nats": found.tail_spread,
        "world_mass_kept": found.mass_kept,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rows and traces")
    parser.add_argument("--world", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "zipf").mkdir()
        facts = synthetic(500 if arguments.quick else 4000, folder / "zipf")
        facts |= real(arguments.world, folder, 50 if arguments.quick else 400)
    for name, value in facts.items():
        print(f"{name:<30} {value:.4g}")
    if arguments.json:
        print(json.dumps({name: round(value, 8) for name, value in facts.items()}))


if __name__ == "__main__":
    main()
