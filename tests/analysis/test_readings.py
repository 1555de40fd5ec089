"""Cues, segments and coverage of made-up traces."""

from __future__ import annotations

from itertools import pairwise

import pytest

from leadspan.analysis.segments import (
    LEXICON,
    count_around,
    find_cues,
    find_segments,
    measure_coverage,
    shares,
)
from tests.analysis.made_up import DERIVATIONS, made_up_trace


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Wait, that is 5.", ["wait"]),
        ("Let me double-check this. Hmm.", ["check", "doubt"]),
        ("I await the waiter.", []),
        ("Alternatively, let's verify it another way.", ["alternative", "check", "alternative"]),
        ("Actually, no. Let me start over.", ["correction", "rethink"]),
        ("That doesn't seem right.", ["doubt"]),
    ],
)
def test_cues(text: str, kinds: list[str]) -> None:
    assert [cue.kind for cue in find_cues(text)] == kinds
    assert set(kinds) <= set(LEXICON)


def test_cues_before_and_after() -> None:
    text = "Hmm. It is 4. Wait, let me check."
    assert count_around(text, text.index("4")) == (1, 2)


@pytest.mark.parametrize("name", DERIVATIONS)
def test_segments_cover_the_cot(name: str) -> None:
    trace, end = made_up_trace(name)
    segments = find_segments(trace.cot, trace.prompt, end)
    assert (segments[0].start, segments[-1].end) == (0, len(trace.cot))
    for left, right in pairwise(segments):
        assert left.end == right.start
        assert left.kind != right.kind
    assert sum(shares(segments).values()) == pytest.approx(1)


def test_segments_by_kind() -> None:
    prompt = "A farmer sells 12 eggs a day at 3 dollars each. What does the farmer earn in 7 days?"
    cot = (
        "The farmer sells 12 eggs a day at 3 dollars each. I need to find out how to begin. "
        "12 times 3 is 36. Then 36 * 7 = 252. Wait, let me check that. 36 * 7 = 252, yes."
    )
    end = cot.index("252") + 3
    found = find_segments(cot, prompt, end)
    assert [segment.kind for segment in found] == ["restate", "plan", "derive", "verify"]
    assert all(s.kind != "verify" for s in find_segments(cot, prompt, None))


def test_no_cot_has_no_segments() -> None:
    assert find_segments("", "prompt", None) == []
    assert set(shares([]).values()) == {0.0}


def test_coverage() -> None:
    whole = measure_coverage("The farmer sells 12 eggs.", "So this farmer sells his 12 eggs now")
    assert (whole.numbers, whole.words, whole.entailed) == (1, 1, True)
    part = measure_coverage("The farmer sells 12 eggs and 5 ducks", "12 ducks")
    assert part.numbers == 0.5
    assert 0 < part.words < 0.5
    assert not part.entailed
    assert measure_coverage("", "anything").score == 1
