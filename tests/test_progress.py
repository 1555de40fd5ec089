"""What is said while work goes on: stderr by default, Python's logging where a program has set it up."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from leadspan.progress import LOGGER, progress, say, set_loudness, warn


@pytest.fixture(autouse=True)
def _as_imported() -> Iterator[None]:
    """The logger as a library has it, and afterwards as it was found."""
    before = LOGGER.level, LOGGER.propagate
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = True
    yield
    LOGGER.setLevel(before[0])
    LOGGER.propagate = before[1]
    LOGGER.handlers[0].setFormatter(None)


def test_lines_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say("100 %s of it")
    warn("half")
    assert capsys.readouterr() == ("", "100 %s of it\nwarning: half\n")


@pytest.mark.parametrize("name", ["", "leadspan"])
def test_a_program_with_logging_of_its_own_has_them_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = io.StringIO()
    handler = logging.StreamHandler(kept)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logging.getLogger(name).addHandler(handler)
    try:
        say("a step")
        warn("half")
    finally:
        logging.getLogger(name).removeHandler(handler)
    assert kept.getvalue() == "leadspan INFO a step\nleadspan WARNING warning: half\n"
    assert capsys.readouterr().err == ""


def test_a_library_is_silenced_by_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.setLevel(logging.ERROR)
    say("a step")
    warn("half")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.WARNING, ["warning: half"]),
        (logging.INFO, ["a step", "warning: half", "work: 2/2 steps"]),
        (logging.DEBUG, ["a step", "warning: half", "work: 2/2 steps", "a file"]),
    ],
)
def test_loudness(level: int, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    set_loudness(level)
    root = logging.StreamHandler(io.StringIO())  # as libraries leave there
    logging.getLogger().addHandler(root)
    try:
        say("a step")
        warn("half")
        with progress("work", 2) as advance:
            advance(2)
        LOGGER.debug("a file")
    finally:
        logging.getLogger().removeHandler(root)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(shown)
    assert all(part in line for part, line in zip(shown, lines, strict=True))
    has_time = level == logging.DEBUG
    assert lines[0].startswith(shown[0]) is not has_time
