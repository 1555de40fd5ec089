from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadspan.config import TruncationConfig
from leadspan.study.report.samples import LONGEST, mark_cut, read_shown_samples, shorten
from leadspan.study.results import read_results
from leadspan.traces.cut import Cut

from .made_up_sweep import add_point, write_sweep_file

# Ten prompt tokens, then one token a letter, the marker one token, and the end token: 10 + 20 in all.
TEXT = "abcdefghijkl</think>mnopqr"
SAMPLE = {"prompt_tokens": 10, "num_tokens": 20, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ({"lsp": 1.0}, [("kept", TEXT)]),
        ({"lsp": 0.5}, [("kept", "abcde"), ("dropped", TEXT[5:])]),
        ({"lsp": 0.2}, [("dropped", TEXT)]),
        ({"lsp": 0.8}, [("kept", "abcdefghijkl</think>m"), ("dropped", "nopqr")]),
        ({"lsp": 0.5, "keep": "tail"}, [("dropped", TEXT[:-4]), ("kept", "opqr")]),
        ({"policy": "end_of_cot"}, [("kept", "abcdefghijkl</think>"), ("dropped", "mnopqr")]),
    ],
    ids=["full", "half", "in the prompt", "behind the marker", "tail", "end of the CoT"],
)
def test_the_cut_stands_where_the_policy_cuts(
    truncation: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    cut = Cut(TruncationConfig(**truncation))
    assert mark_cut(SAMPLE, TEXT, cut) == expected


def test_what_is_not_known_is_not_marked() -> None:
    cut = Cut(TruncationConfig(lsp=0.5))
    assert mark_cut({"num_tokens": 20}, TEXT, cut) == [("kept", TEXT)]
    assert mark_cut(SAMPLE, TEXT, None) == [("kept", TEXT)]
    assert mark_cut(SAMPLE, "", cut) == [("kept", "")]


def test_shorten_leaves_out_the_middle_and_counts_it() -> None:
    text = "".join(chr(97 + place % 26) for place in range(3 * LONGEST))
    cut = LONGEST // 3
    shown = shorten([("kept", text[:cut]), ("dropped", text[cut:])])
    assert [kind for kind, _ in shown] == ["kept", "dropped", "gap", "dropped"]
    kept = "".join(part for kind, part in shown if kind != "gap")
    assert len(kept) == LONGEST
    assert text.startswith(kept[: 2 * LONGEST // 3])
    assert text.endswith(kept[2 * LONGEST // 3 :])
    assert f"{2 * LONGEST:,} characters more" in dict(shown)["gap"]
    assert shorten([("kept", "short")]) == [("kept", "short")]


@pytest.mark.parametrize(
    ("num_correct", "num_wrong", "shown_correct", "shown_wrong"),
    [(30, 30, 6, 6), (30, 2, 10, 2), (1, 30, 1, 11), (3, 2, 3, 2), (0, 0, 0, 0)],
)
def test_both_outcomes_are_shown(
    tmp_path: Path, num_correct: int, num_wrong: int, shown_correct: int, shown_wrong: int
) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run")
    outcomes = ["correct"] * num_correct + ["wrong"] * num_wrong
    rows = [
        {"benchmark": "b", "problem_id": str(place), "outcome": outcome, "text": "x"}
        for place, outcome in enumerate(outcomes)
    ]
    (point / "evaluation" / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (run,) = read_results(tmp_path).runs
    shown = [sample["outcome"] for sample in read_shown_samples(run, 12)]
    assert (shown.count("correct"), shown.count("wrong")) == (shown_correct, shown_wrong)


@pytest.mark.parametrize(
    ("truncation", "is_marked"),
    [
        ({"lsp": 0.5}, True),
        ({"lsp": 1.0}, False),
        ({"lsp": 0.5, "policy": "column", "column": "end"}, False),
        ({"lsp": 0.2, "lsp_end": 0.8}, False),
        ({"lsp": "half"}, False),
    ],
    ids=["fixed", "none", "of each trace", "moving", "unreadable"],
)
def test_only_a_cut_that_all_traces_share_is_marked(
    tmp_path: Path, truncation: dict[str, Any], is_marked: bool
) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run")
    config = yaml.safe_load((point / "run.yaml").read_text())
    config["truncation"] = truncation
    (point / "run.yaml").write_text(yaml.safe_dump(config))
    (run,) = read_results(tmp_path).runs
    kinds = {kind for sample in read_shown_samples(run, 12) for kind, _ in sample["text"]}
    assert ("dropped" in kinds) == is_marked
