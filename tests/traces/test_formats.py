"""Each documented format becomes the trace it says, named or detected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leadspan.records import Trace
from leadspan.traces.formats import FORMATS, Reading, iter_traces_of
from leadspan.traces.sections import SkippedRow
from tests.traces.example_rows import ROWS, SYSTEM, A, C, Q, thought, turns

IDS = [f"{number}-{row[0]}" for number, row in enumerate(ROWS)]


def only(
    row: dict[str, Any], name: str | None, reading: Reading | None = None
) -> Trace | SkippedRow:
    (trace,) = iter_traces_of(row, FORMATS[name] if name else None, reading or Reading())
    return trace


def check(trace: Trace | SkippedRow, expected: Any) -> None:
    if isinstance(expected, str):
        assert trace == SkippedRow(expected)
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
    assert [(turn.role, turn.content) for turn in trace.messages] == [
        ("system", SYSTEM),
        ("user", Q),
    ]


def test_earlier_turns_are_prompt_and_later_ones_are_not() -> None:
    chat = turns("Hi", "Hello!", Q, f"<think>{C}</think>{A}", "Bye", key="role", text="content")
    trace = only({"messages": chat}, None)
    assert isinstance(trace, Trace)
    assert [turn.content for turn in trace.messages] == ["Hi", "Hello!", Q]


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


TOOL = {"name": "mul", "parameters": {"type": "object"}}
LOOP = [
    {"role": "user", "content": Q},
    {
        "role": "assistant",
        "reasoning_content": "I multiply.",
        "content": "",
        "tool_calls": [{"id": "c1", "function": {"name": "mul", "arguments": '{"a": 6}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "42"},
    {"role": "assistant", "reasoning_content": C, "content": A},
]


def test_earlier_calls_results_and_schemas_are_kept_for_the_template() -> None:
    trace = only({"messages": LOOP, "tools": json.dumps([TOOL])}, None)
    assert isinstance(trace, Trace)
    assert (trace.cot, trace.answer) == (C, A)
    assert trace.tools == ({"type": "function", "function": TOOL},)
    assert [turn.role for turn in trace.messages] == ["user", "assistant", "tool"]
    _, call, result = trace.messages
    (called,) = call.fields["tool_calls"]
    assert called["function"] == {"name": "mul", "arguments": {"a": 6}}
    assert call.fields["reasoning_content"] == "I multiply."
    assert result.fields == {"tool_call_id": "c1"}


def test_the_row_s_template_variables_are_kept_and_its_tools_among_them() -> None:
    row = {"prompt": Q, "cot": C, "chat_template_kwargs": {"enable_thinking": False, "x": None}}
    trace = only(row, None)
    assert isinstance(trace, Trace)
    assert trace.template_variables == {"enable_thinking": False}
    trace = only({**row, "chat_template_kwargs": json.dumps({"tools": [TOOL]})}, None)
    assert isinstance(trace, Trace)
    assert (trace.template_variables, len(trace.tools)) == ({}, 1)


def test_what_a_template_reads_is_part_of_the_identity() -> None:
    plain = {"prompt": Q, "cot": C}
    rows: list[dict[str, Any]] = [
        plain,
        {**plain, "tools": [TOOL]},
        {**plain, "tools": [{**TOOL, "name": "add"}]},
        {**plain, "chat_template_kwargs": {"enable_thinking": False}},
        {"messages": LOOP},
        {"messages": [LOOP[0], {**LOOP[1], "reasoning_content": "Other."}, *LOOP[2:]]},
    ]
    ids = [trace.trace_id for row in rows if isinstance(trace := only(row, None), Trace)]
    assert len(set(ids)) == len(rows)
    # Ids decide who is held out: those of plain rows must never change.
    assert ids[0] == "2ac4543959fbf608"


@pytest.mark.parametrize(
    ("row", "golds"),
    [
        ({"gold": ["42", "forty-two"]}, ("42", "forty-two")),
        ({"gold": 42.0}, ("42",)),
        ({"gold": float("nan")}, ()),
        ({"gold": "", "expected_answer": "42"}, ("42",)),
        ({"gold": "Six sevens.\n#### 42"}, ("42",)),
        ({"gold": "So it is $\\boxed{42}$."}, ("42",)),
        ({"gold": "{'ground_truth': '42'}"}, ("42",)),
        ({"reward_model": {"style": "rule", "ground_truth": "42"}}, ("42",)),
        ({"verification_info": "{}"}, ()),
    ],
    ids=str,
)
def test_golds(row: dict[str, Any], golds: tuple[str, ...]) -> None:
    trace = only({"prompt": Q, "cot": C, **row}, None)
    assert isinstance(trace, Trace)
    assert trace.golds == golds


@pytest.mark.parametrize(
    ("gold", "note"),
    [({"n": 1}, "unreadable_gold"), ("x" * 20_001, "gold_too_long"), (["1"] * 65, "gold_too_long")],
)
def test_a_gold_that_is_none_is_noted(gold: Any, note: str) -> None:
    trace = only({"prompt": Q, "cot": C, "gold": gold}, None)
    assert isinstance(trace, Trace)
    assert (trace.golds, trace.notes) == ((), (note,))


def test_one_bad_generation_costs_itself_alone() -> None:
    row = {**GENERATIONS, "generations": ["<think>a</think>41", "no marker", "<think>c</think>42"]}
    results = list(iter_traces_of(row, None, Reading(generations="all")))
    assert [getattr(result, "trace_id", result) for result in results] == [
        "u#0",
        SkippedRow("no_marker"),
        "u#2",
    ]


def test_deepmath_s_generations() -> None:
    row = {
        "question": Q,
        "r1_solution_1": "x",
        "r1_solution_2": None,
        "r1_solution_3": "c</think>a",
    }
    results = list(iter_traces_of({**row, "id": "d"}, None, Reading(generations="all")))
    assert [getattr(result, "trace_id", result) for result in results] == [
        SkippedRow("no_marker"),
        "d#2",
    ]


def test_alpaca_s_history_comes_before_its_question() -> None:
    row = {"instruction": Q, "output": f"<think>{C}</think>{A}", "history": [["Hi", "Hello!"]]}
    trace = only({**row, "system": SYSTEM}, None)
    assert isinstance(trace, Trace)
    assert [turn.content for turn in trace.messages] == [SYSTEM, "Hi", "Hello!", Q]
    assert only({**row, "history": [["Hi"]]}, None) == SkippedRow("not_text:history")
