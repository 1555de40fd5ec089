"""What the report says of traces: every advice by its name, shares with their intervals."""

from __future__ import annotations

import pytest

from leadspan.study.report.tables import advice_table, survival_table


@pytest.mark.parametrize(
    ("is_ok", "lsp", "said"),
    [
        (True, 0.5, "cut at lsp 0.5"),
        (False, None, "no fractional cut"),
        (None, None, "too few to tell"),
    ],
)
def test_advice(is_ok: bool | None, lsp: float | None, said: str) -> None:
    advice = {"fractional_cut_ok": is_ok, "recommended_lsp": lsp, "reasons": ["few."]}
    table = advice_table([{"name": "a", "advice": advice}])
    assert tuple(table.cells.iloc[0, -2:]) == ("few", said), "the reasons come first"


def test_survival_shows_intervals_where_there_are_any() -> None:
    with_interval = {"survival": {"0.5": 0.8}, "survival_interval": {"0.5": [0.7, 0.9]}}
    table = survival_table([with_interval, {"survival": {"0.5": 0.6}}])
    assert tuple(table.cells.iloc[0, 1:]) == ("0.80 [0.70, 0.90]", "0.60")
