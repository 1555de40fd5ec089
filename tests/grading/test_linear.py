"""Time of every search in a text grows with its length and no faster, up to a megabyte."""

import contextlib
import time

import pytest

from leadspan.grading.extract import MAX_CHARS, find_formulas
from leadspan.grading.golds import read_golds
from leadspan.grading.notation import canonical
from leadspan.grading.rules import ask

FAMILIES = [" ", "7", ",", ".", "(", "x", "$", "{", "\\boxed{", "\n", "ab ", "answer is "]
KINDS = {"math": "5", "numeric": "5", "choice": "B", "exact": "5", "set": "1,2"}
READERS = [read_golds, canonical, find_formulas]


def seconds(function, unit, before, length):
    text = before + (unit * (length // len(unit) + 1))[:length]
    started = time.process_time()
    with contextlib.suppress(ValueError):
        function(text)
    return time.process_time() - started


def check(function, unit, before, length):
    """Quadratic time would make it 64 times as much for 8 times the length."""
    short, long = (seconds(function, unit, before, size) for size in (length // 8, length))
    assert long < 20 * short + 0.1, (short, long)


@pytest.mark.parametrize("unit", FAMILIES)
def test_grading(unit):
    for before in ("", "answer"):
        for kind, gold in KINDS.items():
            check(lambda text: ask(text, (gold,), kind, None), unit, before, 64_000)  # noqa: B023


@pytest.mark.parametrize("unit", FAMILIES)
def test_reading(unit):
    for function in READERS:
        check(function, unit, "x", 64_000)


@pytest.mark.slow
@pytest.mark.parametrize("unit", FAMILIES)
def test_a_megabyte(unit):
    for kind, gold in KINDS.items():  # of a completion, only the end is read
        check(lambda text: ask(text, (gold,), kind, None), unit, "answer", 8 * MAX_CHARS)  # noqa: B023
    for function in READERS:
        check(function, unit, "x", 1_000_000)
