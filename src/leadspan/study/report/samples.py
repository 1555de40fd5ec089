"""The answers that the page shows: a few of each run, with this run's cut marked in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from itertools import groupby
from typing import Any

import numpy as np

from leadspan.config import OF_THE_TRACE, TruncationConfig
from leadspan.config_io import validate
from leadspan.errors import LeadspanError
from leadspan.evaluation.samples import iter_samples
from leadspan.records import Sequence, Span
from leadspan.study.results import Run, outcome_of
from leadspan.traces.cut import Cut

LONGEST = 6000
"""Characters of one text that are shown; what is left out is counted."""
UNIT = re.compile(r"</?[\w|]+>|<\|\w+\|>|.", re.DOTALL)
CLOSE = re.compile(r"</\w+>|<\|end_of_thought\|>")

FEWEST, MOST = 2, 12
"""Samples of one run."""
MOST_BYTES = 600_000
"""Of all samples together, so that the page of hundreds of runs still opens at once."""
Piece = tuple[str, str]
"""Kind (kept, dropped or gap) and text."""


def read_shown_samples(run: Run, count: int) -> list[dict[str, Any]]:
    """Some samples of one run in the file's order: half correct and half not, if there are so many."""
    path, cut = run.path / "evaluation" / "samples.jsonl", _cut_of(run)
    # Read twice, so that no more than the chosen ones are ever held.
    chosen = _choose([outcome_of(sample) == "correct" for sample in iter_samples(path)], count)
    return [
        _show(sample, cut) for place, sample in enumerate(iter_samples(path)) if place in chosen
    ]


def _choose(is_correct: list[bool], count: int) -> set[int]:
    """Places of the first `count // 2` of either kind; more of one where the other is short."""
    correct = [place for place, found in enumerate(is_correct) if found]
    others = [place for place, found in enumerate(is_correct) if not found]
    half = count // 2
    return {
        *correct[: max(half, count - len(others))],
        *others[: max(half, count - len(correct))],
    }


def _cut_of(run: Run) -> Cut | None:
    """The run's truncation; None where it is none, differs from trace to trace, or moves."""
    try:
        config = validate(TruncationConfig, run.config.get("truncation") or {}, "truncation")
    except LeadspanError:
        return None
    cut = Cut(config)
    if run.row.kind != "train" or config.policy in OF_THE_TRACE or cut.moves:
        return None
    return cut


def _show(sample: Mapping[str, Any], cut: Cut | None) -> dict[str, Any]:
    text, prompt = str(sample.get("text") or ""), str(sample.get("prompt") or "")
    return {
        "benchmark": str(sample.get("benchmark", "")),
        "problem": str(sample.get("problem_id", "")),
        "sample": sample.get("sample", 0),
        "outcome": outcome_of(sample),
        "tokens": sample.get("num_tokens"),
        "finish": str(sample.get("finish_reason", "")),
        "seconds": sample.get("seconds"),
        "gold": ", ".join(str(gold) for gold in sample.get("golds") or []),
        "extracted": str(sample.get("extracted") or ""),
        "reason": str(sample.get("reason") or ""),
        "prompt": shorten([("kept", prompt)]),
        "text": shorten(mark_cut(sample, text, cut)),
    }


def mark_cut(sample: Mapping[str, Any], text: str, cut: Cut | None) -> list[Piece]:
    """The answer in runs of what the cut would have kept and dropped."""
    num_prompt, num_tokens = sample.get("prompt_tokens"), sample.get("num_tokens")
    if cut is None or not text or not num_tokens or num_prompt is None:
        return [("kept", text)]
    units = UNIT.findall(text)
    num_of_text = max(1, num_tokens - (sample.get("finish_reason") == "stop"))
    closing = CLOSE.search(text)
    thought = len(UNIT.findall(text[: closing.end()])) if closing else len(units)
    end_of_cot = num_prompt + round(num_of_text * thought / len(units))
    num_all = num_prompt + num_tokens
    sequence = Sequence(
        "sample",
        np.arange(num_all, dtype=np.int32),
        Span(0, num_prompt),
        Span(num_prompt, end_of_cot),
        Span(end_of_cot, num_all),
    )
    kept = set(cut.apply(sequence).input_ids_T.tolist())
    marked = [
        ("kept" if num_prompt + place * num_of_text // len(units) in kept else "dropped", unit)
        for place, unit in enumerate(units)
    ]
    return [
        (kind, "".join(unit for _, unit in parts))
        for kind, parts in groupby(marked, key=lambda part: part[0])
    ]


def shorten(parts: list[Piece]) -> list[Piece]:
    """Take the middle out of a long text, and say how much."""
    total = sum(len(text) for _, text in parts)
    if total <= LONGEST:
        return parts
    first, last = 2 * LONGEST // 3, total - LONGEST // 3
    found: list[Piece] = []
    start = 0
    for kind, text in parts:
        end = start + len(text)
        if start < first:
            found.append((kind, text[: first - start]))
        if start <= first < end:
            found.append(("gap", f"… {last - first:,} characters more …"))
        if end > last:
            found.append((kind, text[max(0, last - start) :]))
        start = end
    return [(kind, text) for kind, text in found if text]


def read_all_shown(runs: SequenceABC[Run]) -> dict[str, list[dict[str, Any]]]:
    """Samples of each run, by its name: fewer where all would be too long, at worst of the first runs."""
    found = {run.row.run: read_shown_samples(run, MOST) for run in runs}
    found = {name: samples for name, samples in found.items() if samples}
    size = sum(len(json.dumps(sample)) for samples in found.values() for sample in samples)
    most = max(FEWEST, int(MOST * min(1.0, MOST_BYTES / max(1, size))))
    kept: dict[str, list[dict[str, Any]]] = {}
    left = MOST_BYTES
    for name, samples in found.items():
        chosen = _choose([sample["outcome"] == "correct" for sample in samples], most)
        shown = [sample for place, sample in enumerate(samples) if place in chosen]
        left -= sum(len(json.dumps(sample)) for sample in shown)
        if left < 0:
            break
        kept[name] = shown
    return kept
