"""How well `find_derivation` agrees with a reader, compared with the crude first equal mention.

    python benchmarks/derivation.py --split develop
    python benchmarks/derivation.py --split test
    python benchmarks/derivation.py --split fresh

`test` was scored once, then its errors were read and the rules fixed; `fresh` holds 40 labels made
before that and scored once after it. docs/derivation.md has the figures of each moment.

Labels are in tests/data/derivation_labels.jsonl; the traces are read from ../shared/data/traces.
An error is the distance between two ends as a share of the CoT's characters; reporting "not derived"
against a reader who saw a derivation, or the other way round, is an error of 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leadspan.analysis.derivation import find_derivation
from leadspan.analysis.mentions import find_mentions
from leadspan.analysis.values import read_gold
from leadspan.records import Trace
from leadspan.traces.sources import load_traces

ROOT = Path(__file__).resolve().parents[1]
LABELS = ROOT / "tests" / "data" / "derivation_labels.jsonl"
FRESH = ROOT / "tests" / "data" / "derivation_labels_fresh.jsonl"
SECOND = ROOT / "tests" / "data" / "derivation_labels_second.jsonl"
TRACES = ROOT.parent / "shared" / "data" / "traces"


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ours(trace: Trace) -> int | None:
    return find_derivation(trace).end


def crude(trace: Trace) -> int | None:
    gold = read_gold(trace.gold or "")
    mentions = find_mentions(trace.cot, gold) if gold else []
    return next((mention.end for mention in mentions if not mention.in_words), None)


def error(found: int | None, label: int | None, trace: Trace) -> float:
    if found is None or label is None:
        return float(found is not label)
    return abs(found - label) / len(trace.cot)


def line(name: str, errors: list[float]) -> str:
    within = sum(e <= 0.05 for e in errors) / len(errors)
    same = sum(e == 0 for e in errors) / len(errors)
    return (
        f"  {name:<22} median {statistics.median(errors):7.2%}   mean {statistics.mean(errors):7.2%}"
        f"   within 5 % {within:6.1%}   same mention {same:6.1%}"
    )


def report(title: str, rows: list[dict[str, Any]], traces: dict[str, Trace]) -> None:
    measures: dict[str, Callable[[Trace], int | None]] = {
        "rules": ours,
        "first equal mention": crude,
    }
    print(f"{title}: {len(rows)} traces")
    for name, measure in measures.items():
        errors = [error(measure(traces[r["id"]]), r["offset"], traces[r["id"]]) for r in rows]
        print(line(name, errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("develop", "test", "fresh"), required=True)
    parser.add_argument("--show", action="store_true", help="list every disagreement")
    options = parser.parse_args()
    if not TRACES.is_dir():
        sys.exit(f"no real traces at {TRACES}")
    labels = read_rows(FRESH if options.split == "fresh" else LABELS)
    rows = [row for row in labels if row["split"] == options.split]
    files = sorted({row["file"] for row in rows})
    traces = {t.trace_id: t for file in files for t in load_traces(str(TRACES / file))}
    found = {row["id"]: find_derivation(traces[row["id"]]) for row in rows}
    open_rows = [row for row in rows if found[row["id"]].status != "gold_in_prompt"]
    report("all", rows, traces)
    report("gold not in the prompt", open_rows, traces)
    hard = [row for row in rows if crude(traces[row["id"]]) != row["offset"]]
    report("first equal mention is no derivation", hard, traces)
    for file in files:
        report(file, [row for row in open_rows if row["file"] == file], traces)
    if options.show:
        for row in rows:
            e = error(found[row["id"]].end, row["offset"], traces[row["id"]])
            if e:
                print(f"  {e:6.1%} {row['id']}: {row['reason']}; found {found[row['id']]}")
    second = {row["id"]: row["offset"] for row in read_rows(SECOND)}
    first = {row["id"]: row["offset"] for row in read_rows(LABELS)}
    agreed = sum(first[key] == offset for key, offset in second.items())
    print(f"the reader with himself: {agreed} of {len(second)} the same mention")


if __name__ == "__main__":
    main()
