"""The printed estimate: its words, its probe, and that it leaves the run as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leadspan.records import Example, Sequence, Span
from leadspan.training.metering import PROBE_TOKENS, describe_seconds, probe_example, time_probe
from tests.training.test_train import _run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.123, "0.12 s"),
        (42.4, "42 s"),
        (89.9, "90 s"),
        (210, "3.5 min"),
        (3599, "60 min"),
        (43_200, "12 h"),
        (354_240, "4.1 days"),
    ],
)
def test_two_digits(seconds: float, expected: str) -> None:
    assert describe_seconds(seconds) == expected


@pytest.mark.parametrize("length", [5, 40, 500])
def test_the_probe_is_a_start_with_labels_of_the_vocabulary(length: int) -> None:
    ids_T = np.arange(length, dtype=np.int32)
    sequence = Sequence("t", ids_T, Span(0, 2), Span(2, length - 1), Span(length - 1, length))
    probe = probe_example(Example(sequence, np.zeros(length, dtype=np.bool_)), 30, CPU)
    kept = min(length, PROBE_TOKENS["cpu"])
    assert probe.sequence.input_ids_T.tolist() == list(range(kept))
    assert np.flatnonzero(probe.supervised_T).tolist() == list(range(1, min(kept, 30)))


def test_random_numbers_are_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    time_probe(lambda: torch.rand(100), CPU)
    assert torch.equal(torch.rand(4), expected)


def test_a_run_says_it_before_the_first_step_and_again_when_it_goes_on(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path / "run", tiny_student, tiny_teacher, steps=3)
    said = capsys.readouterr().err
    place = said.index("for 3 steps and ")
    assert "about " in said[:place]
    assert place < said.index("3/3 steps")
    (tmp_path / "run" / "manifest.json").unlink()
    _run(tmp_path / "run", tiny_student, tiny_teacher, steps=3)
    assert "for 3 steps" not in capsys.readouterr().err  # nothing is left to do
