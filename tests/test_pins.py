"""A run keeps the day that its prompts were written for, and the commits of what it took from the hub."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import BenchmarkConfig, RunConfig, SweepConfig
from leadspan.config_io import load_run_config
from leadspan.errors import RunError
from leadspan.pins import CAPTURE_KEPT_FILE, KEPT, kept_date, settled, with_date, with_revisions
from leadspan.registry import register
from leadspan.runs import RunFolder
from leadspan.study.sweep import expand, prepare_sweep
from tests.hub_server import HubServer, hub_server

NEWER, OTHER = "a" * 40, "b" * 40
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
    keep(cache / CAPTURE_KEPT_FILE, "2024-01-02")
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


NAMES = (
    *("models/me/student", "models/me/teacher", "models/me/other"),
    *("datasets/me/traces", "datasets/me/problems", "datasets/me/known"),
)
FIRST = {name: f"{place}" * 40 for place, name in enumerate(NAMES, 1)}
ON_THE_HUB: dict[str, Any] = {
    "student": {"path": "me/student"},
    "teacher": {"path": "me/teacher"},
    "traces": {"path": "me/traces", "decontaminate": [{"path": "known"}]},
    "evaluation": {"benchmarks": [{"path": "me/problems"}, {"path": "known"}]},
    "training": {"steps": 1},
}


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that answers, an empty cache, and a registered benchmark that lives on that hub."""
    from huggingface_hub import constants

    monkeypatch.setattr("leadspan.registry._REGISTERED", {})
    register("known", BenchmarkConfig(path="me/known"))
    with hub_server(dict(FIRST)) as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def hub_config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate({**ON_THE_HUB, **changes})


def revisions(config: RunConfig) -> dict[str, str | None]:
    """Every revision that the config has, by what it belongs to."""
    sets = [("traces", config.traces)]
    sets += [(f"clean of {one.path}", one) for one in config.traces.decontaminate]
    sets += [(f"benchmark {one.path}", one) for one in config.evaluation.benchmarks]
    models = [("student", config.student), ("teacher", config.teacher)]
    models += [(f"teacher {place}", one) for place, one in enumerate(config.teachers)]
    return {name: one.revision for name, one in [*models, *sets] if one is not None}


ALL_FIRST = {
    "student": FIRST["models/me/student"],
    "teacher": FIRST["models/me/teacher"],
    "traces": FIRST["datasets/me/traces"],
    "clean of known": FIRST["datasets/me/known"],
    "benchmark me/problems": FIRST["datasets/me/problems"],
    "benchmark known": FIRST["datasets/me/known"],
}


def test_the_hub_is_asked_once_and_a_begun_run_keeps_its_commits(
    online: HubServer, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    pinned = settled(hub_config(), folder.path)
    assert revisions(pinned) == ALL_FIRST
    assert sorted(online.asked) == sorted(NAMES[:2] + NAMES[3:]), (
        "each once, though two read `known`"
    )
    folder.claim_config(pinned)
    assert revisions(load_run_config(folder.config_path)) == ALL_FIRST
    online.asked.clear()
    online.commits.update(dict.fromkeys(NAMES, NEWER))
    assert settled(hub_config(), folder.path) == pinned
    assert online.asked == []
    assert revisions(settled(hub_config(), tmp_path / "other")) == dict.fromkeys(ALL_FIRST, NEWER)


def test_what_is_local_or_has_a_revision_is_left_alone(
    online: HubServer, tmp_path: Path, tiny_student: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    register("at home", BenchmarkConfig(path=str(rows)))
    content = hub_config(
        student={"path": str(tiny_student)},
        teacher={"path": "me/teacher", "revision": "v1"},
        traces={"path": str(rows), "decontaminate": [{"path": "at home"}, {"path": "no/rows.csv"}]},
        evaluation={"benchmarks": [{"path": "at home"}, {"path": "me/known", "revision": "v2"}]},
    )
    assert with_revisions(content, tmp_path / "run") == content
    assert online.asked == []


def test_several_teachers_and_a_teacher_that_is_the_student(
    online: HubServer, tmp_path: Path
) -> None:
    """The second is the first at a revision of its own, and takes nothing from it at a second start."""
    routed = [{"path": "me/other", "revision": "v1", "where": {"a": 1}}, {"path": "me/other"}]
    several = hub_config(teacher=None, teachers=routed)
    folder = RunFolder(tmp_path / "run")
    for _ in range(2):
        pinned = with_revisions(several, folder.path)
        found = revisions(pinned)
        assert (found["teacher 0"], found["teacher 1"]) == ("v1", FIRST["models/me/other"])
        folder.claim_config(pinned)
    itself = hub_config(teacher={"from": "student", "system_prompt": "It is {gold}."})
    found = revisions(with_revisions(itself, tmp_path / "other"))
    assert found["teacher"] == found["student"] == FIRST["models/me/student"]


def test_a_run_that_was_begun_without_revisions_goes_on_without(
    online: HubServer, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    begun = with_date(hub_config(), folder.path)
    folder.claim_config(begun)
    folder.claim_config(settled(hub_config(), folder.path))
    assert load_run_config(folder.config_path) == begun
    assert online.asked == []


def test_a_cached_teacher_is_never_asked_for_and_brings_what_was_captured(
    online: HubServer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cached = hub_config(teacher={"path": "me/teacher", "cache": str(cache)})
    assert revisions(with_revisions(cached, tmp_path / "run"))["teacher"] is None
    assert "models/me/teacher" not in online.asked
    captured = settled(hub_config(), cache).model_dump(mode="json", include=KEPT)
    (cache / CAPTURE_KEPT_FILE).write_text(json.dumps(captured))
    online.commits.update(dict.fromkeys(NAMES, NEWER))
    online.asked.clear()
    assert revisions(with_revisions(cached, tmp_path / "run")) == ALL_FIRST
    assert online.asked == []


def test_nothing_is_known_of_what_the_hub_does_not_have(online: HubServer, tmp_path: Path) -> None:
    online.commits.clear()
    for student, asked in (("me/student", 5), ("/models/none", 4), ("<model in memory>", 4)):
        online.asked.clear()
        config = hub_config(student={"path": student})
        assert with_revisions(config, tmp_path / "run") == config
        assert len(online.asked) == asked


def test_without_a_network_the_commit_is_that_of_the_hub_s_cache(
    online: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server({}) as gone:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", gone.url)
    for kind, name in (("models", "student"), ("datasets", "traces")):
        refs = tmp_path / "hub" / f"{kind}--me--{name}" / "refs"
        refs.mkdir(parents=True)
        (refs / "main").write_text(OTHER)
    found = revisions(with_revisions(hub_config(), tmp_path / "run"))
    known = {"student": OTHER, "traces": OTHER}
    assert found == {**dict.fromkeys(ALL_FIRST), **known}


def test_a_sweep_has_one_commit_though_points_join_later(online: HubServer, tmp_path: Path) -> None:
    def prepared(*students: str) -> dict[str, str | None]:
        grids = [{"student.path": [f"me/{name}" for name in students]}]
        sweep = SweepConfig.model_validate({"base": ON_THE_HUB, "grids": grids})
        points = prepare_sweep(sweep, tmp_path)
        assert all(point.config.traces.revision == ALL_FIRST["traces"] for point in points)
        for point in points:
            assert load_run_config(point.folder(tmp_path) / "run.yaml") == point.config
        return {point.name: point.config.student.revision for point in points}

    expected = {
        "base": ALL_FIRST["student"],
        "teacher": ALL_FIRST["student"],
        "path-me.student": ALL_FIRST["student"],
    }
    assert prepared("student") == expected
    online.commits.update({**dict.fromkeys(NAMES, NEWER), "models/me/other": OTHER})
    online.asked.clear()
    joined = prepared("student", "other")
    assert joined == {**expected, "base_other": OTHER, "path-me.other": OTHER}
    assert online.asked == ["models/me/other"]
