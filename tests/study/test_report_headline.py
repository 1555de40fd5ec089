"""The two sentences must be true whatever came out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from leadspan.study.report import summarise
from leadspan.study.report.text import headline
from leadspan.study.results import read_results

from .made_up_sweep import add_point, build_demo_sweep, write_sweep_file

Build = Callable[[Path], object]


def full_and_half(sweep: Path, full: float, half: float, base: float = 0.3, seeds: int = 2) -> None:
    add_point(sweep, "base", "base", accuracy=base)
    for seed in range(seeds):
        add_point(sweep, f"full-{seed}", lsp=1.0, seed=seed, accuracy=full)
        add_point(sweep, f"half-{seed}", lsp=0.5, seed=seed, accuracy=half)


CASES: dict[str, tuple[Build, list[str]]] = {
    "half as good": (
        lambda sweep: full_and_half(sweep, full=1.0, half=0.5),
        [r"At lsp 0\.5 the student kept [45]\d %", "2 seeds", "No smaller cut kept at least 91 %"],
    ),
    "as good": (
        lambda sweep: full_and_half(sweep, full=0.95, half=0.95),
        ["at 49 % of the training time and 46 % of the FLOPs", "The smallest cut .* is lsp 0.5"],
    ),
    "one seed": (
        lambda sweep: full_and_half(sweep, full=0.95, half=0.95, seeds=1),
        ["1 seed\\)"],
    ),
    "no better than untrained": (
        lambda sweep: full_and_half(sweep, full=0.25, half=0.24, base=0.7),
        ["did not beat the untrained student", "retention says little"],
    ),
    "nothing right": (
        lambda sweep: full_and_half(sweep, full=-1.0, half=-1.0, base=-1.0),
        ["The best of 2 settings", "At lsp 1.0 no answer was correct"],
    ),
    "no full sequences": (
        lambda sweep: add_point(sweep, "half", lsp=0.5, accuracy=0.8),
        ["The best of 1 setting is lsp 0.5, CoT\\+A", "Without a result at lsp 1.0"],
    ),
    "only full sequences": (
        lambda sweep: add_point(sweep, "full", lsp=1.0, accuracy=0.8),
        ["The best of 1 setting is lsp 1.0", "Only lsp 1.0 has a result"],
    ),
    "other cuts": (
        lambda sweep: [
            add_point(sweep, f"{lsp}", lsp=lsp, accuracy=0.95) for lsp in (0.3, 0.7, 1.0)
        ],
        ["At lsp 0.3 the student kept", "The smallest cut .* is lsp 0.3"],
    ),
    "all failed": (
        lambda sweep: add_point(sweep, "x", error="the disk is full."),
        ["No training run has a result: 1 failed, 0 unfinished", "reason: the disk is full"],
    ),
    "nothing yet": (
        lambda sweep: (add_point(sweep, "x", accuracy=None) / "manifest.json").unlink(),
        ["0 failed, 1 unfinished", "Run it to the end"],
    ),
    "some failed": (
        lambda sweep: (full_and_half(sweep, 0.9, 0.9), add_point(sweep, "x", lsp=0.1, error="no")),
        ["1 run failed"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_headline(tmp_path: Path, case: str) -> None:
    build, patterns = CASES[case]
    write_sweep_file(tmp_path)
    (tmp_path / "points").mkdir()
    build(tmp_path)
    said = headline(summarise(read_results(tmp_path)))
    for pattern in patterns:
        assert re.search(pattern, said), said
    assert len(re.findall(r"\.\s+[A-Z]", said)) == 1, said


def test_headline_of_the_demo(tmp_path: Path) -> None:
    said = headline(summarise(read_results(build_demo_sweep(tmp_path))))
    assert said == (
        "At lsp 0.5 the student kept 101 % of the accuracy of full sequences at 50 % of the training time "
        "and 46 % of the FLOPs (95 % interval 91 to 112 %; 0.99 against 0.98; 3 seeds). "
        "The smallest cut that kept at least 91 % of full accuracy is lsp 0.4 (untrained student 0.35, "
        "teacher 1.00); 1 run failed."
    )
