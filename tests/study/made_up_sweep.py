"""A sweep folder as a real sweep leaves it, with numbers like those of the embedded world."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from leadspan.study.results import COLUMNS

ACCURACY = {0.2: 0.42, 0.3: 0.61, 0.4: 0.95, 0.5: 0.965, 0.75: 0.98, 1.0: 0.985}
SECTIONS = {
    ("answer",): 0.04,
    ("prompt", "answer"): 0.09,
    ("cot",): 0.98,
    ("prompt", "cot"): 0.93,
    ("prompt", "cot", "answer"): 0.95,
}
NUM_PROBLEMS = 60
HOSTILE = '<script>window.broken = true</script> & "quoted" </textarea>'


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def build_config(
    lsp: float = 1.0,
    sections: tuple[str, ...] = ("cot", "answer"),
    keep: str = "lead",
    seed: int = 0,
    kd_ratio: float = 0.5,
) -> dict[str, Any]:
    return {
        "teacher": {"path": "runs/demo/world/teacher"},
        "student": {"path": "runs/demo/world/student"},
        "traces": {"path": "runs/demo/world/train.jsonl"},
        "truncation": {"lsp": lsp, "keep": keep},
        "supervision": {"sections": list(sections)},
        "loss": {"kd_ratio": kd_ratio, "divergence": "forward_kl"},
        "training": {"steps": 100, "batch_size": 32, "learning_rate": 3e-4},
        "evaluation": {"benchmarks": [{"path": "world/test.jsonl"}]},
        "render": {"date": "2026-01-31"},
        "seed": seed,
    }


def write_metrics(point: Path, last_loss: float) -> None:
    """Losses of 100 steps that fall to about `last_loss`, with two validations."""
    lines: list[dict[str, Any]] = [
        {"kind": "train", "step": step, "loss": last_loss + 2.0 / step} for step in range(1, 101)
    ]
    lines.insert(50, {"kind": "validation", "step": 50, "val_loss": last_loss + 0.05})
    lines.append({"kind": "validation", "step": 100, "val_loss": last_loss + 0.01})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (point / "metrics.jsonl").write_text(text, encoding="utf-8")


def write_samples(folder: Path, accuracy: float, draw: random.Random) -> dict[str, Any]:
    """Samples of which about `accuracy` are correct; returns the evaluation of them."""
    rows = []
    for number in range(NUM_PROBLEMS):
        is_correct = draw.random() < accuracy
        is_closed = is_correct or draw.random() < 0.5
        steps = " ".join(f"{place}+{number % 10}={place + number % 10}." for place in range(1, 7))
        cot = f"{steps} o 43. wait d:9,e:7,f:9, ok." + (f" {HOSTILE}" if number == 1 else "")
        rows.append(
            {
                "benchmark": "test",
                "problem_id": f"p{number}",
                "sample": 0,
                "prompt": f"d9e8f2g5h{number}?<think>",
                "prompt_tokens": 12,
                "text": f"{cot}</think>o {43 if is_correct else 17}" if is_closed else cot * 2,
                "num_tokens": 80 if is_closed else 160,
                "finish_reason": "stop" if is_closed else "length",
                "closed": is_closed,
                "golds": ["43"],
                "seconds": 0.2,
                "outcome": "correct" if is_correct else "wrong" if is_closed else "unparsed",
                "extracted": "43" if is_correct else "17" if is_closed else None,
                "reason": "",
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "samples.jsonl").write_text(lines, encoding="utf-8")
    mean = sum(row["outcome"] == "correct" for row in rows) / NUM_PROBLEMS
    width = 1.96 * (mean * (1 - mean) / NUM_PROBLEMS) ** 0.5
    figures = {
        "accuracy": mean,
        "accuracy_low": max(0.0, mean - width),
        "accuracy_high": min(1.0, mean + width),
        "closed_fraction": sum(row["closed"] for row in rows) / NUM_PROBLEMS,
    }
    return {**figures, "benchmarks": [{"name": "test", **figures}], "seconds": 1.5}


def add_point(
    sweep: Path,
    name: str,
    kind: str = "train",
    *,
    accuracy: float | None = 0.9,
    error: str | None = None,
    overrides: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """One point; without accuracy it was not evaluated, with an error it failed."""
    point = sweep / "points" / name
    draw = random.Random(name)
    config = build_config(**settings)
    write_json(
        point / "point.json",
        {"name": name, "kind": kind, "overrides": overrides or {}, "config_hash": "0" * 16},
    )
    (point / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if error is not None:
        write_json(point / "failed.json", {"error": error})
        return point
    if kind == "train":
        lsp = config["truncation"]["lsp"]
        cost = lsp * (0.85 + 0.15 * lsp)
        scored = sum(
            {"prompt": 0.1, "cot": 0.8, "answer": 0.1}[s]
            for s in settings.get("sections", ("cot",))
        )
        measured = {
            "steps": 100,
            "train_loss": 0.08 + 0.05 * (1 - lsp) + draw.uniform(0, 0.01),
            "val_loss": 0.09 + 0.05 * (1 - lsp) + draw.uniform(0, 0.01),
            "train_seconds": 13.4 * (0.06 + 0.94 * cost) + draw.uniform(-0.1, 0.1),
            "peak_memory_gib": 0.30 + 0.22 * lsp,
            "peak_step_memory_gib": 0.02 + 0.22 * lsp,
            "train_flops": 4.1e12 * cost,
            "tokens_forwarded": round(480_000 * lsp),
            "tokens_scored": round(430_000 * lsp * scored),
        }
        write_json(point / "manifest.json", measured | (manifest or {}))
        write_json(point / "environment.json", {"machine": "x86_64", "num_threads": 2})
        write_metrics(point, measured["train_loss"])
    if accuracy is not None:
        jittered = min(1.0, max(0.0, accuracy + draw.uniform(-0.02, 0.02)))
        write_json(
            point / "evaluation" / "evaluation.json",
            write_samples(point / "evaluation", jittered, draw),
        )
    return point


def write_sweep_file(sweep: Path, **tags: Any) -> None:
    sweep.mkdir(parents=True, exist_ok=True)
    (sweep / "sweep.yaml").write_text(
        yaml.safe_dump({"base": {}, "grids": [{}], "tags": tags}), encoding="utf-8"
    )


def build_demo_sweep(sweep: Path) -> Path:
    """Like the demo's: base, teacher, six cuts by three seeds, sections, halves, a failed run."""
    write_sweep_file(sweep, world_seed=101)
    add_point(sweep, "base", "base", accuracy=0.31)
    add_point(sweep, "teacher", "teacher", accuracy=1.0)
    for lsp, accuracy in ACCURACY.items():
        for seed in range(3):
            add_point(
                sweep,
                f"lsp-{lsp}_seed-{seed}",
                accuracy=accuracy,
                lsp=lsp,
                seed=seed,
                overrides={"truncation.lsp": lsp, "seed": seed},
            )
    for sections, accuracy in SECTIONS.items():
        name = "+".join(sections)
        add_point(
            sweep,
            f"sections-{name}",
            accuracy=accuracy,
            sections=sections,
            overrides={"supervision.sections": list(sections)},
        )
    every = ("prompt", "cot", "answer")
    add_point(sweep, "lsp-0.5_sections-prompt+cot+answer", accuracy=0.72, lsp=0.5, sections=every)
    add_point(sweep, "keep-middle_lsp-0.5", accuracy=0.15, lsp=0.5, keep="middle")
    add_point(sweep, "keep-tail_lsp-0.5", accuracy=0.07, lsp=0.5, keep="tail")
    add_point(sweep, "lsp-0.1_seed-0", lsp=0.1, error="step 3: the loss is nan; its rows are t1.")
    draw = random.Random(0)
    fractions = [min(0.99, max(0.05, draw.gauss(0.44, 0.1))) for _ in range(400)]
    late = [min(0.99, max(0.05, draw.gauss(0.88, 0.04))) for _ in range(400)]
    write_json(
        sweep / "analysis.json",
        {"datasets": [dataset("world", fractions), dataset("world, late", late)]},
    )
    return sweep


def dataset(name: str, fractions: list[float]) -> dict[str, Any]:
    cuts = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
    survival = {f"{lsp:g}": sum(f <= lsp for f in fractions) / len(fractions) for lsp in cuts}
    chosen = next((lsp for lsp in cuts if survival[f"{lsp:g}"] >= 0.8), None)
    advice = {
        "fractional_cut_ok": survival["0.5"] >= 0.6,
        "recommended_lsp": chosen if survival["0.5"] >= 0.6 else None,
        "reasons": [f"lsp 0.5 keeps the derivation of {survival['0.5']:.0%} of the traces"],
        "order": "use a lead" if survival["0.5"] >= 0.6 else "no fractional cut",
    }
    counts = {"traces": len(fractions), "derived": len(fractions), "not_found": 0, "no_gold": 0}
    return {
        "name": name,
        "fractions": fractions,
        "survival": survival,
        "counts": counts,
        "advice": advice,
    }


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [] or list(rows[0]) == list(COLUMNS)
    return rows
