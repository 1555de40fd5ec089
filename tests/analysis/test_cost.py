"""Cost by lsp: exact FLOPs of the cut sequences, seconds from measurements, the plan's table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from leadspan.analysis.cost import (
    Workload,
    predict_cost,
    stated_workload,
    step_shape,
    workload_of,
)
from leadspan.analysis.plan import LSPS, plan_run, plan_stated
from leadspan.analysis.speed import fit_speed, measurement_of, stated_speed
from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.flops import forward_flops, training_flops
from leadspan.sizes import shape_of
from leadspan.traces.batches import num_forwarded_tokens
from leadspan.traces.cut import supervise, truncate
from leadspan.traces.render import render
from leadspan.traces.sources import load_traces
from tests.analysis.test_analyze import _write_world

STUDENT, TEACHER = "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-8B"


def _config(path: str = "traces.jsonl", **more: Any) -> RunConfig:
    content: dict[str, Any] = {
        "teacher": {"path": TEACHER},
        "student": {"path": STUDENT},
        "traces": {"path": path, "validation_fraction": 0.0},
        "training": {"epochs": 2},
    }
    return validate(RunConfig, content | more, "test")


def test_flops_are_those_of_the_cut_sequences(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = str(_write_world(tmp_path / "w.jsonl", count=16))
    config = _config(path)
    sequences = render(load_traces(path).traces, tiny_tokenizer)
    student, teacher = shape_of(STUDENT), shape_of(TEACHER)
    point = predict_cost(config, workload_of(sequences, config, 0.5), student, [teacher])
    examples = [supervise(cut, config.supervision) for cut in truncate(sequences, lsp=0.5)]
    lengths = [num_forwarded_tokens(example) for example in examples]
    scored = [example.num_scored_tokens for example in examples]
    assert point.steps == 4
    assert point.tokens_forwarded == 2 * sum(lengths)
    once = training_flops(student, lengths, scored, attention="causal")
    assert point.student_flops == 2 * once
    assert point.teacher_flops == 2 * forward_flops(teacher, lengths, scored, "causal")


def test_attention_bends_the_curve() -> None:
    config = _config()
    shape = shape_of(STUDENT)
    half, whole = (
        predict_cost(config, stated_workload(64, 8000, 0, config, lsp), shape, [])
        for lsp in (0.5, 1.0)
    )
    assert 0.3 < half.student_flops / whole.student_flops < 0.45


def test_nothing_left_to_score() -> None:
    config = _config()
    workload = stated_workload(10, 100, 60, config, 0.5)
    assert workload.num_dropped == 10
    assert workload.forwarded == ()
    point = predict_cost(config, workload, shape_of(STUDENT), [])
    assert (point.steps, point.flops) == (0, 0)


def test_heaviest_pass_and_accumulation() -> None:
    config = _config(training={"epochs": 1, "batch_size": 8, "micro_batch_tokens": 1000})
    step = step_shape(config, Workload(1.0, (100, 300, 450), (50, 150, 225)))
    assert (step.rows, step.tokens) == (3, 300) or step.padded_tokens == 900
    assert step.scored == math.ceil(step.padded_tokens / 2)
    assert step.passes_per_step == 2
    alone = step_shape(config, Workload(1.0, (5000,), (100,)))
    assert (alone.rows, alone.tokens) == (1, 5000)


def test_a_cache_replaces_the_teacher() -> None:
    live = _config()
    cached = _config(teacher={"path": TEACHER, "cache": "cache"})
    shape, teacher = shape_of(STUDENT), shape_of(TEACHER)
    workload = stated_workload(100, 1000, 100, live, 1.0)
    with_teacher = predict_cost(live, workload, shape, [teacher])
    without = predict_cost(cached, workload, shape, [])
    assert without.teacher_flops == 0
    assert with_teacher.memory.teacher > 16e9
    assert without.memory.teacher < 1e9
    assert without.disk_gib > with_teacher.disk_gib


def test_ranks_share_weights_not_activations() -> None:
    config = _config()
    workload = stated_workload(100, 1000, 100, config, 1.0)
    one, four = (
        predict_cost(config, workload, shape_of(STUDENT), [], num_ranks=ranks).memory
        for ranks in (1, 4)
    )
    assert four.weights == one.weights // 4
    assert four.activations == one.activations


def test_ranks_measured_and_ranks_planned_are_told_apart() -> None:
    """What two devices did in 3 s takes 6 s on one and 1.5 s on four."""
    config = _config()
    workload = stated_workload(100, 1000, 100, config, 1.0)
    shape = shape_of(STUDENT)
    cost = predict_cost(config, workload, shape, [])
    measured = {
        "tokens_forwarded": cost.tokens_forwarded,
        "train_flops": cost.flops,
        "train_seconds": 3.0,
        "num_ranks": 2,
    }
    speed = fit_speed([measurement_of(measured)])
    for ranks, seconds in ((1, 6.0), (2, 3.0), (4, 1.5)):
        found = predict_cost(config, workload, shape, [], speed, num_ranks=ranks).seconds
        assert found == pytest.approx(seconds)


def test_plan_of_a_run(tmp_path: Path, tiny_tokenizer: Any) -> None:
    config = _config(str(_write_world(tmp_path / "w.jsonl")))
    content = plan_run(config, tiny_tokenizer, stated_speed(100, 0.4)).to_json()
    assert json.loads(json.dumps(content)) == content
    rows = content["rows"]
    assert [row["lsp"] for row in rows] == list(LSPS)
    for name in ("tokens_forwarded", "student_flops", "flops_ratio", "survival", "seconds"):
        values = [row[name] for row in rows]
        assert values == sorted(values), name
    assert rows[-1]["flops_ratio"] == 1
    assert rows[-1]["survival"] == 1
    assert rows[4]["memory_gib"]["total"] <= rows[-1]["memory_gib"]["total"]


def test_plan_of_stated_data_shows_the_papers_saving() -> None:
    """An 8B teacher and a 4B student on one card: half the lead is about half the FLOPs."""
    config = _config(student={"path": "Qwen/Qwen3-4B-Base"})
    rows = plan_stated(config, 40_000, 3000, 150).to_json()["rows"]
    assert 0.4 < rows[4]["flops_ratio"] < 0.5
    assert rows[4]["survival"] is None


def test_a_budget_is_planned_as_it_is_spent() -> None:
    """Every lsp costs the same: a shorter cut takes more steps."""
    training = {"budget": {"tokens": 1_000_000}, "batch_size": 10}
    config = _config(student={"path": "Qwen/Qwen3-0.6B-Base"}, training=training)
    rows = plan_stated(config, 500, 1001, 50).to_json()["rows"]
    assert [row["tokens_forwarded"] for row in rows] == pytest.approx([1_000_000] * 10, rel=0.01)
    assert (rows[4]["steps"], rows[-1]["steps"]) == (200, 100)
    flops = {"budget": {"flops": 1e17}, "batch_size": 10}
    config = _config(student={"path": "Qwen/Qwen3-0.6B-Base"}, training=flops)
    for row in plan_stated(config, 500, 1001, 50).to_json()["rows"]:
        assert row["student_flops"] + row["teacher_flops"] == pytest.approx(1e17, rel=0.05)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"truncation": {"lsp": 0.2, "lsp_end": 1.0}}, "lsp_end must be null"),
        ({"truncation": {"policy": "derivation"}}, "its own"),
    ],
)
def test_what_has_no_one_cost_a_row_is_refused(keys: dict[str, Any], said: str) -> None:
    config = _config(student={"path": "Qwen/Qwen3-0.6B-Base"}, **keys)
    with pytest.raises(ConfigError, match=said):
        plan_stated(config, 500, 1001, 100)


def test_a_cache_takes_the_same_disk_at_every_lsp(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = str(_write_world(tmp_path / "w.jsonl", count=16))
    live, cached = (
        plan_run(_config(path, teacher={"path": TEACHER, "cache": cache}), tiny_tokenizer)
        for cache in (None, "cache")
    )
    more = [
        with_it.disk_gib - without.disk_gib
        for with_it, without in zip(cached.points, live.points, strict=True)
    ]
    num_tokens = sum(map(len, render(load_traces(path).traces, tiny_tokenizer)))
    assert more == pytest.approx([214 * num_tokens / 2**30] * 10)
