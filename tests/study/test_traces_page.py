"""The page of traces: what the terminal says, in the report's look; no text of a trace taken as markup."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

from leadspan.config import TracesConfig, TruncationConfig
from leadspan.records import Section
from leadspan.study.report.traces_page import build_traces_page, mark_cuts
from leadspan.traces.inspect import Inspection, Run, inspect_traces
from tests.traces.test_inspect import inspection  # noqa: F401 (a fixture)
from tests.traces.tokenizers_for_tests import byte_level

from .test_report import Page


def build_page(folder: Path, rows: list[dict[str, str]], lsp: float = 1.0) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cut = TruncationConfig(lsp=lsp)
    return build_traces_page(
        inspect_traces(byte_level(), TracesConfig(path=str(file)), truncation=cut)
    )


def test_text_of_traces_is_text(inspection: Inspection) -> None:  # noqa: F811
    page = build_traces_page(inspection)
    body = Page(page.partition("</head>")[2])
    tags = {tag for tag, _ in body.tags}
    assert not {"script", "link", "img", "iframe"} & tags
    assert "&lt;script&gt;alert" in page
    assert not {"\x1b", "\x9b", "\u202e"} & set(page)
    titles = [tag for tag, _ in Page(page).tags if tag == "title"]
    assert titles == ["title"]


def test_it_says_what_was_counted(inspection: Inspection) -> None:  # noqa: F811
    page = build_traces_page(inspection)
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2])).split())
    assert "3 of 5 rows can be trained on." in text
    assert "✂ cut from here" in text
    for said in (
        "What each lsp keeps",
        "Tokens by section",
        "empty_cot 1",
        "no_marker 1",
        "no_gold 2",
    ):
        assert said in text, said


def test_a_trace_is_whole(tmp_path: Path) -> None:
    page = build_page(tmp_path, [{"prompt": "p", "cot": "word " * 2000, "answer": "a"}])
    assert page.count("word") == 2000


def test_a_set_without_a_usable_row_has_a_page(tmp_path: Path) -> None:
    page = build_page(tmp_path, [{"prompt": "p", "cot": ""}])
    assert "0 of 1 rows can be trained on." in page
    assert "empty_cot" in page
    assert 'class="bars"' not in page


def test_marks_stand_where_keeping_changes() -> None:
    section: Section = "cot"
    runs = [Run("a", section, kept, kept) for kept in (False, False, True, True, False)]
    assert [mark for _, mark in mark_cuts(runs)] == [
        "✂ cut from here",
        "",
        "kept from here ✂",
        "",
        "✂ cut from here",
    ]
