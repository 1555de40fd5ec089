"""docs/data.md keeps its word: every example row is read as it says, every reason is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from leadspan.records import Trace
from leadspan.traces.formats import FORMATS, Reading, iter_traces_of
from leadspan.traces.sections import family_names
from tests.traces.test_bad_rows import BAD, Kept
from tests.traces.test_sections import REFUSALS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## Formats")[1].split("Any other columns")[0]
LINES = [line for line in TABLE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("line", LINES, ids=[line.split("`")[1] for line in LINES])
def test_example_row(line: str) -> None:
    names = re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1])
    cell = re.split(r"(?<!\\)\|", line)[5].strip().strip("`").replace("\\|", "|")
    for known in (None, *(FORMATS[name] for name in names)):
        (trace,) = iter_traces_of(json.loads(cell), known, Reading())
        assert isinstance(trace, Trace)
        assert (trace.prompt, trace.cot) == ("6*7?", "6*7 is 42.")
        assert trace.answer.endswith(("42", "\\boxed{42}"))


def test_every_format_and_family_is_tabled() -> None:
    tabled = {name for line in LINES for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert tabled == set(FORMATS)
    assert all(f"| `{name}` |" in PAGE for name in family_names())


def test_every_reason_is_explained() -> None:
    reasons = {expected for _, _, expected in BAD if not isinstance(expected, Kept)}
    reasons |= {reason for _, reason, _ in REFUSALS}
    explained = PAGE.split("## Why a row is refused")[1].split("## Filters")[0]
    assert {reason for reason in reasons if f"`{reason.split(':')[0]}" not in explained} == set()
