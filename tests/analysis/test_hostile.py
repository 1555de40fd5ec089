"""Every reading of a trace takes time linear in its text, whatever stands in it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadspan.analysis import context
from leadspan.analysis.derivation import find_derivation
from leadspan.analysis.mentions import find_mentions
from leadspan.analysis.segments import count_around, find_segments, measure_coverage
from leadspan.analysis.values import find_spelled, read_gold
from leadspan.records import Message, Trace

FAMILIES = {
    "dots": ".",
    "digits": "1",
    "commas": ",",
    "digit-comma": "1,",
    "groups": "111,",
    "brackets": "( ",
    "letters": "x ",
    "spaces": " ",
    "newlines": "\n",
    "equals": "= ",
    "one word": "a",
    "dollars": "$ ",
    "quotes": '"',
    "cues": "Wait, so ",
    "the gold": "5 ",
    "results": "is 5 + ",
    "per cent": "5% ",
    "fractions": r"\frac{",
    "roots": "√(",
    "signs": r"1 \pm ",
    "powers": "2^ ",
    "full stops": ". ",
}
GOLDS = ("5", r"\frac{4}{9}", "6-5i", r"\{1\pm\sqrt{5},-2\}", "van Gogh", "x^2+1")
SLACK_SECONDS = 0.01
"""Of CPU time; below it a clock says little."""


def _trace(place: str, text: str, gold: str) -> Trace:
    parts = {"prompt": "How many?", "cot": f"so it is {gold}.", "answer": f"It is {gold}."}
    if place == "gold":
        return Trace(
            "t", (Message("user", parts["prompt"]),), parts["cot"], parts["answer"], (text,)
        )
    parts[place] = f"{text} {parts[place]}"
    if place == "answer":
        parts["cot"] = "I will see."
    return Trace("t", (Message("user", parts["prompt"]),), parts["cot"], parts["answer"], (gold,))


def _read_all(trace: Trace) -> None:
    find_derivation(trace)
    find_segments(trace.cot, trace.prompt, None)
    count_around(trace.cot, 10)
    measure_coverage(trace.prompt, trace.cot)
    measure_coverage(trace.answer, trace.cot)


def _cpu_seconds(trace: Trace) -> float:
    started = time.process_time()
    _read_all(trace)
    return time.process_time() - started


def _is_linear(unit: str, place: str, gold: str, short: int, times: int) -> bool:
    """`times` as much text may take three times its share; quadratic would be `times` its share."""
    few, many = (
        _cpu_seconds(_trace(place, unit * (size // len(unit)), gold))
        for size in (short, short * times)
    )
    return many <= 3 * times * max(few, SLACK_SECONDS)


def _check_linear(unit: str, place: str, gold: str, short: int, times: int) -> None:
    assert any(_is_linear(unit, place, gold, short, times) for _ in range(3))


@pytest.mark.parametrize("place", ["prompt", "cot", "answer", "gold"])
@pytest.mark.parametrize("family", FAMILIES)
def test_time_is_linear(family: str, place: str) -> None:
    _check_linear(FAMILIES[family], place, "5", 2_000, 16)


@pytest.mark.parametrize("gold", GOLDS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_time_is_linear_for_every_kind_of_gold(family: str, gold: str) -> None:
    _check_linear(FAMILIES[family], "cot", gold, 1_000, 16)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["prompt", "cot", "answer", "gold"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_megabyte_is_read(family: str, place: str) -> None:
    _check_linear(FAMILIES[family], place, "5", 125_000, 8)


@settings(max_examples=40, deadline=None)
@given(
    unit=st.text("15,.=+-*/(){}[]$\\^_%:; \n\"'√π±xiaso½", min_size=1, max_size=6),
    gold=st.sampled_from(GOLDS),
)
def test_time_is_linear_for_anything(unit: str, gold: str) -> None:
    _check_linear(unit, "cot", gold, 500, 16)


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from([*FAMILIES.values(), "5", "4/9", "1 + √5", "-2", "so ", "the ", "\\left("])
    ),
    gold=st.sampled_from(GOLDS),
)
def test_mentions_stand_where_they_say(pieces: list[str], gold: str) -> None:
    text = "".join(pieces)
    read = read_gold(gold)
    assert read is not None
    mentions = find_mentions(text, read)
    assert all(0 <= one.start < one.end <= len(text) for one in mentions)
    assert [one.start for one in mentions] == sorted(one.start for one in mentions)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["about", " ", "$", "...", ".", "is", "5", "\\text{", "the", "*"])))
def test_fillers_are_taken_off_as_one_by_one(pieces: list[str]) -> None:
    text = "".join(pieces)
    one = re.compile(rf"{context._FILLER}\Z", re.IGNORECASE)
    wanted = text
    while found := min(
        (m for i in range(len(wanted)) if (m := one.match(wanted, i))),
        key=lambda match: match.start(),
        default=None,
    ):
        wanted = wanted[: found.start()]
    assert context._without_fillers(text) == wanted


def test_a_place_goes_to_the_end_of_a_piece() -> None:
    text = r"so \left( 3,\; \dfrac{π}{2} \right) it is"
    ((start, end),) = find_spelled(text, r"(3,\frac{\pi}{2})")
    assert text[start:end] == r"( 3,\; \dfrac{π}{2} \right)"
