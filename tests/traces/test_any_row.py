"""Whatever JSON stands in whatever column, a row gives traces or a reason, and never a traceback."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadspan.messages import Unusable, read_message
from leadspan.records import Trace
from leadspan.traces.drafts import (
    GOLD_COLUMNS,
    ID_COLUMNS,
    MEDIA_COLUMNS,
    TOOL_COLUMNS,
    VARIABLES,
    Reading,
    digest_of,
)
from leadspan.traces.formats import FORMATS, iter_traces_of
from leadspan.traces.sections import SkippedRow

PYTHON_TEXT = re.compile(r"\{'|\[\{|None\b|True\b|False\b")
WORDS = st.sampled_from(
    [
        "",
        " ",
        "q",
        "<think>c</think>a",
        "<think>",
        "</think>",
        "42",
        "user",
        "assistant",
        "tool",
        "text",
    ]
) | st.sampled_from(
    ["thinking", "image_url", "on", "off", "<|im_end|>", "{", "[1]", '{"name": "f"}', "\ud800"]
)
KEYS = st.sampled_from(
    ["role", "from", "content", "value", "type", "text", "thinking", "reasoning_content", "name"]
) | st.sampled_from(
    ["tool_calls", "function", "arguments", "recipient", "channel", "info", "id", "ground_truth"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
COLUMNS = sorted(
    {column for known in FORMATS.values() for column in (*known.columns, *known.texts)}
    | {*ID_COLUMNS, *TOOL_COLUMNS, *GOLD_COLUMNS, *MEDIA_COLUMNS, VARIABLES, "meta", "history"}
    | {"correctness_math_verify", "reasoning"}
)


def check(row: dict[str, Any], name: str | None, reading: Reading) -> None:
    results = list(iter_traces_of(row, FORMATS[name] if name else None, reading))
    assert all(isinstance(result, Trace | SkippedRow) for result in results)
    for result in results:
        if isinstance(result, Trace):
            assert result.trace_id
            assert digest_of(result)
            texts = [turn.content for turn in result.messages] + [result.cot, result.answer]
            assert not any(PYTHON_TEXT.search(text) for text in texts)


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=6),
    st.sampled_from([None, *FORMATS]),
    st.sampled_from(["first_correct", "all_correct", "first", "all"]),
)
def test_any_json_in_any_column(row: dict[str, Any], name: str | None, choice: str) -> None:
    check(row, name, Reading(generations=choice))


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.data(),
    st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=2),
)
def test_any_json_in_the_columns_of_each_format(
    name: str, data: st.DataObject, others: dict[str, Any]
) -> None:
    row = {column: data.draw(JSON) for column in FORMATS[name].columns}
    check({**others, **row}, name, Reading(generations="all"))
    check({**others, **row}, None, Reading())
    check({**others, **row}, None, Reading(takes_prompts=True))


@settings(max_examples=100)
@given(JSON)
def test_any_json_as_a_message(message: Any) -> None:
    with suppress(Unusable):
        read = read_message(message)
        assert not PYTHON_TEXT.search(read.text + read.reasoning)


@pytest.mark.parametrize("depth", [70, 900])
def test_deep_nesting_has_a_reason(depth: int) -> None:
    nested: Any = "c"
    for _ in range(depth):
        nested = [nested]
    (refusal,) = iter_traces_of({"prompt": "q", "cot": "c", "x": nested}, None, Reading())
    assert refusal == SkippedRow("too_deep")
