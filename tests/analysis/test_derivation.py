"""Where the rules see a derivation: made-up traces, the world's own, and the labelled real ones."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leadspan.analysis.derivation import find_derivation
from leadspan.records import Trace, Turn
from leadspan.traces.sources import load_traces
from leadspan.world.problems import draw_problems, solve
from tests.analysis.made_up import DERIVATIONS, made_up_trace

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.mark.parametrize("name", DERIVATIONS)
def test_made_up_traces(name: str) -> None:
    trace, end = made_up_trace(name)
    found = find_derivation(trace)
    shown = trace.cot[: found.end]
    assert found.end == end, shown
    assert found.status == ("gold_in_prompt" if name == "stands in the prompt" else "derived")
    assert 0 < found.confidence <= 1


@pytest.mark.parametrize("gold", [None, "", "  "])
def test_no_gold(gold: str | None) -> None:
    trace, _ = made_up_trace("plain product")
    found = find_derivation(replace(trace, golds=(gold,)))
    assert (found.status, found.end, found.found) == ("no_gold", None, False)


def test_never_reached() -> None:
    trace, _ = made_up_trace("plain product")
    assert find_derivation(replace(trace, golds=("55",))).status == "not_found"
    assert find_derivation(replace(trace, cot="")).status == "not_found"


def test_a_restated_number_is_no_derivation() -> None:
    trace = Trace(
        "t", (Turn("user", "He has 15 pens. How many?"),), "He has 15 pens.", "15", ("15",)
    )
    assert find_derivation(trace).status == "gold_in_prompt"


def test_sentence_and_evidence() -> None:
    trace, _ = made_up_trace("plain product")
    found = find_derivation(trace)
    assert (found.sentence, found.evidence) == (1, "computed")
    assert found.start is not None
    assert trace.cot[found.start : found.end] == "54"


@pytest.mark.parametrize("late", [False, True])
def test_the_world(late: bool) -> None:
    for problem in draw_problems(np.random.default_rng(3), 50, (3, 5, 8)):
        solution = solve(problem, late=late)
        turns = (Turn("user", problem.text),)
        found = find_derivation(Trace("w", turns, solution.cot, solution.answer, (problem.gold,)))
        assert found.status == "derived"
        assert found.end is not None
        assert abs(found.end - solution.derivation_end) <= 1  # the full stop after it


def _labels(split: str) -> list[dict[str, str | int | None]]:
    lines = (DATA / "derivation_labels.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def test_labels_are_many_and_hold_no_trace_text() -> None:
    rows = _labels("develop") + _labels("test")
    assert len(rows) >= 90
    assert len({row["file"] for row in rows}) >= 3
    assert all(set(row) == {"file", "id", "offset", "split", "reason"} for row in rows)
    assert max(len(str(row["reason"])) for row in rows) < 120


def test_agrees_with_the_reader_on_the_develop_half(shared_data: Path) -> None:
    rows = _labels("develop")
    traces = {
        trace.trace_id: trace
        for file in {str(row["file"]) for row in rows}
        for trace in load_traces(str(shared_data / "traces" / file))
    }
    errors = []
    for row in rows:
        trace, label = traces[str(row["id"])], row["offset"]
        found = find_derivation(trace)
        if found.status == "gold_in_prompt":
            continue
        wrong = found.end is None or label is None
        errors.append(1.0 if wrong else abs(found.end - label) / len(trace.cot))  # type: ignore
    assert len(errors) > 50
    assert statistics.median(errors) <= 0.01
    assert sum(error <= 0.05 for error in errors) / len(errors) >= 0.85


@pytest.mark.slow
def test_is_fast_on_real_traces(shared_data: Path) -> None:
    traces = load_traces(str(shared_data / "traces" / "mip_gsm8k_deepseek_r1.jsonl")).traces
    started = time.process_time()
    found = [find_derivation(trace) for trace in traces]
    assert time.process_time() - started < 5
    assert len(found) == 581
    assert sum(one.status == "derived" for one in found) > 500
