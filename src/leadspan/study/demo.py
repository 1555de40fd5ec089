"""The demo: build the embedded world, sweep over it like over any data, report, say what came out.

From the world's files on, every step is what a user's own sweep does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leadspan.config import SweepConfig, TracesConfig
from leadspan.config_io import validate
from leadspan.study.advice import write_analysis
from leadspan.study.launch import LocalJobs, run_points
from leadspan.study.report import describe_sweep, write_report
from leadspan.study.sweep import prepare_sweep
from leadspan.world.build import SHIPPED_SEED, World, build_world, write_late_traces

LSPS = (0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
QUICK_LSPS = (0.2, 0.5, 1.0)
SEEDS = (0, 1, 2)
SECTION_SETTINGS = (
    ("answer",),
    ("prompt", "answer"),
    ("cot",),
    ("cot", "answer"),
    ("prompt", "cot"),
    ("prompt", "cot", "answer"),
)


def run_demo(
    output: Path, world_seed: int, quick: bool, num_jobs: int, rebuild: bool = False
) -> str:
    """Run everything that is missing under `output`.

    Args:
        output: Holds the world, the runs and the report.
        world_seed: Of the embedded world; the models of `SHIPPED_SEED` come with the package.
        quick: Fewer points.
        num_jobs: Runs side by side.
        rebuild: Train the world's models even where they come with the package.

    Returns:
        What came out and where the report lies, and the advice for the world and its late variant.
    """
    output = output.resolve()  # however the folder is named, its runs are the same
    shipped = world_seed == SHIPPED_SEED and not rebuild
    world = build_world(output / "world", world_seed, shipped=shipped)
    late_traces = write_late_traces(output / "world", world_seed)
    sweep = build_demo_sweep(world, world_seed, quick)
    points = prepare_sweep(sweep, output)
    run_points(points, output, LocalJobs(num_jobs))
    datasets = {
        "world": TracesConfig(path=str(world.traces)),
        "world, late": TracesConfig(path=str(late_traces)),
    }
    advice = write_analysis(output, points, datasets)
    report = write_report(output)
    lines = [f"{name}: {'; '.join(reasons)}." for name, reasons in advice.items()]
    return "\n".join([describe_sweep(output, report), *lines])


def build_demo_sweep(world: World, world_seed: int, quick: bool) -> SweepConfig:
    """The sweep over the embedded world.

    The sweep over lsp scores CoT and answer; prompt, CoT and answer, the paper's own setting, stands
    beside it at lsp 0.5 and 1.0, because the world's prompts are random digits, noise to so small a
    model. One student writes its own sequences, up to half the length of each prompt's trace.
    """
    grids: list[dict[str, list[Any]]] = [
        {"lsp": list(QUICK_LSPS if quick else LSPS), "seed": [0] if quick else list(SEEDS)}
    ]
    if not quick:
        grids += [
            {"lsp": [1.0], "sections": [list(setting) for setting in SECTION_SETTINGS]},
            {"lsp": [0.5], "sections": [["prompt", "cot", "answer"]]},
            {"lsp": [0.5], "keep": ["lead", "middle", "tail"]},
            {"rollout.horizon": [0.5], "loss.kd_ratio": [1.0]},
        ]
    content = {
        "base": build_demo_base(world),
        "grids": grids,
        "capture": {"mode": "topk", "k": 8},
        "tags": {"world_seed": world_seed},
    }
    return validate(SweepConfig, content, "demo")


def build_demo_base(world: World) -> dict[str, Any]:
    """The run.yaml that all runs of the demo share; `docs/world.md` says how it was chosen."""
    return {
        "teacher": {"path": str(world.teacher), "dtype": "float32"},
        "student": {"path": str(world.student)},
        "traces": {"path": str(world.traces), "validation_fraction": 0.04},
        "training": {
            "steps": 80,
            "batch_size": 12,
            "micro_batch_tokens": 4096,
            "learning_rate": 1.2e-3,
            "bf16": False,
            "validate_every_epochs": 0.5,
        },
        "evaluation": {
            "benchmarks": [{"path": str(path), "grading": "exact"} for path in world.tests],
            "sampling": {"max_new_tokens": 240},
            "dtype": "float32",
            "batch_size": 200,
        },
    }
