"""Mentions are found by value, and only whole numbers and words count."""

from __future__ import annotations

import pytest

from leadspan.analysis.mentions import find_mentions
from leadspan.analysis.values import read_gold


def _found(text: str, gold: str) -> list[str]:
    read = read_gold(gold)
    assert read is not None
    return [text[m.start : m.end] for m in find_mentions(text, read)]


@pytest.mark.parametrize(
    ("text", "gold", "found"),
    [
        ("That is 1,170, or $1170.00.", "1170", ["1,170", "1170.00"]),
        ("20{,}000 and 20000", "20,000", ["20{,}000", "20000"]),
        ("5, 15, 50, 0.5, 5.", "5", ["5", "5"]),
        ("x5 and a_5 and 2^5 and f5=1", "5", []),
        ("10 / 2 = 5 and 10/2", "5", ["5"]),
        ("a 1/4 share, 0.25 or \\frac{1}{4}", r"\frac14", ["1/4", "0.25", "\\frac{1}{4}"]),
        ("-25 and 25", "25", ["25"]),
        ("x = -25 or -$25", "-25", ["-25", "-$25"]),
        ("So -25. It is -25. 5x -25", "-25", ["-25", "-25"]),
        ("30 - 25, 30 -25 and 30-25", "25", ["25", "25", "25"]),
        ("I think it's Brasília.", "Brasilia", ["Brasília"]),
        ("two or Two but not twofold", "2", ["two", "Two"]),
        ("2 million is 2000000", "2000000", ["2 million", "2000000"]),
        ("so √5 = sqrt(5) = \\sqrt{5}", r"\sqrt{5}", ["√5", "sqrt(5)", "\\sqrt{5}"]),
        ("√72 = 6√2", r"6\sqrt{2}", ["√72", "6√2"]),
        ("it is 20000/π here", r"\frac{20000}{\pi}", ["20000/π"]),
        ("w = 6 -5i.", "6 - 5i", ["6 -5i"]),
        ("east, East, northeast", r"\text{east}", ["east", "East"]),
        ("B) or (B), Bob", r"\text{(B)}", ["B", "B"]),
        ("K but not k or Key", "K", ["K"]),
        ("70% or 0.7 or 7 % or 0.7%", "0.7", ["70%", "0.7", "0.7"]),
        ("(1 + √5)/2 but (8+2)/18", r"\frac{1+\sqrt{5}}{2}", ["(1 + √5)/2"]),
        ("1 + √5, 1 - √5 and -2", r"\{1\pm\sqrt{5},-2\}", ["1 + √5, 1 - √5 and -2"]),
        ("3 ... " + "and so on " * 9 + "-3", r"\pm 3", []),
        (r"(2x + 1)/3 and \frac{2x+1}{3}, 2x+12", "2x+1", ["2x + 1", "2x+1"]),
        (r"the set \{1 \pm \sqrt{5}, -2\}", r"\{1\pm\sqrt{5},-2\}", [r"\{1 \pm \sqrt{5}, -2\}"]),
    ],
)
def test_mentions(text: str, gold: str, found: list[str]) -> None:
    assert _found(text, gold) == found


def test_long_runs_of_digits_stay_fast() -> None:
    text = "1," * 20000 + "1" * 20000
    assert _found(text, "7") == []
    assert _found("√" * 5000 + "(" * 5000, r"\sqrt{5}") == []
