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
from leadspan.records import Message, Trace
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


@pytest.mark.parametrize("golds", [(), ("",), ("  ",)])
def test_no_gold(golds: tuple[str, ...]) -> None:
    trace, _ = made_up_trace("plain product")
    found = find_derivation(replace(trace, golds=golds))
    assert (found.status, found.end, found.found) == ("no_gold", None, False)


def test_never_reached() -> None:
    trace, _ = made_up_trace("plain product")
    assert find_derivation(replace(trace, golds=("55",))).status == "not_found"
    assert find_derivation(replace(trace, cot="", answer="")).status == "not_found"


PLAN = "I need the pens in all boxes. Finally, I'll multiply the pens by the boxes."
ASKED = (Message("user", "A box holds 6 pens. How many pens are in 9 boxes?"),)


def test_a_result_that_stands_in_the_answer_only_is_found_there() -> None:
    answer = "6 pens times 9 boxes is 54 pens. The answer is 54."
    found = find_derivation(Trace("t", ASKED, PLAN, answer, ("54",)))
    assert (found.status, found.found, found.start, found.end) == ("derived", True, None, None)
    assert answer[: found.answer_end] == "6 pens times 9 boxes is 54"
    assert found.fraction(PLAN) == 1.0


@pytest.mark.parametrize(
    ("golds", "cot", "upto"),
    [
        (("Six pens times nine is 54.\n#### 54",), "6 times 9 is 54. Wait.", "6 times 9 is 54"),
        ((r"We get $6 \cdot 9 = \boxed{54}$.",), "6 times 9 is 54. Wait.", "6 times 9 is 54"),
        (("{'ground_truth': '54'}",), "6 times 9 is 54. Wait.", "6 times 9 is 54"),
        (("55", "54"), "6 times 9 is 54. Wait.", "6 times 9 is 54"),
        ((r"\pm 3",), "x^2 = 9, so x = 3 or x = -3. Check.", "x^2 = 9, so x = 3 or x = -3"),
        (("3, -3",), "so x = ±3. Check.", "so x = ±3"),
        (
            (r"\left( 3, \frac{\pi}{2} \right)",),
            "Thus the point is (3, π/2). Check.",
            "Thus the point is (3, π/2)",
        ),
        (("70",), r"so 7/10 = 70\%. The answer is 70\%.", r"so 7/10 = 70"),
        ((r"1+\sqrt{5}",), "so x = 1 + √5. Check.", "so x = 1 + √5"),
        (("x^2 + 1",), "That gives x²+1. Check.", "That gives x²+1"),
        (("4.5e33",), r"so N = 4.5 \times 10^{33}. Check.", r"so N = 4.5 \times 10^{33}"),
    ],
    ids=[
        *("solution that ends in a gold", "box", "python repr", "any of several"),
        *("both signs apart", "both signs at once", "tuple with pi", "per cent"),
        *("sum", "formula", "power of ten"),
    ],
)
def test_golds_as_they_are_written(golds: tuple[str, ...], cot: str, upto: str) -> None:
    answer = cot.rpartition(". ")[2]
    found = find_derivation(Trace("t", (Message("user", "What is it?"),), cot, answer, golds))
    assert found.status == "derived"
    assert cot[: found.end] == upto


def test_a_value_that_must_come_in_order() -> None:
    def status(cot: str) -> str:
        return find_derivation(Trace("t", ASKED, cot, "", ("(3, 5)",))).status

    assert status("so (x, y) = (3, 5).") == "derived"
    assert status("so (x, y) = (5, 3).") == "not_found"


def test_a_restated_number_is_no_derivation() -> None:
    trace = Trace(
        "t", (Message("user", "He has 15 pens. How many?"),), "He has 15 pens.", "15", ("15",)
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
        turns = (Message("user", problem.text),)
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
