"""Tables of what the analysis says about the traces. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from leadspan.study.report.table import Table
from leadspan.study.report.trace_charts import name_of
from leadspan.study.report.wording import (
    say_lsp,
    say_number,
)


def survival_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """Share of traces whose first derivation survives each cut, a column a dataset."""
    found = [dataset for dataset in datasets if dataset.get("survival")]
    by_lsp = [{float(lsp): share for lsp, share in d["survival"].items()} for d in found]
    lsps = sorted({lsp for shares in by_lsp for lsp in shares})
    return Table(
        "survival",
        "Whose derivation survives",
        ("lsp", *(name_of(dataset) for dataset in found)),
        tuple((say_lsp(lsp), *(say_number(shares.get(lsp)) for shares in by_lsp)) for lsp in lsps),
        "Share of the traces with a known first derivation that a cut at this lsp keeps whole.",
    )


def advice_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """What the analysis counted and advises, a row a dataset."""
    rows = []
    for dataset in datasets:
        counts, advice = dataset.get("counts") or {}, dataset.get("advice") or {}
        lsp = advice.get("recommended_lsp")
        is_ok = advice.get("fractional_cut_ok") and lsp is not None
        said = f"cut at lsp {say_lsp(lsp)}" if is_ok else "no fractional cut"
        rows.append(
            (
                name_of(dataset),
                ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items()),
                say_number(_median(dataset.get("fractions") or ())),
                said if "fractional_cut_ok" in advice else say_number(None),
                "; ".join(str(reason).rstrip(".") for reason in advice.get("reasons") or ()),
            )
        )
    return Table(
        "advice",
        "What the analysis advises",
        ("traces", "counts", "median place", "advice", "reasons"),
        tuple(rows),
        "Median place: of the first derivation, as a share of the sequence. From the traces alone, "
        "before anything is trained.",
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
