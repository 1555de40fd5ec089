# ruff: noqa: E501
"""Golds as rows hold them: one row for every way of writing met in public data sets."""

import contextlib
import time

import pytest

from leadspan.grading.golds import read_golds

READ = [
    ("025", ("25",)), ("27.0", ("27",)), (27.0, ("27",)), (27, ("27",)), ("0.50", ("0.5",)), ("-07", ("-7",)), (1e-7, ("1e-07",)),
    ("She has 3.\n#### 1,234", ("1234",)), ("so $\\boxed{\\frac{1}{2}}$.", ("\\frac{1}{2}",)), ("1,2", ("1,2",)), ("0,111", ("0,111",)),
    ("#### Solution\nWe add.\n\\boxed{540}", ("540",)), (True, ("True",)), (False, ("False",)),
    (["1", "2", "1"], ("1", "2")), ([1, [2, None]], ("1", "2")), ("[1,2]", ("[1,2]",)), ("{1,2}", ("{1,2}",)),
    ("\\{1,2\\}", ("\\{1,2\\}",)), ('["540", "541"]', ("540", "541")), ("['$2$']", ("$2$",)),
    ("{'ground_truth': '540'}", ("540",)), ('{"ground_truth": 540}', ("540",)), ({"reference_answer": "5", "x": 1}, ("5",)),
    ({"reward_model": {"style": "rule", "ground_truth": "7"}}, ("7",)), ({"answer": None, "solution": "\\boxed{3}"}, ("3",)),
    ('{"ground_truth": "\\frac{1}{2}"}', ("\\frac{1}{2}",)), ("{'ground_truth': '\\\\frac{1}{2}'}", ("\\frac{1}{2}",)),
    (None, ()), (float("nan"), ()), ("  ", ()), ([], ()), ({}, ()), ("NaN", ()), ("null", ()), ({"answer": None}, ()),
]  # fmt: skip
REFUSED = [
    ({"colour": "red"}, "a mapping without a gold"), ("{'colour': 'red'}", "a mapping without a gold"), (b"540", "bytes"),
    ("{'ground_truth': open('x')}", "is not one"), (float("inf"), "infinite"), ([[[[[[["5"]]]]]]], "too deep"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "golds"), READ, ids=[str(value)[:40] for value, _ in READ])
def test_golds(value, golds):
    assert read_golds(value) == golds


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_is_no_gold_is_refused_with_a_reason(value, reason):
    with pytest.raises(ValueError, match=reason):
        read_golds(value)


def test_literal_text_is_left_alone():
    assert read_golds("043", literal=True) == ("043",)
    assert read_golds("\\boxed{5}", literal=True) == ("\\boxed{5}",)
    assert read_golds({"answer": ["B"]}, literal=True) == ("B",)


def test_arrays_of_parquet_rows_are_lists():
    numpy = pytest.importorskip("numpy")
    assert read_golds(numpy.array(["a", "b"])) == ("a", "b")
    assert read_golds(numpy.int64(27)) == ("27",)


@pytest.mark.parametrize("unit", ["{'", "[", "#### ", "\\boxed{", "1", "1,", " ", "{'a': "])
def test_time_grows_with_the_length_alone(unit):
    def seconds(length):
        text, started = unit * (length // len(unit)), time.process_time()
        with contextlib.suppress(ValueError):
            read_golds(text)
        return time.process_time() - started

    assert seconds(400_000) < 8 * seconds(100_000) + 0.2
