"""Records show themselves in one short line, and their HTML lets no text of a trace through as markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.analysis.analyze import analyze
from leadspan.config import TracesConfig
from leadspan.display import MOST_CHARACTERS, block
from leadspan.evaluation.summary import BenchmarkResult, EvaluationResult
from leadspan.records import Example, Message, Sequence, Span, Trace
from leadspan.traces.sources import LoadedTraces
from leadspan.training.run import TrainedRun

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">&lt;b&gt;</pre></details>$x$'
TRACE = Trace(
    trace_id="sum-1",
    messages=(Message("system", "Add."), Message("user", "What is 1 + 1?")),
    cot="So " * 500,
    answer="2",
    golds=("2",),
)
SEQUENCE = Sequence(
    "sum-1", np.arange(1200, dtype=np.int32), Span(0, 5), Span(5, 1190), Span(1190, 1200)
)
CUT = Sequence(
    "sum-1",
    np.arange(600, dtype=np.int32),
    Span(0, 5),
    Span(5, 600),
    Span(600, 600),
    was_cut=True,
    num_full_tokens=1200,
)
BENCHMARK = BenchmarkResult(
    name="sums",
    problems=30,
    samples=120,
    accuracy=0.5,
    accuracy_low=0.4,
    accuracy_high=0.6,
    pass_at={1: 0.5},
    maj_at={4: 0.6},
    outcomes={"correct": 60, "wrong": 54, "unparsed": 6},
    closed_fraction=0.9,
    cut_off_fraction=0.1,
    unparsed_fraction=0.05,
    empty_fraction=0.0,
    tokens={"mean": 100.0},
    by_difficulty={},
)
RESULT = EvaluationResult(0.5, 0.4, 0.6, 0.9, None, (BENCHMARK,), 12.0)
LOADED = LoadedTraces([TRACE] * 1200)
LOADED.refused.update({"no_cot": 3, "empty": 1})
ALLOWED = {
    "div",
    "p",
    "code",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "details",
    "summary",
    "pre",
}
LINES: dict[str, tuple[Any, str]] = {
    "message": (TRACE.messages[1], "Message('user': 14 characters)"),
    "trace": (
        TRACE,
        "Trace('sum-1': 2 messages, CoT of 1,500 characters, answer of 1 character, 1 gold)",
    ),
    "sequence": (SEQUENCE, "Sequence('sum-1': 1,200 tokens, prompt 5, cot 1,185, answer 10)"),
    "cut": (CUT, "Sequence('sum-1': 600 of 1,200 tokens, prompt 5, cot 595, answer 0)"),
    "example": (
        Example(SEQUENCE, np.arange(1200) > 10),
        "Example('sum-1': 1,200 tokens, 1,189 scored)",
    ),
    "run": (
        TrainedRun(
            Path("runs/half"),
            Path("runs/half/student"),
            {"steps": 100, "train_loss": 0.12345678, "val_loss": None},
        ),
        "TrainedRun('runs/half': 100 steps, loss 0.1235)",
    ),
    "benchmark": (
        BENCHMARK,
        "BenchmarkResult('sums': accuracy 0.500 [0.400, 0.600], 30 problems, 120 samples)",
    ),
    "evaluation": (RESULT, "EvaluationResult(accuracy 0.500 [0.400, 0.600], 1 benchmark)"),
    "loaded": (LOADED, "LoadedTraces(1,200 traces, 4 refused (3 no_cot, 1 empty))"),
}


class Tags(HTMLParser):
    """Every tag, attribute and piece of text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("case", LINES)
def test_a_record_is_one_short_line(case: str) -> None:
    record, expected = LINES[case]
    assert repr(record) == expected


def test_an_analysis_counts_its_readings(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text('{"prompt": "1+1?", "cot": "1+1=2. so 2.", "answer": "2", "gold": "2"}\n' * 3)
    shown = repr(analyze(TracesConfig(path=str(path)), tiny_tokenizer))
    assert shown.startswith("Analysis(")
    assert "reading" in shown
    assert len(shown) < 200


def test_a_long_name_is_shortened() -> None:
    shown = repr(Trace("x" * 10_000 + "\n", (), "", ""))
    assert len(shown) < 200
    assert "\n" not in shown


def shows_as_text(page: str, *texts: str) -> Tags:
    """Check that the texts stand on the page as text, and that nothing there can run or load."""
    found = Tags(page)
    assert found.open == []
    for text in texts:
        assert text in found.text
    assert found.tags <= ALLOWED
    assert found.attributes <= {"style"}
    return found


def test_hostile_text_of_a_trace_is_shown_as_text() -> None:
    trace = Trace(
        HOSTILE, (Message(HOSTILE, HOSTILE + "m"),), HOSTILE + "c", HOSTILE + "a", (HOSTILE,)
    )
    shows_as_text(trace._repr_html_(), *(HOSTILE + end for end in ("", "m", "c", "a")))


def test_a_trace_shows_each_message_of_the_same_kind() -> None:
    turns = (Message("user", "first"), Message("user", "secnd"))
    shows_as_text(Trace("t", turns, "c", "a")._repr_html_(), "first", "secnd")


def test_a_long_text_loses_its_middle() -> None:
    page = Trace("t", (), "x" * 1_000_000, "")._repr_html_()
    assert len(page) < MOST_CHARACTERS + 2000
    assert "[…996,000 characters…]" in page


def test_an_evaluation_is_a_table() -> None:
    page = RESULT._repr_html_()
    found = shows_as_text(page, "sums", "0.500", "0.400 to 0.600", "5.0%")
    assert "table" in found.tags


def test_hostile_headings_and_cells_are_shown_as_text() -> None:
    page = block(HOSTILE, (HOSTILE,), ((HOSTILE,),), ((HOSTILE, HOSTILE),))
    assert shows_as_text(page).text == HOSTILE * 5
