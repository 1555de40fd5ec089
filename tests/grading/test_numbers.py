# ruff: noqa: E501
"""The one reader of numbers: value and what else it may stand for, and the normal form for voting."""

from fractions import Fraction

import pytest

from leadspan.grading.numbers import answer_key, read_number, same_number

NUMBERS = [
    ("5", "5"), ("-5.", "-5"), ("1,234", "1234"), ("1 000", "1000"), ("1 2", None), ("½", "1/2"), ("3½", "7/2"), ("1 1/2", "3/2"),
    ("\\frac{-1}{2}", "-1/2"), ("\\frac12", "1/2"), ("4.5 \\times 10^{33}", "45e32"), ("4.5e33", "45e32"), ("10^{-9}", "1e-9"),
    ("0.\\overline{3}", "1/3"), ("0.1\\overline{6}", "1/6"), ("1000,99", "1000.99"), ("1,22", "1.22"), ("0,111", "0.111"), ("3,5", None),
    ("1.234.567,89", "1234567.89"), ("２５", "25"), ("−3", "-3"), ("\\$9,\\!360", "9360"), ("90^{\\circ}", "90"), ("x = 5", "5"), ("5!", "120"),
    ("3\\times10^8 \\text{ m/s}", "3e8"), ("5\\text{ 个}", "5"), ("18 dollars per day", "18"), ("2:00 pm", "2"), ("2:30", None),
    ("2x", None), ("2\\pi", None), ("\\sqrt{2}", None), ("2 + 3", None), ("\\frac{1}{0}", None), ("", None), ("9" * 500, None), ("1.2.3 hours 4 minutes", None),
]  # fmt: skip
KEYS = [
    ("0.5", "\\frac12"), ("1,000", "10^3"), ("\\sqrt8", "2\\sqrt{2}"), ("½", "50/100"), ("\\text{Yes}", "yes"), ("x = 5", "5.0"), ("\\pi", "π"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS, ids=[text[:30] for text, _ in NUMBERS])
def test_read_number(text, value):
    number = read_number(text)
    assert (number and number.value) == (None if value is None else Fraction(value))


@pytest.mark.parametrize(("left", "right"), KEYS)
def test_answers_that_read_the_same_vote_together(left, right):
    assert answer_key(left) == answer_key(right)


def test_a_number_too_long_to_write_out_votes():
    assert answer_key("\\frac{1}{2004!}") == answer_key("1/2004!") != answer_key("\\frac{1}{2005!}")


def test_answers_that_differ_do_not():
    assert (
        len({answer_key(text) for text in ("1e-8", "2e-8", "0", "x", "y", "2^{-98}", "2^{-99}")})
        == 7
    )


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("50\\%", "0.5", True), ("50\\%", "50", True), ("50\\%", "0.5\\%", False), ("5 cm", "5 cm^2", False), ("500 cm", "5 m", True),
        ("5 cm", "5", True), ("2 hours", "120 minutes", True), ("5 apples", "5 dollars", True), ("3 million", "3000000", True),
        ("0.333333", "\\frac13", True), ("0.33", "\\frac13", False), ("16386.16", "16386.163", True), ("16386.16", "16386.17", False),
        ("1.5\\text{ N m}", "1.5\\text{ J}", True), ("1.5\\text{ N}", "1.5\\text{ J}", False),
    ],
)  # fmt: skip
def test_same_number(left, right, same):
    assert same_number(read_number(left), read_number(right)) is same
