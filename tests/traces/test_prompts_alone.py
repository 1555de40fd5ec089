"""Rows that are prompts alone: which are read, only where the student writes all that is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import RunConfig, TracesConfig
from leadspan.errors import ConfigError, DataError
from leadspan.records import Trace
from leadspan.traces.dataset import build_sequences
from leadspan.traces.doctor import examine
from leadspan.traces.drafts import Reading
from leadspan.traces.formats import FORMATS, iter_traces_of
from leadspan.traces.inspect import inspect_traces
from leadspan.traces.prompts import Conversation, Prompt
from leadspan.traces.render import Renderer
from leadspan.traces.sections import SkippedRow
from leadspan.traces.sources import LoadedTraces, iter_traces
from tests.traces.test_doctor import model_folder
from tests.traces.test_prepare import tokenizer_with

ASKED = {"role": "user", "content": "6*7?"}
ANSWERED = {"role": "assistant", "content": "<think>\n6*7 is 42.\n</think>\n\n42"}
PROMPTS_ALONE: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "6*7?"}, "unknown_format"),
    ({"problem": "6*7?", "answer": "42"}, "unknown_format"),
    ({"question": "6*7?"}, "unknown_format"),
    ({"prompt": [ASKED]}, "unknown_format"),
    ({"prompt": "6*7?", "completion": None}, "missing:completion"),
    ({"prompt": "6*7?", "completion": " "}, "no_marker"),
    ({"prompt": "6*7?", "cot": "", "answer": ""}, "empty_cot"),
    ({"problem": "6*7?", "generations": []}, "no_correct_generation"),
    ({"problem": "6*7?", "prompt": None}, "unknown_format"),
    ({"messages": [ASKED]}, "no_assistant_turn"),
    ({"messages": [{"role": "system", "content": "Think."}, ASKED]}, "no_assistant_turn"),
    ({"conversations": [{"from": "human", "value": "6*7?"}]}, "no_assistant_turn"),
    ({"messages": [{"role": "assistant", "content": "Hello."}, ASKED]}, "no_marker"),
]
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "empty_prompt"),
    ({"prompt": " \n", "completion": None}, "empty_prompt"),
    ({"prompt": None}, "missing:prompt"),
    ({"prompt": 7}, "not_text:prompt"),
    ({"prompt": []}, "empty_prompt"),
    ({"messages": []}, "no_assistant_turn"),
    ({"messages": [ASKED, {**ASKED, "content": " "}]}, "empty_prompt"),
    ({"messages": [{"role": "system", "content": "Think."}]}, "empty_prompt"),
    ({"prompt": [ASKED, {"role": "assistant", "content": "42"}]}, "prompt_ends_in_assistant"),
    ({"answer": "42"}, "unknown_format"),
    ({"prompt": "6*7?", "completion": "42"}, "no_marker"),
    ({"prompt": "6*7?", "image": "x.png"}, "has_image"),
]


def read(row: dict[str, Any], takes_prompts: bool, format: str | None = None) -> Any:
    known = FORMATS[format] if format else None
    (result,) = iter_traces_of(row, known, Reading(takes_prompts=takes_prompts))
    return result


@pytest.mark.parametrize(("row", "reason"), PROMPTS_ALONE)
def test_a_question_alone_is_read_where_asked_for_and_refused_elsewhere(
    row: dict[str, Any], reason: str
) -> None:
    trace = read(row, takes_prompts=True)
    assert isinstance(trace, Trace)
    assert trace.is_prompt
    assert trace.prompt == "6*7?"
    assert (trace.cot, trace.answer, trace.closed) == ("", "", False)
    assert trace.gold == row.get("answer", "") or trace.gold is None
    refused = read(row, takes_prompts=False)
    assert isinstance(refused, SkippedRow)
    assert refused.reason == reason


@pytest.mark.parametrize(("row", "reason"), BROKEN)
def test_a_row_with_nothing_to_ask_is_refused(row: dict[str, Any], reason: str) -> None:
    refused = read(row, takes_prompts=True)
    assert isinstance(refused, SkippedRow)
    assert refused.reason == reason


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("messages", {"messages": [ASKED, ANSWERED], "prompt": "another"}),
        ("prompt_completion", {"prompt": "6*7?", "completion": ANSWERED["content"]}),
        ("sections", {"prompt": "6*7?", "cot": "6*7 is 42."}),
        ("limo", {"question": "6*7?", "solution": "6*7 is 42.", "answer": "42"}),
    ],
)
def test_a_trace_stays_a_trace(format: str, row: dict[str, Any]) -> None:
    for name in (None, format):
        trace = read(row, takes_prompts=True, format=name)
        assert trace == read(row, takes_prompts=False, format=name)
        assert trace.cot == "6*7 is 42."


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def mixed(path: Path) -> Path:
    prompts = [{"id": f"p{n}", "prompt": f"{n}?", "gold": str(n)} for n in range(20)]
    traces = [
        {"id": f"t{n}", "prompt": f"{n}?", "cot": f"so {n}.", "answer": f"{n}"} for n in range(20)
    ]
    return write(path, [*prompts, *traces, {"id": "bad", "prompt": ""}])


def run(path: Path, **rollout: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "student": {"path": str(path.parent / "student")},
            "teacher": {"path": str(path.parent / "student")},
            "traces": {"path": str(path), "validation_fraction": 0.5},
            "loss": {"kd_ratio": 1.0},
            "rollout": {"horizon": 8, **rollout},
            "training": {"steps": 2, "batch_size": 4},
        }
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("template", ["plain", "chatml", "opens_thinking"])
def test_its_sequence_is_what_generation_feeds(template: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(template)
    made = build_sequences(run(mixed(tmp_path / "rows.jsonl")), tokenizer)
    alone = [sequence for sequence in made.train if sequence.is_prompt]
    assert len(alone) == 20
    assert not any(sequence.is_prompt for sequence in made.validation)
    assert made.validation
    assert made.refused == {"empty_prompt": 1}
    renderer = Renderer(tokenizer)
    config = TracesConfig(path=str(tmp_path / "rows.jsonl"))
    traces = {
        t.trace_id: t for t in iter_traces(config, takes_prompts=True) if isinstance(t, Trace)
    }
    for sequence in alone:
        (prompt,) = renderer.prompts([Conversation.of(traces[sequence.trace_id])])
        assert isinstance(prompt, Prompt)
        assert sequence.input_ids_T.tolist() == list(prompt.ids)
        assert (len(sequence.cot), len(sequence.answer)) == (0, 0)
        assert sequence.meta["gold"] == sequence.trace_id[1:]
    # The second call reads what the first one stored, and a run of another mode does not.
    again = build_sequences(run(tmp_path / "rows.jsonl"), tokenizer)
    assert [s.is_prompt for s in again.train] == [s.is_prompt for s in made.train]
    other = build_sequences(run(tmp_path / "rows.jsonl", share=0.5), tokenizer)
    assert not any(s.is_prompt for s in [*other.train, *other.validation])
    assert other.refused == {"unknown_format": 21}


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"horizon": 0.5}, "rollout.horizon must be a number of tokens .*got 0.5, and p0 has"),
        ({"horizon": 1.0, "horizon_start": 0.5, "schedule": "linear"}, "rollout.horizon must be"),
        ({"prefix": 2}, "rollout.prefix must be 0 .*got 2, and p0 has"),
        ({"prefix": 0.5}, "rollout.prefix must be 0 .*got 0.5"),
    ],
)
def test_a_share_of_no_trace_is_refused(rollout: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        build_sequences(run(mixed(tmp_path / "rows.jsonl"), **rollout), tokenizer_with("chatml"))


def test_the_entropy_schedule_needs_traces_to_validate_on(tmp_path: Path) -> None:
    keys = {"horizon": 8, "horizon_start": 2, "schedule": "entropy"}
    tokenizer = tokenizer_with("chatml")
    assert build_sequences(run(mixed(tmp_path / "mixed.jsonl"), **keys), tokenizer).validation
    alone = write(tmp_path / "rows.jsonl", [{"prompt": "6*7?"}])
    with pytest.raises(ConfigError, match="schedule must be constant or linear"):
        build_sequences(run(alone, **keys), tokenizer)


@pytest.mark.parametrize(
    ("filters", "kept", "refused"),
    [
        ({"only_closed": True}, 0, {"prompt_alone": 3}),
        ({"only_correct": True}, 0, {"prompt_alone": 3}),
        ({"only_with_gold": True}, 2, {"no_gold": 1}),
        ({}, 2, {"duplicate": 1}),
        ({"drop_duplicates": False}, 3, {}),
        ({"decontaminate": [{"path": "bench.jsonl"}]}, 1, {"overlap:bench.jsonl": 2}),
    ],
    ids=str,
)
def test_filters_on_prompts(
    filters: dict[str, Any],
    kept: int,
    refused: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("bench.jsonl"), [{"problem": "what is six times seven ?"}])
    first = {"prompt": "what is six times seven ?", "gold": "42"}
    twin = {"prompt": "what is six times seven ?", "gold": "42"}
    write(Path("rows.jsonl"), [first, twin, {"prompt": "another?"}])
    counts = LoadedTraces()
    if filters.get("only_with_gold"):
        filters = {**filters, "drop_duplicates": False}
    config = TracesConfig.model_validate({"path": "rows.jsonl", **filters})
    assert len(list(counts.sift(iter_traces(config, takes_prompts=True)))) == kept
    assert counts.refused == refused
    assert counts.notes["prompt_alone"] == kept


def test_the_doctor_knows_prompts_alone(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    rows = write(tmp_path / "rows.jsonl", [{"prompt": f"{n}*7?"} for n in range(9)])
    found = {finding.check: finding for finding in examine(run(rows))}
    assert [str(f) for f in found.values() if f.level == "error"] == []
    assert "9 usable (0 held out), 0 refused" in found["traces"].message
    assert "9 of 9 rows" in found["prompts alone"].message
    assert "cut" not in found
    assert found["rollouts and student"].level == "ok"
    far = {finding.check: finding for finding in examine(run(rows, horizon=500))}
    assert far["rollouts and student"].level == "error"
    assert "500 may follow" in far["rollouts and student"].message
    ill = {finding.check: finding for finding in examine(run(rows, horizon=0.5))}
    assert ill["traces"].level == "error"
    assert "must be a number of tokens" in ill["traces"].message


def test_inspect_shows_prompts_where_asked_to(tmp_path: Path) -> None:
    tokenizer = tokenizer_with("chatml")
    config = TracesConfig(path=str(mixed(tmp_path / "rows.jsonl")))
    found = inspect_traces(tokenizer, config, takes_prompts=True)
    assert (found.usable, found.round_trips["failed"]) == (40, 0)
    assert found.counts.notes["prompt_alone"] == 20
    assert found.configured.sequences == 20
    (specimen,) = found.specimens
    assert {piece.section for piece in specimen.runs} == {"prompt"}
    assert inspect_traces(tokenizer, config).usable == 20


def test_nothing_usable_says_which_column_holds_the_prompt(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"query": "6*7?"}])
    with pytest.raises(DataError, match=r"Write traces.columns: \{prompt: query\}"):
        build_sequences(run(rows), tokenizer_with("chatml"))
