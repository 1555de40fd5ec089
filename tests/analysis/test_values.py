"""Reading golds and values: one row for each form met in real traces."""

from __future__ import annotations

import math

import pytest

from leadspan.analysis.values import evaluate, read_gold, same_value


@pytest.mark.parametrize(
    ("gold", "kind", "value"),
    [
        ("540", "number", 540),
        ("1,170", "number", 1170),
        ("$18.50", "number", 18.5),
        ("27.0", "number", 27),
        ("025", "number", 25),
        ("-3", "number", -3),
        (r"90^\circ", "number", 90),
        (r"\boxed{12}", "number", 12),
        (r"\frac{3840}{289}", "expression", 3840 / 289),
        (r"\frac14", "expression", 0.25),
        (r"\frac 34", "expression", 0.75),
        ("3/4", "expression", 0.75),
        (r"2\sqrt{113}", "expression", 2 * math.sqrt(113)),
        (r"\frac{20000}{\pi}", "expression", 20000 / math.pi),
        ("6 - 5i", "expression", 6 - 5j),
    ],
)
def test_values(gold: str, kind: str, value: complex) -> None:
    read = read_gold(gold)
    assert read is not None
    assert read.kind == kind
    assert read.value is not None
    assert same_value(read.value, value)


@pytest.mark.parametrize(
    ("gold", "kind", "text"),
    [
        (r"\text{east}", "word", "east"),
        (r"\text{(B)}", "choice", "B"),
        ("C", "choice", "C"),
        ("Vincent van Gogh", "word", "Vincent van Gogh"),
        ("x^2 + 1", "verbatim", "x^2 + 1"),
    ],
)
def test_texts(gold: str, kind: str, text: str) -> None:
    read = read_gold(gold)
    assert read is not None
    assert (read.kind, read.text, read.value) == (kind, text, None)


@pytest.mark.parametrize(
    ("gold", "members", "is_ordered"),
    [
        (r"\{1\pm\sqrt{5},-2\}", ("1+\\sqrt{5}", "1-\\sqrt{5}", "-2"), False),
        (r"\left( 3, \frac{\pi}{2} \right)", ("3", "\\frac{\\pi}{2}"), True),
        (r"\pm 4", ("+ 4", "- 4"), False),
        (r"\pm4", ("+4", "-4"), False),
        (r"x = 3 \text{ or } x = -3", ("3", "-3"), False),
        ("2, 3, 5", ("2", "3", "5"), False),
    ],
)
def test_several_values(gold: str, members: tuple[str, ...], is_ordered: bool) -> None:
    read = read_gold(gold)
    assert read is not None
    assert read.kind == "values"
    assert (tuple(one.text for one in read.members), read.is_ordered) == (members, is_ordered)


def test_small_values_differ() -> None:
    assert not same_value(6.6e-34, 0)
    assert not same_value(1e-13, 2e-13)


@pytest.mark.parametrize("gold", ["", "  ", "$$", r"\text{}"])
def test_nothing_to_look_for(gold: str) -> None:
    assert read_gold(gold) is None


@pytest.mark.parametrize(
    "text", ["", "1+", "x+1", "1/0", "(2", "2)", "9^999999", "((((" * 30, "1" * 100]
)
def test_what_is_no_expression(text: str) -> None:
    assert evaluate(text) is None


def test_precedence_and_implicit_products() -> None:
    assert evaluate("2+3*4-6/2") == 11
    assert evaluate("-2^2") == -4
    assert evaluate(r"3\sqrt{4}(1+1)") == 12
