"""Adaptive cuts and fixed leads at equal trained tokens, on the embedded world and its late variant.

Every setting trains until the same number of tokens has been forwarded (`training.budget.tokens`), with
five training seeds; differences are paired by seed, with 95 % t intervals.

    python benchmarks/adaptive.py [--output runs/adaptive] [--world-seed 1] [--jobs 2] [--json]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from leadspan.config import SweepConfig
from leadspan.config_io import validate
from leadspan.study.demo import build_demo_base
from leadspan.study.launch import LocalJobs, run_points
from leadspan.study.results import Run, read_results
from leadspan.study.sweep import prepare_sweep
from leadspan.world.build import WorldConfig, build_world

SEEDS = [0, 1, 2, 3, 4]
HALF_TOKENS = 82_000
"""What lsp 0.5 forwards in the demo's 80 steps of 12."""
FULL_TOKENS = {"ordinary": 170_000, "late": 205_000}
"""What lsp 1.0 forwards in the demo's 80 steps of 12."""
LATE_ANSWER = 300
"""New tokens that an answer of the late world may take; the ordinary world's are shorter than 240."""
ADAPTIVE = {"truncation.policy": ["derivation"], "truncation.margin": [0.1], "lsp": [0.5]}


def settings_of(variant: str) -> list[tuple[int, dict[str, list[Any]]]]:
    """Budgets with the grids that share them."""
    if variant == "late":
        return [(FULL_TOKENS[variant], {"lsp": [0.5, 1.0]}), (FULL_TOKENS[variant], ADAPTIVE)]
    fixed = {"lsp": [0.3, 0.4, 0.5, 0.75, 1.0]}
    return [(HALF_TOKENS, fixed), (HALF_TOKENS, ADAPTIVE), (FULL_TOKENS[variant], {"lsp": [1.0]})]


def run_variant(variant: str, output: Path, world_seed: int, num_jobs: int) -> list[Run]:
    """Build the world, run what is missing, read the results."""
    folder = output / variant
    config = replace(WorldConfig(), num_traces=3200)
    world = build_world(folder / "world", world_seed, late=variant == "late", config=config)
    base = build_demo_base(world)
    base["training"] = {key: v for key, v in base["training"].items() if key != "steps"}
    base["training"]["budget"] = {"tokens": HALF_TOKENS}
    if variant == "late":
        base["evaluation"]["sampling"] = {"max_new_tokens": LATE_ANSWER}
    grids = [
        {"training.budget.tokens": [tokens], "seed": SEEDS, **grid}
        for tokens, grid in settings_of(variant)
    ]
    capture = {"mode": "topk", "k": 8}
    sweep = validate(SweepConfig, {"base": base, "grids": grids, "capture": capture}, "adaptive")
    points = prepare_sweep(sweep, folder)
    run_points(points, folder, LocalJobs(num_jobs))
    return [run for run in read_results(folder).runs if run.row.kind == "train"]


def label_of(run: Run) -> str:
    """The setting of a run, seeds apart."""
    tokens = run.overrides["training.budget.tokens"]
    adaptive = run.overrides.get("truncation.policy") == "derivation"
    return f"{'adaptive' if adaptive else f'lsp {run.row.lsp:g}'} at {tokens} tokens"


def paired(first: dict[int, float], second: dict[int, float]) -> tuple[float, float, float]:
    """Mean difference over the shared seeds with its 95 % t interval."""
    differences = np.array([first[seed] - second[seed] for seed in sorted(first)])
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return mean, mean - half, mean + half


def main() -> None:
    """Run both variants and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/adaptive"))
    parser.add_argument("--world-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for variant in ("ordinary", "late"):
        accuracy: dict[str, dict[int, float]] = {}
        tokens: dict[str, list[float]] = {}
        for run in run_variant(variant, arguments.output, arguments.world_seed, arguments.jobs):
            if run.row.accuracy is None or run.row.seed is None:
                continue
            accuracy.setdefault(label_of(run), {})[run.row.seed] = run.row.accuracy
            tokens.setdefault(label_of(run), []).append(run.row.tokens_forwarded or 0)
        adaptive = next(name for name in accuracy if name.startswith("adaptive"))
        print(f"{variant} world, seed {arguments.world_seed}, {len(SEEDS)} training seeds")
        for name, scores in sorted(accuracy.items()):
            mean, low, high = paired(accuracy[adaptive], scores)
            difference = (
                ""
                if name == adaptive
                else f"  adaptive - this: {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            )
            print(
                f"  {name:28s} accuracy {np.mean(list(scores.values())):.3f}"
                f"  tokens {np.mean(tokens[name]):,.0f}{difference}"
            )
        found[variant] = {
            name: {"accuracy": list(scores.values()), "tokens": float(np.mean(tokens[name]))}
            for name, scores in accuracy.items()
        }
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
