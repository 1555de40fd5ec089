from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadspan.errors import RunError
from leadspan.study.results import COLUMNS, read_results, write_csv

from .made_up_sweep import add_point, build_demo_sweep, read_csv_rows, write_json, write_sweep_file

PROMISED = (
    "run,kind,status,world_seed,lsp,sections,keep,seed,accuracy,accuracy_low,accuracy_high,"
    "closed_fraction,train_loss,val_loss,train_seconds,peak_memory_gib,peak_step_memory_gib,"
    "train_flops,tokens_forwarded,tokens_scored"
)


def rows_of(sweep: Path, folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "results.csv"
    path.write_text(write_csv(read_results(sweep)), encoding="utf-8")
    return {row["run"]: row for row in read_csv_rows(path)}


def test_the_columns_are_the_promised_ones() -> None:
    assert ",".join(COLUMNS) == PROMISED


def test_a_row_holds_what_the_run_left_behind(tmp_path: Path) -> None:
    write_sweep_file(tmp_path, world_seed=101)
    point = add_point(
        tmp_path,
        "lsp-0.5_seed-2",
        lsp=0.5,
        seed=2,
        sections=("prompt", "cot"),
        keep="tail",
        manifest={"train_loss": 0.25, "tokens_scored": 1234, "peak_memory_gib": None},
    )
    evaluation = json.loads((point / "evaluation" / "evaluation.json").read_text())
    row = rows_of(tmp_path, tmp_path)["lsp-0.5_seed-2"]
    assert (row["kind"], row["status"], row["world_seed"]) == ("train", "done", "101")
    assert (row["lsp"], row["sections"], row["keep"], row["seed"]) == (
        "0.5",
        "prompt+cot",
        "tail",
        "2",
    )
    assert float(row["accuracy"]) == evaluation["accuracy"] > 0
    assert float(row["accuracy_high"]) == evaluation["accuracy_high"]
    assert (row["train_loss"], row["tokens_scored"]) == ("0.25", "1234")
    assert row["peak_memory_gib"] == ""


def test_cells_that_do_not_apply_are_empty(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "base", "base", accuracy=0.3)
    add_point(tmp_path, "unmeasured", accuracy=None, error="the disk is full")
    rows = rows_of(tmp_path, tmp_path)
    assert rows["base"]["accuracy"] != ""
    trained_only = COLUMNS[COLUMNS.index("train_loss") :]
    for name in ("world_seed", "lsp", "sections", "keep", "seed", *trained_only):
        assert rows["base"][name] == "", name
    assert rows["unmeasured"]["status"] == "failed"
    assert rows["unmeasured"]["lsp"] == "1.0"
    assert rows["unmeasured"]["accuracy"] == ""


def test_all_points_of_the_demo_are_there(tmp_path: Path) -> None:
    results = read_results(build_demo_sweep(tmp_path))
    assert len(results.runs) == 29
    assert [run.row.kind for run in results.runs[:2]] == ["base", "teacher"]
    assert [run.row.run for run in results.runs if not run.is_done] == ["lsp-0.1_seed-0"]
    assert {dataset["name"] for dataset in results.datasets} == {"world", "world, late"}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("evaluation/evaluation.json", '{"accuracy": '),
        ("point.json", ""),
        ("run.yaml", "a: [1"),
        ("point.json", '{"name": "x", "kind": "tutor"}'),
    ],
)
def test_a_damaged_file_fails_its_run_alone(tmp_path: Path, file: str, content: str) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "good")
    (add_point(tmp_path, "bad") / file).write_text(content, encoding="utf-8")
    by_name = {run.path.name: run for run in read_results(tmp_path).runs}
    assert by_name["good"].is_done
    assert not by_name["bad"].is_done
    assert "\n" not in str(by_name["bad"].error)
    assert "bad" in str(by_name["bad"].error)


def test_what_has_not_finished_is_neither_done_nor_failed(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    trained = add_point(tmp_path, "trained-only", accuracy=None)
    assert (trained / "manifest.json").is_file()
    (add_point(tmp_path, "untrained") / "manifest.json").unlink()
    results = read_results(tmp_path)
    assert results.runs == ()
    assert set(results.unfinished) == {"trained-only", "untrained"}


def test_a_run_without_benchmarks_is_done_when_trained(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run", accuracy=None)
    text = (point / "run.yaml").read_text(encoding="utf-8")
    (point / "run.yaml").write_text(
        text.replace("benchmarks:\n  - path: world/test.jsonl", "benchmarks: []")
    )
    (run,) = read_results(tmp_path).runs
    assert run.is_done
    assert run.row.accuracy is None
    assert run.row.train_seconds is not None


def test_numbers_that_are_none_become_empty_cells(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run", manifest={"val_loss": None})
    manifest = json.loads((point / "manifest.json").read_text())
    text = json.dumps(manifest | {"train_loss": float("nan"), "train_flops": "many"})
    (point / "manifest.json").write_text(text)
    row = rows_of(tmp_path, tmp_path)["run"]
    assert row["val_loss"] == row["train_loss"] == row["train_flops"] == ""


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be the folder of a sweep.*--output"):
        read_results(tmp_path)


def test_grades_are_read_by_problem(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run")
    lines = [
        {"benchmark": "a", "problem_id": "1", "outcome": "correct"},
        {"benchmark": "a", "problem_id": "1", "outcome": "timeout"},
        {"benchmark": "b", "problem_id": "1", "outcome": "wrong"},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"benchmark": "b", "prob'
    (point / "evaluation" / "samples.jsonl").write_text(text)
    (run,) = read_results(tmp_path).runs
    assert run.by_problem == {"a/1": 0.5, "b/1": 0.0}


def test_tags_of_any_sort_do_no_harm(tmp_path: Path) -> None:
    write_json(tmp_path / "points" / "x" / "failed.json", {"error": "no"})
    write_json(tmp_path / "points" / "x" / "point.json", {"name": "x", "kind": "train"})
    (run,) = read_results(tmp_path).runs
    assert run.row.world_seed is None
    assert run.error == "no"
