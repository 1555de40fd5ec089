"""Train with a teacher on a server, such as vLLM, that returns log-probabilities of a prompt.

    leadspan world world --seed 1 --small
    vllm serve world/teacher --served-model-name teacher --max-logprobs 16
    python examples/teacher_server.py world runs/served http://localhost:8000/v1 teacher

Needs the extra: pip install "leadspan[endpoint]".
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from leadspan import distill, evaluate


def main() -> None:
    """Train one student on half of each trace and print its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path, help="folder written by leadspan world")
    parser.add_argument("output", type=Path, help="run folder")
    parser.add_argument("base_url", help="the server, up to and with /v1")
    parser.add_argument("model", help="the teacher's name on the server")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument(
        "--k", type=int, default=16, help="likeliest tokens that the server returns"
    )
    args = parser.parse_args()

    endpoint = {"base_url": args.base_url, "model": args.model, "k": args.k}
    run = distill(
        [json.loads(line) for line in (args.world / "traces.jsonl").open(encoding="utf-8")],
        student=args.world / "student",
        teacher={"path": str(args.world / "teacher"), "endpoint": endpoint},  # path: its tokenizer
        truncation={"lsp": 0.5},
        output=args.output / "run",
        steps=args.steps,
        batch_size=12,
        learning_rate=1.2e-3,
    )
    tests = {
        "benchmarks": [
            {"path": str(path), "grading": "exact"}
            for path in sorted(args.world.glob("test_*.jsonl"))
        ],
        "sampling": {"max_new_tokens": 160},
    }
    score = evaluate(run.student_path, tests, output=args.output / "evaluation")
    print(f"accuracy {score.accuracy:.2f} [{score.accuracy_low:.2f}, {score.accuracy_high:.2f}]")


if __name__ == "__main__":
    main()
