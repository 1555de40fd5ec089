"""Sweeps: expanded once, run once, failures kept, a killed driver started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leadspan.analysis.plan import Plan, plan_stated
from leadspan.analysis.speed import stated_speed
from leadspan.cli.main import app
from leadspan.config import RunConfig, SweepConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError, RunError
from leadspan.runs import RunFolder
from leadspan.study.advice import plan_sweep, sum_up
from leadspan.study.launch import LocalJobs, run_points
from leadspan.study.sweep import (
    Point,
    capture_teacher,
    expand,
    is_finished,
    load_sweep,
    name_point,
    prepare_sweep,
    reference_model,
    run_and_record,
)
from tests.conftest import build_traces, save_tiny_model

ROOT = Path(__file__).resolve().parents[2]


def write_traces(path: Path) -> Path:
    """Twenty made-up traces as JSONL."""
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer, "gold": t.gold}
        for t in build_traces(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tiny_sweep(folder: Path, student: Path, teacher: Path, **changes: Any) -> SweepConfig:
    """Two points of three steps between random models."""
    content = {
        "base": {
            "teacher": {"path": str(teacher), "dtype": "float32"},
            "student": {"path": str(student)},
            "traces": {"path": str(write_traces(folder / "traces.jsonl"))},
            "training": {"steps": 3, "bf16": False, "batch_size": 4},
        },
        "grids": [{"lsp": [0.5, 1.0]}],
        "reference_models": False,
        **changes,
    }
    return validate(SweepConfig, content, "sweep.yaml")


def test_points_of_one_config_are_run_once(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    grids = [
        {"lsp": [0.5, 1.0], "seed": [0, 1]},
        {"lsp": [1.0], "sections": [["answer", "cot"], ["cot"]]},
        {"lsp": [1.0], "keep": ["lead", "middle", "tail"]},
        {"kd_ratio": [0], "loss.divergence": ["forward_kl", "reverse_kl"]},
    ]
    points = expand(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), tmp_path)
    assert [point.name for point in points] == [
        "seed-0_lsp-0.5",
        "seed-1_lsp-0.5",
        "seed-0_lsp-1.0",
        "seed-1_lsp-1.0",
        "sections-cot_lsp-1.0",
        "divergence-forward_kl_kd_ratio-0",
    ]
    assert points[0].config.truncation.lsp == 0.5
    assert points[-2].config.supervision.sections == ("cot",)


def test_reference_models_come_first(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, reference_models=True)
    assert [point.kind for point in expand(sweep, tmp_path)] == [
        "base",
        "teacher",
        "train",
        "train",
    ]


def test_every_student_and_teacher_is_a_reference_once(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    """With its revision, and named so that a student who joins later renames nobody."""
    grids = [
        {"lsp": [0.5, 1.0], "seed": [0, 1]},
        {"student.path": [str(tiny_student), "open/Other-1B"], "seed": [0, 1]},
        {"student": [{"path": "open/Other-1B", "revision": "step/9"}]},
        {"student.path": ["closed/Other-1B"], "teacher.path": ["open/Large"]},
    ]
    one, many = (
        expand(
            tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=g, reference_models=True),
            tmp_path,
        )
        for g in (grids[:1], grids)
    )
    assert [point.name for point in one if point.kind != "train"] == ["base", "teacher"]
    found = {
        point.name: (model.path, model.revision)
        for point in many
        if point.kind != "train"
        and (model := reference_model(point.kind, point.config)) is not None
    }
    assert found == {
        "base": (str(tiny_student), None),
        "base_Other-1B": ("open/Other-1B", None),
        "base_Other-1B@step.9": ("open/Other-1B", "step/9"),
        "base_Other-1B_2": ("closed/Other-1B", None),
        "teacher": (str(tiny_teacher), None),
        "teacher_Large": ("open/Large", None),
    }
    by_name = {point.name: point for point in many}
    revision = by_name["base_Other-1B@step.9"].overrides["student.revision"]
    assert revision == "step/9"


def test_a_reference_is_evaluated_in_its_revision(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {
        **tiny_sweep(tmp_path, tiny_student, tiny_teacher).base,
        "student": {"path": "open/Some-1B", "revision": "step9"},
        "evaluation": {"benchmarks": [{"path": "gsm8k"}]},
    }
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, base=base, reference_models=True)
    points = prepare_sweep(sweep, tmp_path / "out")
    asked: list[tuple[Any, Any]] = []

    def evaluate(student: Any, *_: Any, revision: Any = None) -> None:
        asked.append((student, revision))

    monkeypatch.setattr("leadspan.evaluation.evaluate.evaluate", evaluate)
    for point in points[:2]:
        run_and_record(point.folder(tmp_path / "out"))
    assert asked == [("open/Some-1B", "step9"), (str(tiny_teacher), None)]


def test_all_bad_points_are_told_together(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=[{"lsp": [0.5, 50, 0]}])
    with pytest.raises(ConfigError) as error:
        expand(sweep, tmp_path)
    assert len(str(error.value).splitlines()) == 2
    assert "Write 0.5 for 50 %" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"truncation.lsp": 0.5, "seed": 1}, "seed-1_lsp-0.5"),
        ({"supervision.sections": ["cot", "answer"]}, "sections-cot+answer"),
        ({"traces": {"path": "open/Some-Set"}}, "traces-Some-Set"),
        ({}, "run"),
    ],
)
def test_names_say_what_is_special(overrides: dict[str, Any], name: str) -> None:
    assert name_point(overrides) == name


def test_a_folder_of_another_base_is_refused(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher)
    prepare_sweep(sweep, tmp_path / "out")
    other = sweep.model_copy(update={"base": {**sweep.base, "seed": 3}})
    with pytest.raises(ConfigError, match="another base"):
        prepare_sweep(other, tmp_path / "out")


def test_a_failed_point_is_recorded_and_the_others_go_on(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    grids = [{"lsp": [0.5], "student.path": [str(tiny_student), str(tmp_path / "nowhere")]}]
    out = tmp_path / "out"
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), out)
    failed = run_points(points, out, LocalJobs(2))
    assert [point.config.student.path for point in failed] == [str(tmp_path / "nowhere")]
    reason = json.loads((failed[0].folder(out) / "failed.json").read_text())["error"]
    assert "nowhere" in reason
    assert "\n" not in reason
    assert sum(is_finished(point, out) for point in points) == 1


def test_one_capture_serves_every_lead_and_nothing_is_run_twice(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    grids = [
        {"lsp": [0.5, 1.0]},
        {"lsp": [0.5], "keep": ["tail"]},
        {"lsp": [0.5], "truncation.policy": ["derivation"]},
    ]
    capture = {"mode": "hidden"}
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids, capture=capture)
    points = prepare_sweep(sweep, out)
    capture_teacher(sweep, points, out)
    assert run_points(points, out, LocalJobs(1)) == []
    for point in points:
        manifest = RunFolder(point.folder(out)).manifest
        assert manifest["teacher_tokens_forwarded"] == 0
        assert manifest["tokens_scored"] > 0
    before = {p.name: RunFolder(p.folder(out)).manifest_path.stat().st_mtime_ns for p in points}
    assert run_points(points, out, LocalJobs(1)) == []
    after = {p.name: RunFolder(p.folder(out)).manifest_path.stat().st_mtime_ns for p in points}
    assert after == before


@pytest.mark.parametrize(
    ("traces", "grids", "times"),
    [
        ({"sample": 9}, [{"lsp": [0.5, 1.0], "seed": [0, 1, 2]}], 1),
        ({}, [{"seed": [0, 1]}, {"traces.num_processes": [1, 2]}, {"loss.beta": [0.1]}], 1),
        ({}, [{"traces.seed": [1, 2], "traces.validation_fraction": [0.1, 0.2]}], 1),
        ({}, [{"loss.kd_ratio": [0.0]}], 0),
        ({"sample": 9}, [{"traces.seed": [1, 2]}], 2),
        ({}, [{"traces.max_tokens": [30, 60]}], 2),
        ({}, [{"lsp": [0.5], "keep": ["lead", "tail"], "seed": [0, 1]}], 2),
        ({}, [{"render.system_prompt": ["keep", "drop"]}], 2),
    ],
)
def test_the_teacher_reads_the_same_once(
    traces: dict[str, Any],
    grids: list[dict[str, Any]],
    times: int,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny_sweep(tmp_path, tiny_student, tiny_teacher).base
    base = {**base, "traces": {**base["traces"], **traces}}
    sweep = tiny_sweep(
        tmp_path, tiny_student, tiny_teacher, base=base, grids=grids, capture={"k": 4}
    )
    captured: list[Path] = []

    def capture(config: RunConfig, output: Path, settings: Any) -> None:
        captured.append(output)

    monkeypatch.setattr("leadspan.teachers.capture.capture_run", capture)
    capture_teacher(sweep, prepare_sweep(sweep, tmp_path / "out"), tmp_path / "out")
    assert captured == [tmp_path / "out" / "teacher_cache"] * times


def test_every_teacher_has_a_cache_of_its_own(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    other = save_tiny_model(tmp_path / "other", seed=5, hidden=48)
    out = tmp_path / "out"
    grids = [{"lsp": [0.5]}, {"teacher.path": [str(tiny_teacher), str(other)], "lsp": [0.5, 1.0]}]
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids, capture={"k": 4})
    points = prepare_sweep(sweep, out)
    capture_teacher(sweep, points, out)
    assert run_points(points, out, LocalJobs(1)) == []
    caches = {
        (point.config.teacher.path, Path(point.config.teacher.cache or "").parent == out)
        for point in points
        if point.config.teacher is not None
    }
    assert caches == {(str(tiny_teacher), True), (str(other), True)}
    identities = {
        json.loads(p.read_text())["teacher"] for p in out.glob("teacher_cache*/identity.json")
    }
    assert identities == {str(tiny_teacher), str(other)}


@pytest.mark.parametrize("how", ["relative", "dots", "link"])
def test_a_sweep_is_the_same_however_its_folder_is_named(
    how: str,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, capture={"k": 4})
    first = prepare_sweep(sweep, tmp_path / "out")
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    again = {
        "relative": Path("out"),
        "dots": tmp_path / "nowhere" / ".." / "out",
        "link": tmp_path / "link",
    }[how]
    assert prepare_sweep(sweep, again) == first


def test_a_sweep_that_was_moved_goes_on(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    sweep = tiny_sweep(tmp_path, tiny_student, tiny_teacher, capture={"k": 4})
    out, moved = tmp_path / "out", tmp_path / "moved"
    points = prepare_sweep(sweep, out)
    capture_teacher(sweep, points, out)
    assert run_points(points[:1], out, LocalJobs(1)) == []
    out.rename(moved)
    points = prepare_sweep(sweep, moved)
    assert [is_finished(point, moved) for point in points] == [True, False]
    assert run_points(points, moved, LocalJobs(1)) == []
    assert RunFolder(points[1].folder(moved)).manifest["teacher_tokens_forwarded"] == 0


def _drive(points: list[Point], out: Path) -> None:
    run_points(points, out, LocalJobs(1))


def test_a_driver_killed_at_any_time_is_started_again(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    grids = [{"lsp": [0.4, 0.6, 0.8, 1.0]}]
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher, grids=grids), out)
    driver = multiprocessing.get_context("forkserver").Process(target=_drive, args=(points, out))
    driver.start()
    deadline = time.monotonic() + 120
    while not is_finished(points[1], out) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    finished = [point for point in points if is_finished(point, out)]
    assert 2 <= len(finished) < 4
    before = {p.name: RunFolder(p.folder(out)).manifest_path.stat().st_mtime_ns for p in finished}
    deadline = time.monotonic() + 60
    failed = run_points(points, out, LocalJobs(1))
    while failed and time.monotonic() < deadline:  # a dying child may hold its folder for a moment
        failed = run_points(points, out, LocalJobs(1))
    assert all(is_finished(point, out) for point in points)
    after = {p.name: RunFolder(p.folder(out)).manifest_path.stat().st_mtime_ns for p in finished}
    assert after == before


def test_a_point_whose_name_is_taken_by_another_config_is_refused(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    out = tmp_path / "out"
    points = prepare_sweep(tiny_sweep(tmp_path, tiny_student, tiny_teacher), out)
    folder = RunFolder(points[0].folder(out))
    other = points[0].config.model_copy(update={"seed": 9})
    with pytest.raises(RunError, match="seed differ"):
        folder.claim_config(other)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "paper").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_published_experiments_are_valid_sweeps(path: Path, tmp_path: Path) -> None:
    points = expand(load_sweep(path), tmp_path)
    assert len(points) == 2 + 5 * 10
    assert {point.config.truncation.lsp for point in points if point.kind == "train"} == {
        share / 10 for share in range(1, 11)
    }
    assert all(isinstance(point.config, RunConfig) for point in points)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "paper").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_published_experiments_are_planned_without_their_data(path: Path) -> None:
    """The five data sets of 8,000 and 40,000 training traces, from the sizes in the file alone."""
    result = CliRunner().invoke(app, ["plan", str(path), "--json", "--peak-tflops", "989"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    settings = content["settings"]
    assert [one["traces"] for one in settings] == [40_000, 8_000, 8_000, 8_000, 8_000]
    assert content["runs"] == sum(one["runs"] for one in settings) == 50
    per_run = [
        row["student_flops"] + row["teacher_flops"] for one in settings for row in one["rows"]
    ]
    assert content["flops"] == sum(per_run)
    assert content["seconds"] == pytest.approx(content["flops"] / 989e12 / 0.4)
    half = settings[0]["rows"][4]
    assert (half["lsp"], half["tokens_forwarded"]) == (
        0.5,
        pytest.approx(2 * 40_000 * 2047, rel=0.01),
    )


def test_seeds_and_lsps_of_one_setting_are_planned_once(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    points = expand(tiny_sweep(tmp_path, tiny_student, tiny_teacher), tmp_path)
    asked: list[tuple[float, ...]] = []

    def plan_one(run: RunConfig, lsps: Sequence[float]) -> Plan:
        asked.append(tuple(lsps))
        return plan_stated(run, 10, 60, 5, lsps=lsps)

    summed = sum_up(plan_sweep(points, plan_one))
    trained = [point for point in points if point.kind == "train"]
    assert len(asked) == len(summed["settings"]) < len(trained) == summed["runs"]
    assert {point.config.truncation.lsp for point in trained} <= set(asked[0])
    assert summed["seconds"] is None, "no speed was given"
    assert summed["device_hours"] is None


def test_device_hours_are_hours_times_devices(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    points = expand(tiny_sweep(tmp_path, tiny_student, tiny_teacher), tmp_path)

    def hours(num_ranks: int) -> dict[str, Any]:
        def plan_one(run: RunConfig, lsps: Sequence[float]) -> Plan:
            speed = stated_speed(1e-6, 0.5)
            return plan_stated(run, 10, 60, 5, speed, num_ranks=num_ranks, lsps=lsps)

        return sum_up(plan_sweep(points, plan_one), num_ranks)

    alone, four = hours(1), hours(4)
    assert alone["device_hours"] == pytest.approx(alone["seconds"] / 3600)
    assert four["seconds"] == pytest.approx(alone["seconds"] / 4)
    assert four["device_hours"] == pytest.approx(alone["device_hours"])


def test_data_that_are_not_here_are_planned_for_only_where_their_size_is_known(
    tmp_path: Path,
) -> None:
    text = (ROOT / "configs" / "paper" / "qwen3-8b-to-4b-corrected.yaml").read_text()
    path = tmp_path / "sweep.yaml"
    path.write_text(text.replace("max_tokens: 4096, ", ""))
    result = CliRunner().invoke(app, ["plan", str(path)])
    assert "OpenThoughts-114k is not on this machine" in str(result.exception)
    bare = tmp_path / "bare.yaml"
    bare.write_text(re.sub(r"max_tokens: 4096, sample: \d+, ", "", text))
    result = CliRunner().invoke(app, ["plan", str(bare), "--num-traces", "9"])
    assert str(result.exception).startswith("--tokens must be given too")
    result = CliRunner().invoke(app, ["plan", str(path), "--tokens", "4096"])
    assert result.exit_code == 0, result.output
    assert "40000 traces stated as 4096 tokens each" in result.output
