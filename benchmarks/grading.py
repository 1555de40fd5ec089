"""What grading costs and how often it agrees with a reader.

    python benchmarks/grading.py            speed on the real R1 answers, compared with bare math-verify
    python benchmarks/grading.py --pairs    agreement on the 175 labeled (boxed, gold) pairs
    python benchmarks/grading.py --table T  agreement on a table of (gold, completion, correct or outcome)
    python benchmarks/grading.py --golds    MATH-500 golds: boxed, unboxed, with one digit changed

All read `../shared/data`, which stays outside the project, and report it if it is missing.
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
MATH = DATA / "benchmarks" / "math500.jsonl"
PAIRS = DATA / "benchmarks" / "boxed_vs_gold_mismatch.jsonl"
LABELS = ROOT / "tests" / "data" / "boxed_vs_gold_labels.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        sys.exit(f"{path}: is not there; this script needs the shared data beside the project.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measure_agreement() -> dict[str, Any]:
    """Grade the pairs and compare the outcomes with the labels."""
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


def measure_table(path: Path, repeats: int = 1) -> dict[str, Any]:
    """Grade a table and list the rows whose outcome differs from the one given.

    Args:
        path: JSON lines of `gold`, `completion`, perhaps `kind`, and `correct` or `outcome`.
        repeats: Grade this many times and count rows whose outcome changes.
    """
    from leadspan.grading import Grader

    rows = read_rows(path)
    questions = [(row["completion"], row["gold"], row.get("kind", "math")) for row in rows]
    seen = []
    with Grader() as grader:
        for _ in range(repeats):
            grades = grader.grade_many(questions)
            seen.append([grade.outcome for grade in grades])
    disagreements = []
    for row, grade in zip(rows, grades, strict=True):
        wanted = row.get("outcome") or ("correct" if row["correct"] else "not correct")
        agrees = grade.outcome == wanted or (wanted == "not correct" and not grade.is_correct)
        if not agrees:
            kept = {key: str(row[key])[-160:] for key in ("id", "gold", "completion") if key in row}
            disagreements.append(
                kept
                | {
                    "wanted": wanted,
                    "outcome": grade.outcome,
                    "extracted": grade.extracted,
                    "reason": grade.reason,
                }
            )
    return {
        "rows": len(rows),
        "agreement": round(1 - len(disagreements) / len(rows), 4),
        "false_correct": sum(entry["outcome"] == "correct" for entry in disagreements),
        "false_other": sum(entry["outcome"] != "correct" for entry in disagreements),
        "rows_that_changed": sum(len(set(outcomes)) > 1 for outcomes in zip(*seen, strict=True)),
        "disagreements": disagreements,
    }


SENTENCES = (
    "Therefore the result is ${}$.", "We add both and find\n\\[ {} \\]", "Thus ${}$ is the solution.",
    "<answer>{}</answer>", "**Final Answer**\n\n$${}$$", "So, we get \\({}\\).",
)  # fmt: skip
"""Ways to end without a box."""


def mutants(gold: str) -> list[str]:
    """The gold with each of its digits changed in turn."""
    return [
        gold[:place] + str((int(mark) + 1) % 10) + gold[place + 1 :]
        for place, mark in enumerate(gold)
        if mark in "0123456789"
    ]


def measure_golds(path: Path) -> dict[str, Any]:
    """Golds boxed as they are, in a sentence without a box, and with one digit changed."""
    from leadspan.grading import Grader

    golds = [row.get("answer") or row["gold"] for row in read_rows(path)]
    changed = [(mutant, gold) for gold in golds for mutant in mutants(gold)]
    with Grader() as grader:
        boxed = grader.grade_many([(f"So $\\boxed{{{gold}}}$.", gold, "math") for gold in golds])
        unboxed = {
            sentence: grader.grade_many(
                [(sentence.replace("{}", gold), gold, "math") for gold in golds]
            )
            for sentence in SENTENCES
        }
        wrong = grader.grade_many([(f"So $\\boxed{{{m}}}$.", gold, "math") for m, gold in changed])
    accepted = [
        {"gold": g, "mutant": m}
        for (m, g), grade in zip(changed, wrong, strict=True)
        if grade.is_correct
    ]
    unread = [
        {"gold": gold, "sentence": sentence, "extracted": grade.extracted, "outcome": grade.outcome}
        for sentence, grades in unboxed.items()
        for gold, grade in zip(golds, grades, strict=True)
        if not grade.is_correct
    ]
    return {
        "golds": len(golds),
        "boxed_correct": sum(grade.is_correct for grade in boxed),
        "unboxed_correct": {s: sum(g.is_correct for g in grades) for s, grades in unboxed.items()},
        "mutants": len(changed),
        "mutants_accepted": len(accepted),
        "mutant_outcomes": dict(Counter(grade.outcome for grade in wrong)),
        "boxed_not_correct": [
            g for g, grade in zip(golds, boxed, strict=True) if not grade.is_correct
        ],
        "accepted": accepted,
        "unread": unread,
    }


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
    """Seconds with hard limits, including the start of the workers."""
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
    parser.add_argument(
        "--table", type=Path, help="a table of (gold, completion, correct or outcome)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="grade the table this many times")
    parser.add_argument("--golds", type=Path, nargs="?", const=MATH, help="golds of a benchmark")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.table:
        result = measure_table(options.table, options.repeats)
    elif options.golds:
        result = measure_golds(options.golds)
    else:
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
