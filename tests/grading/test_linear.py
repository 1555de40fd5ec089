"""Time of every search in a text grows with its length and no faster, up to a megabyte."""

import contextlib
import time

import pytest

from leadspan.grading.extract import find_formulas
from leadspan.grading.golds import read_golds
from leadspan.grading.notation import canonical
from leadspan.grading.rules import ask

FAMILIES = [" ", "7", ",", ".", "(", "x", "$", "{", "\\boxed{", "\n", "ab ", "answer is "]
BEFORE = ["", "answer"]
KINDS = {"math": "5", "numeric": "5", "choice": "B", "exact": "5", "set": "1,2"}
LENGTHS = (250_000, 500_000, 1_000_000)


def seconds(function, unit, before, length):
    text = before + (unit * (length // len(unit) + 1))[:length]
    started = time.process_time()
    with contextlib.suppress(ValueError):
        function(text)
    return time.process_time() - started


def check(function, unit, before):
    took = [seconds(function, unit, before, length) for length in LENGTHS]
    # Doubling doubles; quadratic time would make it 16 times as much from the first to the last.
    assert took[-1] < 10 * took[0] + 1.0, took


@pytest.mark.parametrize("unit", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_grading(kind, unit):
    for before in BEFORE:
        check(lambda text: ask(text, (KINDS[kind],), kind, None), unit, before)


@pytest.mark.parametrize("unit", FAMILIES)
@pytest.mark.parametrize(
    "function", [read_golds, canonical, find_formulas], ids=lambda function: function.__name__
)
def test_reading(function, unit):
    check(function, unit, "x")
