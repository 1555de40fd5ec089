"""How a running sweep is shown: lines into a file, a table on a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from leadspan.config import RunConfig
from leadspan.runs import lock_folder
from leadspan.study.launch import Board
from leadspan.study.sweep import Point

CONTENT = {
    "student": {"path": "student"},
    "teacher": {"path": "teacher"},
    "traces": {"path": "traces.jsonl"},
    "training": {"steps": 1},
}


@pytest.fixture
def points(tmp_path: Path) -> list[Point]:
    """Four points of a sweep, of which the first is finished."""
    config = RunConfig.model_validate(CONTENT)
    points = [Point(f"lsp-{lsp}", "train", {"truncation.lsp": lsp}, config) for lsp in range(4)]
    for point in points:
        point.folder(tmp_path).mkdir(parents=True)
    finish(points[0], tmp_path)
    return points


def finish(point: Point, folder: Path) -> None:
    (point.folder(folder) / "manifest.json").write_text(json.dumps({"status": "complete"}))


def test_a_file_gets_one_line_a_change(
    points: list[Point], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Board(points, tmp_path) as board:
        assert [point.name for point in board.missing] == ["lsp-1", "lsp-2", "lsp-3"]
        board.begin(points[1])
        board.begin(points[2])
        finish(points[1], tmp_path)
        board.end(points[1])
        board.end(points[2])
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"sweep: 2 done, 1 running, 0 failed, 1 waiting, about \d+ s left; lsp-1 done", first
    )
    assert second.startswith("sweep: 2 done, 0 running, 1 failed, 1 waiting, about ")
    assert second.endswith("; lsp-2 failed")
    assert board.failed == [points[2]]


def test_the_table_shows_what_runs_and_why_points_failed(
    points: list[Point], tmp_path: Path
) -> None:
    board = Board(points, tmp_path)
    for point in points[1:]:
        board.begin(point)
    board.wait(points[3])
    (points[1].folder(tmp_path) / "log.txt").write_text("begun\nlsp-1: 40/80 steps [bold]\n")
    failure = {"error": "the disk is full [/red]"}
    (points[2].folder(tmp_path) / "failed.json").write_text(json.dumps(failure))
    board.end(points[2])
    console = Console(width=100, record=True)
    console.print(board.table())
    lines = console.export_text().splitlines()
    assert lines[0].startswith("sweep: 1 done, 1 running, 1 failed, 1 waiting")
    rows = {line.split()[0]: line for line in lines[2:] if line.strip()}
    assert set(rows) == {"lsp-1", "lsp-2"}
    assert re.search(r"running +0 s +lsp-1: 40/80 steps \[bold\]", rows["lsp-1"])
    assert re.search(r"failed +the disk is full \[/red\]", rows["lsp-2"])


def test_what_runs_elsewhere_is_no_failure(
    points: list[Point], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Board(points, tmp_path) as board, lock_folder(points[1].folder(tmp_path)):
        board.end(points[1])
        board.end(points[2])
        console = Console(width=100, record=True)
        console.print(board.table())
    first, second = capsys.readouterr().err.splitlines()
    assert "1 done, 0 running, 1 running elsewhere, 0 failed, 2 waiting" in first
    assert "; lsp-1 running elsewhere" in first
    assert second.endswith("; lsp-2 failed")
    assert re.search(r"lsp-1 +elsewhere", console.export_text())
