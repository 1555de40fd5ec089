"""Each documented format becomes the trace it says, named or detected."""

from __future__ import annotations

from typing import Any

import pytest

from leadspan.records import Trace
from leadspan.traces.adapters import Reading
from leadspan.traces.formats import FORMATS, iter_traces_of
from leadspan.traces.sections import Refusal
from tests.traces.example_rows import ROWS, SYSTEM, A, C, Q, thought, turns

IDS = [f"{number}-{row[0]}" for number, row in enumerate(ROWS)]


def only(row: dict[str, Any], name: str | None, reading: Reading | None = None) -> Trace | Refusal:
    (trace,) = iter_traces_of(row, FORMATS[name] if name else None, reading or Reading())
    return trace


def check(trace: Trace | Refusal, expected: Any) -> None:
    if isinstance(expected, str):
        assert trace == Refusal(expected)
        return
    assert isinstance(trace, Trace)
    assert (trace.prompt, trace.cot, trace.answer, trace.gold, trace.closed) == expected


@pytest.mark.parametrize(("name", "row", "expected"), ROWS, ids=IDS)
def test_named_format(name: str, row: dict[str, Any], expected: Any) -> None:
    check(only(row, name), expected)


@pytest.mark.parametrize(("name", "row", "expected"), ROWS, ids=IDS)
def test_detected_format(name: str, row: dict[str, Any], expected: Any) -> None:
    check(only(row, None), expected)


@pytest.mark.parametrize(("name", "row", "expected"), ROWS, ids=IDS)
def test_detected_among_null_columns(name: str, row: dict[str, Any], expected: Any) -> None:
    """In a Parquet file of mixed rows every column is there, most of them null."""
    if name == "limo" or not all(row.get(column) is not None for column in FORMATS[name].columns):
        return
    columns = {column for known in FORMATS.values() for column in known.columns}
    check(only({**dict.fromkeys(columns), **row}, None), expected)


def test_every_format_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == set(FORMATS)


def test_system_column_opens_the_conversation() -> None:
    trace = only({"system": SYSTEM, "conversations": turns(Q, thought(C, A))}, None)
    assert isinstance(trace, Trace)
    assert [(turn.role, turn.content) for turn in trace.turns] == [("system", SYSTEM), ("user", Q)]


def test_earlier_turns_are_prompt_and_later_ones_are_not() -> None:
    chat = turns("Hi", "Hello!", Q, f"<think>{C}</think>{A}", "Bye", key="role", text="content")
    trace = only({"messages": chat}, None)
    assert isinstance(trace, Trace)
    assert [turn.content for turn in trace.turns] == ["Hi", "Hello!", Q]


GENERATIONS = {
    "problem": Q,
    "answer": "42",
    "uuid": "u",
    "generations": ["<think>a</think>41", "<think>b</think>42", "<think>c</think>42"],
    "correctness_math_verify": [False, True, False],
    "correctness_llama": [False, False, True],
}


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        ("first_correct", ["u#1"]),
        ("all_correct", ["u#1", "u#2"]),
        ("first", ["u#0"]),
        ("all", ["u#0", "u#1", "u#2"]),
    ],
)
def test_generations_are_chosen_by_correctness(choice: str, ids: list[str]) -> None:
    traces = list(iter_traces_of(GENERATIONS, None, Reading(generations=choice)))
    assert [trace.trace_id for trace in traces if isinstance(trace, Trace)] == ids


def test_short_columns_go_into_meta_and_the_row_s_meta_wins() -> None:
    row = {"prompt": Q, "cot": C, "cut": 12, "model": "R1", "long": "x" * 500, "tags": ["a"]}
    trace = only({**row, "meta": {"model": "own", "n": 3}}, None)
    assert isinstance(trace, Trace)
    assert dict(trace.meta) == {"cut": 12, "model": "own", "n": 3}


def test_an_id_of_its_own_depends_on_the_content_alone() -> None:
    first, again = (only({"prompt": Q, "cot": C, "gold": gold}, None) for gold in ("1", "2"))
    other = only({"prompt": Q, "cot": C + " "}, None)
    assert isinstance(first, Trace)
    assert isinstance(again, Trace)
    assert isinstance(other, Trace)
    assert first.trace_id == again.trace_id != other.trace_id
