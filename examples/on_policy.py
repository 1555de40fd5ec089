"""Train on-policy: the student writes, the teacher scores every token up to the horizon.

leadspan world world --seed 1 --small
python examples/on_policy.py world runs/on-policy
"""

from __future__ import annotations

import argparse
from pathlib import Path

from leadspan import RunConfig, evaluate
from leadspan.training.run import train


def main() -> None:
    """Train one student and print its accuracy before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path, help="folder written by leadspan world")
    parser.add_argument("output", type=Path, help="run folder")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--horizon", type=float, default=0.5, help="share of each prompt's own trace"
    )
    args = parser.parse_args()

    config = RunConfig.model_validate(
        {
            "student": {"path": str(args.world / "student")},
            "teacher": {"path": str(args.world / "teacher")},
            "traces": {"path": str(args.world / "traces.jsonl")},
            "loss": {
                "kd_ratio": 1.0
            },  # a rollout has no label: the teacher's term is the whole loss
            "rollout": {"horizon": args.horizon},
            "training": {
                "steps": args.steps,
                "batch_size": 12,
                "micro_batch_tokens": 4096,
                "learning_rate": 1.2e-3,
            },
        }
    )
    tests = {
        "benchmarks": [
            {"path": str(path), "grading": "exact"}
            for path in sorted(args.world.glob("test_*.jsonl"))
        ],
        "sampling": {"max_new_tokens": 160},
    }
    before = evaluate(args.world / "student", tests, output=args.output / "before")
    run = train(config, args.output / "run")
    after = evaluate(run.student_path, tests, output=args.output / "after")
    for name, score in (("before", before), ("after", after)):
        interval = f"[{score.accuracy_low:.2f}, {score.accuracy_high:.2f}]"
        print(f"{name}: accuracy {score.accuracy:.2f} {interval}")


if __name__ == "__main__":
    main()
