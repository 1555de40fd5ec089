"""What a sweep's report says of its data and its cost, whatever of it can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.analysis.plan import plan_run
from leadspan.config import RunConfig, TracesConfig
from leadspan.config_io import set_key
from leadspan.models import load_tokenizer
from leadspan.runs import RunFolder, write_json_atomic
from leadspan.study.advice import datasets_of, write_analysis
from leadspan.study.launch import LocalJobs, run_points
from leadspan.study.sweep import Point, prepare_sweep
from tests.study.test_sweep import tiny_sweep, write_traces


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "analysis.json").read_text())
    return content


def test_a_sweep_is_analysed_and_planned_from_its_own_runs(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    grids = [{"lsp": [0.5, 0.8, 1.0]}, {"lsp": [0.5], "sections": [["cot"]]}]
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids)
    out = tmp_path / "out"
    points = prepare_sweep(sweep, out)
    assert list(datasets_of(points)) == ["traces"]

    # Before anything has run there is a plan without seconds.
    write_analysis(out, points, datasets_of(points))
    assert {row["seconds"] for row in read(out)["plan"]["rows"]} == {None}

    assert run_points(points, out, LocalJobs(2)) == []
    reasons = write_analysis(out, points, datasets_of(points))
    assert reasons["traces"]
    content = read(out)
    (entry,) = content["datasets"]
    assert entry["counts"]["traces"] == 10, "the twenty rows repeat ten"
    plan = content["plan"]
    assert plan["device"] == "cpu"
    assert plan["seconds_from"] == "this sweep's runs lsp-0.5 and lsp-1.0"
    by_lsp = {row["lsp"]: row for row in plan["rows"]}
    assert sorted(by_lsp) == [0.5, 0.8, 1.0]
    for point in points[:3]:
        manifest = RunFolder(point.folder(out)).manifest
        row = by_lsp[point.config.truncation.lsp]
        # Three steps of four of these traces against the mean over all of them.
        assert row["student_flops"] + row["teacher_flops"] == pytest.approx(
            manifest["train_flops"], rel=0.25
        )


def test_what_cannot_be_read_or_priced_is_left_out_and_said(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher)
    out = tmp_path / "out"
    points = prepare_sweep(sweep, out)
    assert run_points(points, out, LocalJobs(2)) == []
    for point in points:  # as an architecture leaves it whose FLOPs are not known
        folder = RunFolder(point.folder(out))
        write_json_atomic(folder.manifest_path, {**folder.manifest, "train_flops": None})
    datasets = {
        "gone": TracesConfig(path=str(tmp_path / "gone.jsonl")),
        "there": TracesConfig(path=str(tmp_path / "traces.jsonl")),
    }
    assert list(write_analysis(out, points, datasets)) == ["there"]
    assert "gone is not analysed" in capsys.readouterr().err
    assert [entry["name"] for entry in read(out)["datasets"]] == ["there"]
    assert {row["seconds"] for row in read(out)["plan"]["rows"]} == {None}


def test_data_sets_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    def names(*traces: dict[str, Any]) -> list[str]:
        contents = [
            {
                "student": {"path": "s"},
                "teacher": {"path": "t"},
                "training": {"steps": 1},
                "traces": t,
            }
            for t in traces
        ]
        points = [
            Point(str(n), "train", {}, RunConfig.model_validate(c)) for n, c in enumerate(contents)
        ]
        return list(datasets_of(points))

    assert names({"path": "a/x.jsonl.gz"}, {"path": "org/data-v1.1"}) == ["x", "data-v1.1"]
    assert names({"path": "org/d"}, {"path": "org/d", "split": "science"}) == [
        "path org/d",
        "path org/d, split science",
    ]
    assert names({"path": "data/*.jsonl"}) == ["data/*.jsonl"]


def test_the_advice_and_the_plan_read_the_sample_that_is_trained_on(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher)
    base = set_key(dict(sweep.base), "traces.sample", 5)
    points = prepare_sweep(sweep.model_copy(update={"base": base}), tmp_path / "out")
    write_analysis(tmp_path / "out", points, datasets_of(points))
    content = read(tmp_path / "out")
    planned = plan_run(points[0].config, load_tokenizer(points[0].config.student)).num_traces
    assert content["datasets"][0]["counts"]["traces"] == planned == content["plan"]["traces"] == 5


def test_no_more_than_the_limit_is_read(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadspan.study.advice.LIMIT", 7)
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher), tmp_path / "out")
    sampled = TracesConfig(path=str(write_traces(tmp_path / "more.jsonl")), sample=15)
    write_analysis(tmp_path / "out", points, {"more": sampled})
    content = read(tmp_path / "out")
    assert content["datasets"][0]["counts"]["traces"] == 7
    assert content["plan"]["traces"] == 7
