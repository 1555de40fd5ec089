"""What is advised, how sure it is, and in which order it is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.analysis.advise import LARGEST_CUT_LSP, RECOMMENDED_SHARE, Advice, advise
from leadspan.analysis.analyze import Analysis, TraceReading, analyze, summarise
from leadspan.analysis.derivation import Derivation, Status
from leadspan.config import RenderConfig, TracesConfig

LENGTH = 1_000


def reading(
    place: float | None, status: Status = "derived", is_wrong: bool = False
) -> TraceReading:
    """A trace of LENGTH tokens whose derivation ends at a share of them."""
    end = None if place is None else round(place * LENGTH)
    return TraceReading(
        trace_id="t",
        derivation=Derivation(status, end=end),
        is_wrong=is_wrong,
        num_tokens=LENGTH,
        prompt_tokens=100,
        cot_tokens=800,
        derivation_tokens=end,
        cot_fraction=place,
        cues_before=0,
        cues_after=0,
        segments={"restate": 0.0, "plan": 0.0, "derive": 1.0, "verify": 0.0},
        prompt_coverage=1.0,
        answer_coverage=1.0,
    )


def split(early: int, late: int, others: Sequence[TraceReading] = ()) -> Analysis:
    """So many traces that lsp 0.5 keeps, and so many that it loses."""
    readings = [reading(0.3)] * early + [reading(0.9)] * late
    return Analysis((*readings, *others), {}, "a.jinja")


@pytest.mark.parametrize(
    ("early", "late", "is_ok", "lsp"),
    [
        (90, 10, True, 0.3),
        (80, 20, True, 0.9),
        (49, 39, None, None),
        (31, 15, None, None),
        (30, 70, False, None),
        (1, 0, None, None),
        (19, 0, None, None),
        (0, 0, None, None),
    ],
    ids=["clear", "not surely 75 %", "49 of 88", "31 of 46", "late", "one", "few", "none"],
)
def test_an_order_only_where_it_is_sure(
    early: int, late: int, is_ok: bool | None, lsp: float | None
) -> None:
    others = [reading(None, "gold_in_prompt")] * 4
    advice = advise(split(early, late, others))
    assert (advice.fractional_cut_ok, advice.recommended_lsp) == (is_ok, lsp)
    assert (advice.adaptive_cut is not None) == (is_ok is False)
    if is_ok is None and early + late:
        assert "too few to tell" in advice.order


def test_an_order_holds_for_other_traces_drawn_like_these() -> None:
    """Over populations on both sides of the line: resamples of a sample that gave an order agree."""
    generator = np.random.default_rng(0)
    agreed, given = 0, 0
    for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        for size in (30, 90, 300):
            places = np.where(generator.random(size) < share, 0.3, 0.9)
            advice = advise(_analysis(places))
            if advice.fractional_cut_ok is None:
                continue
            for _ in range(20):
                again = _analysis(generator.choice(places, size))
                given += 1
                agreed += _holds(advice, again)
    assert given > 150
    assert agreed / given >= 0.95


def _analysis(places: Any) -> Analysis:
    return Analysis(tuple(reading(float(place)) for place in places), {})


def _holds(advice: Advice, analysis: Analysis) -> bool:
    kept = analysis.survival(LARGEST_CUT_LSP)
    assert kept is not None
    if advice.recommended_lsp is None:
        return kept < 0.6
    chosen = analysis.survival(advice.recommended_lsp)
    return kept >= 0.6 and chosen is not None and chosen >= RECOMMENDED_SHARE


def test_golds_are_asked_for_only_where_none_are() -> None:
    assert "give golds" in advise(Analysis((reading(None, "no_gold"),), {})).order
    known = advise(Analysis((reading(None, "gold_in_prompt"), reading(None, "no_gold")), {}))
    assert "give golds" not in known.order + " ".join(known.reasons)


def test_the_reasons_say_what_the_order_hangs_on() -> None:
    wrong = [reading(0.2, is_wrong=True)] * 3
    said = " | ".join(advise(split(90, 10, wrong)).reasons)
    assert "3 of 103 traces answer wrong" in said
    assert "chat template: a.jinja, median prompt 100 of 1000 tokens" in said
    assert "lsp 0.5 keeps it in 90% (95 % interval 82% to 95%) of 100 traces" in said
    assert "30% of the CoT" in said
    assert "(truncation.of: cot) lsp 0.5 keeps it in 90%" in said
    assert "neighboring cuts keep: lsp 0.2 0%, lsp 0.25 0%, lsp 0.35 90%, lsp 0.4 90%" in said


def test_results_in_the_answer_count_as_late(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """A set of which a detector that reads the CoT alone would say that nearly all is kept."""
    steps = "so i go on and on and look at it once more. " * 4
    rows = []
    for number in range(100):
        left, right = 11 + number, 300 - 3 * number
        result = f"{left} + {right} = {left + right}."
        early = {"cot": f"{result} {steps}", "answer": f"it is {left + right}."}
        late = {
            "cot": f"first i look. then i add. {steps}",
            "answer": f"{result} it is {left + right}.",
        }
        row = {"id": str(number), "prompt": f"what is {left} + {right}?", "gold": str(left + right)}
        rows.append({**row, **(early if number < 44 else late)})
    path = tmp_path / "built.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    analysis = analyze(TracesConfig(path=str(path)), tiny_tokenizer)
    found = summarise(analysis)
    assert (found["derived"], found["derived_in_answer"]) == (100, 56)
    assert found["survival"]["0.5"] == 0.44
    assert found["survival"]["1"] == 1.0
    assert advise(analysis).fractional_cut_ok is False


def test_the_template_is_named(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "2 + 2?", "cot": "2 + 2 = 4", "answer": "4", "gold": "4"}\n')
    template = tmp_path / "long.jinja"
    template.write_text(
        "{% for m in messages %}you are here to help as well as you can. {{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    )
    for name, wanted in (
        (None, "the tokenizer's own"),
        ("plain", "none (plain prompts)"),
        (str(template), str(template)),
    ):
        render = RenderConfig(chat_template=name)
        found = summarise(analyze(TracesConfig(path=str(path)), tiny_tokenizer, render))
        assert found["template"] == wanted
        assert found["median_prompt_tokens"] == (
            7 if name == "plain" else 6 if name is None else 47
        )
