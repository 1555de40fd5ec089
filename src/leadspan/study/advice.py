"""What a sweep's report says beside its runs: where data sets derive their answers, and the advice.

Joins the analysis of traces with a sweep folder. Knows nothing about training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadspan.analysis.advise import advise
from leadspan.analysis.analyze import analyze, summarise
from leadspan.config import RenderConfig, TracesConfig
from leadspan.models import load_tokenizer
from leadspan.runs import write_json_atomic

COUNTS = ("traces", "derived", "not_found", "gold_in_prompt", "no_gold")


def write_analysis(
    sweep_folder: Path,
    datasets: Mapping[str, TracesConfig],
    student: str,
    render: RenderConfig | None = None,
) -> dict[str, list[str]]:
    """Analyse data sets and write `analysis.json` for the report.

    Args:
        sweep_folder: The sweep's folder.
        datasets: Name in the report -> its traces.
        student: Whose tokenizer counts the tokens.
        render: How prompts are rendered.

    Returns:
        The reasons of the advice, by name.
    """
    tokenizer = load_tokenizer(student)
    entries: list[dict[str, Any]] = []
    for name, traces in datasets.items():
        analysis = analyze(traces, tokenizer, render or RenderConfig())
        summary = summarise(analysis)
        entries.append(
            {
                "name": name,
                "fractions": [r.fraction for r in analysis.derived if r.fraction is not None],
                "survival": summary["survival"],
                "counts": {key: summary[key] for key in COUNTS},
                "advice": advise(analysis).to_json(),
            }
        )
    write_json_atomic(sweep_folder / "analysis.json", {"datasets": entries})
    return {entry["name"]: list(entry["advice"]["reasons"]) for entry in entries}
