"""Where the traces derive their answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.wording import (
    say_lsp,
    slug,
)

BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""


def derivation_chart(dataset: Mapping[str, Any]) -> Chart:
    """Where the answer is first derived, and what share of the traces keeps it at each cut."""
    name = name_of(dataset)
    fractions = [float(value) for value in dataset.get("fractions") or ()]
    series = []
    if fractions:
        counts = [0] * BINS
        for value in fractions:
            counts[min(BINS - 1, int(value * BINS))] += 1
        shares = tuple(count / len(fractions) for count in counts)
        centres = tuple((place + 0.5) / BINS for place in range(BINS))
        hover = tuple(
            f"{place / BINS:.0%} to {(place + 1) / BINS:.0%} of the sequence: {share:.0%} of traces"
            for place, share in enumerate(shares)
        )
        series.append(
            Series("first derivation here", centres, shares, hover=hover, colour=0, mark="bars")
        )
    survival = sorted(
        (float(lsp), float(share))
        for lsp, share in (dataset.get("survival") or {}).items()
        if share is not None
    )
    if survival:
        hover = tuple(f"lsp {say_lsp(k)}: {v:.0%} of derivations survive" for k, v in survival)
        lsps, kept = zip(*survival, strict=True)
        series.append(Series("derivation survives this lsp", lsps, kept, hover=hover, colour=1))
    return Chart(
        f"derivation-{slug(name)}",
        f"First derivation of the answer: {name}",
        "Bars: share of the traces whose answer is first derived at this place of the sequence. Line: "
        "share whose derivation a cut at this lsp keeps.",
        "place in the sequence, lsp",
        "share of traces",
        tuple(series),
        x_is_share=True,
    )


def name_of(dataset: Mapping[str, Any]) -> str:
    """What a dataset is called."""
    return str(dataset.get("name", "traces"))
