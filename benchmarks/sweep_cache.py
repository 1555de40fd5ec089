"""A sweep of ten lead span proportions over two epochs, with a live teacher and with one cache for all.

    python benchmarks/sweep_cache.py               # about 5 minutes on 2 cores
    python benchmarks/sweep_cache.py --world DIR   # an existing world
    python benchmarks/sweep_cache.py --json        # one JSON object as the last line

The embedded world with the demo's models and batches. Both ways train on the same traces in the same
order; live and cached runs take turns. Teacher tokens are counted as they are forwarded; seconds are
those of the training steps, and for the cache those of its capture, model loading included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from leadspan.config import RunConfig
from leadspan.study.demo import build_demo_base
from leadspan.teachers.capture import CaptureSettings, capture_run
from leadspan.training.run import train
from leadspan.world.build import World, WorldConfig, build_world

LSPS = tuple(step / 10 for step in range(1, 11))
EPOCHS = 2


def config_of(world: World, num_traces: int, lsp: float, cache: Path | None) -> RunConfig:
    """The demo's run, for whole epochs and without an evaluation."""
    content: dict[str, Any] = build_demo_base(world)
    content["training"] = {**content["training"], "steps": None, "epochs": EPOCHS}
    content["traces"] = {**content["traces"], "sample": num_traces, "validation_fraction": 0.0}
    content["teacher"] = {**content["teacher"], "cache": None if cache is None else str(cache)}
    del content["evaluation"]
    # The prompt is scored too, or a lead of a tenth would hold nothing to score.
    content["supervision"] = {"sections": ["prompt", "cot", "answer"]}
    return RunConfig.model_validate({**content, "truncation": {"lsp": lsp}})


def measure(world: World, folder: Path, num_traces: int) -> dict[str, float]:
    """Train every lsp both ways."""
    cache = folder / "cache"
    started = time.perf_counter()
    captured = capture_run(config_of(world, num_traces, 1.0, None), cache, CaptureSettings(k=8))
    seconds = {"live": 0.0, "cached": time.perf_counter() - started}
    print(f"capture: {captured.num_tokens} tokens, {seconds['cached']:.1f} s", flush=True)
    tokens = {"live": 0, "cached": captured.num_tokens}
    for lsp in LSPS:
        for way, source in (("live", None), ("cached", cache)):
            run = train(config_of(world, num_traces, lsp, source), folder / f"{way}-{lsp:g}")
            seconds[way] += run.manifest["train_seconds"]
            tokens[way] += run.manifest["teacher_tokens_forwarded"]
    return {
        "teacher_passes_live": tokens["live"] / captured.num_tokens,
        "teacher_passes_cached": tokens["cached"] / captured.num_tokens,
        "seconds_live": seconds["live"],
        "seconds_cached": seconds["cached"],
        "time_cached_vs_live": seconds["cached"] / seconds["live"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small world and few traces")
    parser.add_argument("--world", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = WorldConfig.small() if arguments.quick else WorldConfig()
        world = build_world(arguments.world or folder / "world", 1, False, settings)
        found = measure(world, folder, 48 if arguments.quick else 240)
    for name, value in found.items():
        print(f"{name:<22} {value:.3f}")
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
