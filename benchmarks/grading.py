"""What grading costs and how often it agrees with a reader.

    python benchmarks/grading.py            speed on the real R1 answers, bare math-verify beside it
    python benchmarks/grading.py --pairs    agreement on the 175 labelled (boxed, gold) pairs

Both read `../shared/data`, which stays outside the project, and say so where it is absent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
ANSWERS = DATA / "traces" / "mip_gsm8k_deepseek_r1.jsonl"
PAIRS = DATA / "benchmarks" / "boxed_vs_gold_mismatch.jsonl"
LABELS = ROOT / "tests" / "data" / "boxed_vs_gold_labels.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        sys.exit(f"{path}: is not there; this script needs the shared data beside the project.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measure_agreement() -> dict[str, Any]:
    """Grade the pairs and hold the outcomes against the labels."""
    from leadspan.grading import Grader

    labels = {row["id"]: row for row in read_rows(LABELS)}
    pairs = read_rows(PAIRS)
    with Grader() as grader:
        boxes = [(f"\\boxed{{{pair['boxed']}}}", pair["gold"], "math") for pair in pairs]
        grades = grader.grade_many(boxes)
    disagreements = [
        {**pair, "label": labels[pair["id"]]["label"], "outcome": grade.outcome}
        | {"note": labels[pair["id"]].get("note", "")}
        for pair, grade in zip(pairs, grades, strict=True)
        if grade.outcome != labels[pair["id"]]["label"]
    ]
    agreeing = len(pairs) - len(disagreements)
    return {"pairs": len(pairs), "agreeing": agreeing, "disagreements": disagreements}


def bare_math_verify(rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Seconds and correct answers of math-verify alone, import excluded, without any limit."""
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    started = time.perf_counter()
    correct = 0
    for row in rows:
        gold = parse(f"${row['gold']}$", parsing_timeout=None)
        answer = parse(row["answer_text"], parsing_timeout=None)
        correct += bool(verify(gold, answer, timeout_seconds=None))
    return time.perf_counter() - started, correct


def ours(rows: list[dict[str, Any]]) -> tuple[float, Counter[str], int]:
    """Seconds with hard limits, start of the workers included."""
    from leadspan.grading import Grader

    started = time.perf_counter()
    with Grader() as grader:
        grades = grader.grade_many([(row["answer_text"], row["gold"], "math") for row in rows])
        started_workers = grader.workers_started
    outcomes: Counter[str] = Counter(grade.outcome for grade in grades)
    return time.perf_counter() - started, outcomes, started_workers


def measure_speed() -> dict[str, Any]:
    rows = read_rows(ANSWERS)
    seconds, outcomes, workers = ours(rows)
    bare_seconds, bare_correct = bare_math_verify(rows)
    return {
        "answers": len(rows),
        "seconds": round(seconds, 2),
        "bare_seconds": round(bare_seconds, 2),
        "allowed_seconds": round(2 * bare_seconds + 2, 2),
        "outcomes": dict(outcomes),
        "bare_correct": bare_correct,
        "workers_started": workers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", action="store_true", help="agreement instead of speed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure_agreement() if options.pairs else measure_speed()
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for key, value in result.items():
        if isinstance(value, list):
            for entry in value:
                print("  ", json.dumps(entry, ensure_ascii=False))
        else:
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
