"""What is shown on a terminal of 80 columns: tables that fit, counts that are short, whole words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from leadspan.progress import amount, build_console, build_table, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (188_926, "188,926"),
        (999_999, "999,999"),
        (1_000_000, "1M"),
        (1_234_567, "1.23M"),
        (45_600_000_000, "45.6B"),
        (999_700_000, "1,000M"),
        (7.4e12, "7.4T"),
        (0.4, "0"),
    ],
)
def test_a_count_has_at_most_seven_characters(number: float, shown: str) -> None:
    assert amount(number) == shown
    assert len(shown) <= 7


def test_nine_columns_of_the_longest_counts_fit() -> None:
    table = build_table("section", *(f"q{n}" for n in range(8)))
    table.add_row("sequence", *(amount(999_999) for _ in range(8)))
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    assert out.getvalue().count("999,999") == 8
    assert "…" not in out.getvalue()


def test_lines_break_between_words_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = (
        "first line\nthe second is longer than the terminal is wide, with "
        "/a/path/that-is-longer-than-forty-columns/in-it"
    )
    shown = wrapped(text, Terminal())
    assert shown.split() == text.split()
    assert all(len(line) <= 40 or len(line.split()) == 1 for line in shown.splitlines())
    assert shown.startswith("first line\n")
    assert wrapped(text, io.StringIO()) == text


def test_columns_say_how_wide_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert build_console().width == 140
    monkeypatch.setenv("COLUMNS", "80")
    assert build_console().width == 80
