"""Readings of a whole source, survival over lsp, and the advice that follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.analysis.advise import advise
from leadspan.analysis.analyze import LSP_GRID, Analysis, analyze, reading_rows, summarise
from leadspan.config import RenderConfig, TracesConfig
from leadspan.errors import DataError
from leadspan.traces.cut import truncate
from leadspan.traces.render import render
from leadspan.traces.sources import load_traces
from leadspan.world.problems import draw_problems, solve


def _write_world(path: Path, late: bool = False, golds: bool = True, count: int = 40) -> Path:
    rows = []
    for number, problem in enumerate(draw_problems(np.random.default_rng(5), count, (3, 5, 8))):
        solution = solve(problem, late=late)
        gold = problem.gold if golds else None
        texts = {"prompt": problem.text, "cot": solution.cot, "answer": solution.answer}
        rows.append({"id": f"w{number}", **texts, "gold": gold})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def world(tmp_path: Path, tiny_tokenizer: Any) -> Analysis:
    return analyze(TracesConfig(path=str(_write_world(tmp_path / "w.jsonl"))), tiny_tokenizer)


def test_counts_are_a_partition(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = _write_world(tmp_path / "w.jsonl")
    extra = [
        {"prompt": "is 7 odd?", "cot": "it is 7", "answer": "7", "gold": "7"},
        {"prompt": "what?", "cot": "no idea", "answer": "none", "gold": "55"},
        {"prompt": "who?", "cot": "somebody", "answer": "he", "gold": None},
        {"prompt": "2 times 4?", "cot": "2 times 4 is 8. no, 9.", "answer": "it is 9", "gold": "8"},
    ]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in extra)
    found = summarise(analyze(TracesConfig(path=str(path)), tiny_tokenizer))
    counts = [found[k] for k in ("derived", "wrong", "not_found", "gold_in_prompt", "no_gold")]
    assert counts == [40, 1, 1, 1, 1]
    assert found["traces"] == sum(counts)
    assert sum(found["histogram"]) == 40


def test_survival_is_what_the_cut_keeps(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = str(_write_world(tmp_path / "w.jsonl"))
    analysis = analyze(TracesConfig(path=path), tiny_tokenizer)
    traces = load_traces(path).traces
    sequences = render(traces, tiny_tokenizer, RenderConfig())
    for lsp in (0.3, 0.4, 0.5, 0.6):
        kept = 0
        for trace, cut in zip(traces, truncate(sequences, lsp=lsp), strict=True):
            ids = cut.input_ids_T[cut.cot.start : cut.cot.end].tolist()
            text = "".join(tiny_tokenizer.convert_ids_to_tokens(ids))
            kept += f"o {trace.gold}" in text
        assert analysis.survival(lsp) == pytest.approx(kept / len(traces))
    assert [analysis.survival(lsp) for lsp in LSP_GRID] == sorted(
        analysis.survival(lsp) or 0.0 for lsp in LSP_GRID
    )


def test_the_ordinary_world_allows_a_cut(world: Analysis) -> None:
    found = summarise(world)
    assert 0.3 < found["median_fraction"] < 0.55
    advice = advise(world)
    assert advice.fractional_cut_ok
    assert advice.recommended_lsp is not None
    assert advice.recommended_lsp <= 0.6
    assert advice.kept_tokens_fraction == advice.recommended_lsp
    assert advice.adaptive_cut is None


def test_late_reasoning_is_told_apart(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = _write_world(tmp_path / "late.jsonl", late=True)
    analysis = analyze(TracesConfig(path=str(path)), tiny_tokenizer)
    assert summarise(analysis)["median_fraction"] > 0.8
    advice = advise(analysis)
    assert not advice.fractional_cut_ok
    assert advice.recommended_lsp is None
    assert advice.adaptive_cut == {"policy": "derivation", "margin": 0.1}
    assert any("reason late" in reason for reason in advice.reasons)


def test_without_golds_nothing_is_recommended(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = _write_world(tmp_path / "w.jsonl", golds=False)
    analysis = analyze(TracesConfig(path=str(path)), tiny_tokenizer)
    advice = advise(analysis)
    assert (advice.fractional_cut_ok, advice.recommended_lsp) == (None, None)
    assert advice.adaptive_cut is None
    assert any("nothing is known" in reason for reason in advice.reasons)
    assert "give golds" in advice.order
    assert summarise(analysis)["median_fraction"] is None


def test_rows_are_plain(world: Analysis) -> None:
    rows = reading_rows(world)
    assert json.loads(json.dumps(rows)) == rows
    assert {"trace_id", "status", "end", "fraction", "cues_before", "segments"} <= rows[0].keys()


def test_nothing_usable(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "q"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl"):
        analyze(TracesConfig(path=str(path)), tiny_tokenizer)
