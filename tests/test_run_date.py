"""A run keeps the day that its prompts were written for."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import RunConfig, SweepConfig
from leadspan.errors import RunError
from leadspan.runs import CAPTURE_DATE_FILE, RunFolder, kept_date, with_date
from leadspan.study.sweep import expand, prepare_sweep

TODAY = datetime.date.today()
CONTENT: dict[str, Any] = {
    "student": {"path": "s"},
    "teacher": {"path": "t"},
    "traces": {"path": "rows.jsonl"},
    "training": {"steps": 1},
}


def config(date: str | None = None, cache: str | None = None) -> RunConfig:
    teacher = {"path": "t", "cache": cache}
    return RunConfig.model_validate({**CONTENT, "teacher": teacher, "render": {"date": date}})


def keep(path: Path, date: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"render": {"date": date}}), encoding="utf-8")


def test_own_then_the_run_s_then_the_capture_s_then_today(tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert with_date(config(), run).render.date == TODAY
    keep(cache / CAPTURE_DATE_FILE, "2024-01-02")
    assert str(with_date(config(cache=str(cache)), run).render.date) == "2024-01-02"
    assert str(with_date(config(), cache).render.date) == "2024-01-02"  # a capture that goes on
    keep(run / "run.yaml", "2024-01-01")
    assert str(with_date(config(cache=str(cache)), run).render.date) == "2024-01-01"
    assert str(with_date(config("2023-12-31"), run).render.date) == "2023-12-31"


def test_the_day_is_written_and_another_one_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim_config(config())
    assert kept_date(tmp_path / "run.yaml") is None
    folder.claim_config(config("2024-01-01"))
    assert kept_date(tmp_path / "run.yaml") == "2024-01-01"
    with pytest.raises(RunError, match=r"render\.date differ"):
        folder.claim_config(config("2024-01-02"))


def test_a_sweep_has_one_day(tmp_path: Path) -> None:
    sweep = SweepConfig.model_validate({"base": CONTENT, "grids": [{"lsp": [0.5, 1.0]}]})
    points = prepare_sweep(sweep, tmp_path)
    assert {point.config.render.date for point in points} == {TODAY}
    path = tmp_path / "sweep.yaml"
    path.write_text(path.read_text().replace(str(TODAY), "2024-01-01"), encoding="utf-8")
    assert {str(p.config.render.date) for p in expand(sweep, tmp_path)} == {"2024-01-01"}
