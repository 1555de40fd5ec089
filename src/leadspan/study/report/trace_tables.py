"""Tables of what the analysis says about the traces. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from leadspan.study.report.table import Table
from leadspan.study.report.trace_charts import name_of
from leadspan.study.report.wording import say_lsp, say_number


def survival_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """Share of traces whose first derivation survives each cut, a column a dataset."""
    found = [dataset for dataset in datasets if dataset.get("survival")]
    by_lsp = [
        {float(lsp): _say_share(dataset, lsp) for lsp in dataset["survival"]} for dataset in found
    ]
    lsps = sorted({lsp for shares in by_lsp for lsp in shares})
    return Table(
        "survival",
        "Whose derivation survives",
        ("lsp", *(name_of(dataset) for dataset in found)),
        tuple(
            (say_lsp(lsp), *(shares.get(lsp, say_number(None)) for shares in by_lsp))
            for lsp in lsps
        ),
        "Share of the traces with a known first derivation that a cut at this lsp keeps whole, with "
        "its 95 % interval.",
    )


def _say_share(dataset: Mapping[str, Any], lsp: str) -> str:
    share = say_number(dataset["survival"][lsp])
    low, high = (dataset.get("survival_interval") or {}).get(lsp) or (None, None)
    return share if low is None else f"{share} [{say_number(low)}, {say_number(high)}]"


def advice_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """What the analysis counted and advises, a row a dataset."""
    rows = []
    for dataset in datasets:
        counts, advice = dataset.get("counts") or {}, dataset.get("advice") or {}
        lsp = advice.get("recommended_lsp")
        is_ok = advice.get("fractional_cut_ok")
        said = "too few to tell" if is_ok is None else "no fractional cut"
        said = f"cut at lsp {say_lsp(lsp)}" if is_ok and lsp is not None else said
        rows.append(
            (
                name_of(dataset),
                ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items()),
                say_number(_median(dataset.get("fractions") or ())),
                "; ".join(str(reason).rstrip(".") for reason in advice.get("reasons") or ()),
                said if "fractional_cut_ok" in advice else say_number(None),
            )
        )
    return Table(
        "advice",
        "What the analysis advises",
        ("traces", "counts", "median place", "reasons", "advice"),
        tuple(rows),
        "Median place: of the first derivation, as a share of the sequence. From the traces alone, "
        "before anything is trained.",
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
