"""What inspect shows: right counts, the cut in the right place, and no trace text taken as markup."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from leadspan.config import TracesConfig, TruncationConfig
from leadspan.traces.inspect import Inspection, inspect_traces, show, visible
from tests.traces.tokenizers_for_tests import byte_level

NASTY = "<script>alert('x')</script> \x1b[31mred\x1b[0m [bold]b[/bold] \u202eback \x9b0m & <b>"


@pytest.fixture
def inspection(tmp_path: Path) -> Inspection:
    rows = [
        {
            "id": NASTY,
            "prompt": f"{NASTY}?",
            "cot": f"{NASTY} thought",
            "answer": NASTY,
            "gold": "1",
        },
        {"prompt": "p", "cot": "cafe\u0301 is decomposed", "answer": "a"},
        {"prompt": "p", "cot": "no end", "meta": {"closed": False}},
        {"prompt": "p", "cot": ""},
        {"prompt": "p", "completion": "no markers"},
    ]
    file = tmp_path / "<b>rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return inspect_traces(
        byte_level(),
        TracesConfig(path=str(file)),
        truncation=TruncationConfig(lsp=0.5),
        num_specimens=3,
    )


def test_json_has_what_is_promised(inspection: Inspection) -> None:
    found = json.loads(json.dumps(inspection.as_dict()))
    assert found["rows"] == 5
    assert found["usable"] == 3
    assert found["refused"] == {"empty_cot": 1, "no_marker": 1}
    assert found["roundtrip_failures"] == 0
    assert found["roundtrip_normalised"] == 1
    assert set(found["tokens"]) == {"prompt", "cot", "answer", "sequence"}
    assert found["tokens"]["cot"]["min"] <= found["tokens"]["cot"]["q50"]
    assert found["notes"] == {"unclosed": 1, "no_gold": 2}
    assert found["lsp"]["0.5"]["kept_tokens"] == found["configured"]["kept_tokens"]
    assert sum(found["histogram"]["cot"]) == 3


def test_runs_join_to_the_whole_trace_and_stop_at_the_cut(inspection: Inspection) -> None:
    plain = inspection.specimens[1]
    assert "".join(run.text for run in plain.runs).startswith(
        "p\n<think>café is decomposed</think>a"
    )
    kept = "".join(run.text for run in plain.runs if run.kept)
    assert 0 < len(kept) < len("".join(run.text for run in plain.runs))
    assert all(not run.scored for run in plain.runs if run.section == "prompt" or not run.kept)
    assert any(run.scored for run in plain.runs)


def test_terminal_shows_text_as_text(inspection: Inspection) -> None:
    out = io.StringIO()
    show(inspection, Console(file=out, force_terminal=True, width=200, color_system="standard"))
    text = out.getvalue()
    assert "\x1b[31mred" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "␛[31mred" in plain
    assert "[bold]b[/bold]" in plain
    assert "cut here" in plain


def test_long_runs_are_shortened(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "p", "cot": "word " * 2000, "answer": "a"}))
    long = inspect_traces(byte_level(), TracesConfig(path=str(file)))
    assert "…4,0" in _shown(long)


def test_an_unusable_set_can_be_shown_too(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "p", "cot": ""}\n')
    empty = inspect_traces(byte_level(), TracesConfig(path=str(file)))
    assert empty.as_dict()["tokens"]["cot"] == {}
    assert "0 usable" in _shown(empty)


def _shown(inspection: Inspection, width: int = 100) -> str:
    out = io.StringIO()
    show(inspection, Console(file=out, width=width))
    return out.getvalue()


def test_visible_leaves_ordinary_text_alone() -> None:
    assert visible("a\n\tb é 好 👩‍👩‍👧") == "a\n\tb é 好 👩‍👩‍👧"
