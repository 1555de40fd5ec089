"""A scored token off-policy and on-policy, against FLOPs that are summed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from leadspan.analysis.per_token import scored_token_cost
from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.flops import forward_flops, generation_flops, training_flops
from leadspan.sizes import shape_of
from tests.training.test_rollouts import sequence

STUDENT, TEACHER = "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-8B"


def _config(**more: Any) -> RunConfig:
    keys: dict[str, Any] = {
        "teacher": {"path": TEACHER},
        "student": {"path": STUDENT},
        "traces": {"path": "traces.jsonl"},
        "training": {"epochs": 1, "batch_size": 4},
    }
    return validate(RunConfig, keys | more, "test")


def test_the_same_traces_off_policy_and_on_policy() -> None:
    """Prompt 100, completion 900: lsp 0.5 scores 400 tokens, horizon 0.5 scores 450."""
    student, teacher = shape_of(STUDENT), shape_of(TEACHER)
    found = scored_token_cost(_config(), [sequence(100, 800, 100)] * 8, 0.5)
    assert found is not None
    cached = training_flops(student, [499], 400, attention="causal") / 400
    read = forward_flops(teacher, [499], 400, "causal") / 400
    assert (found.cached, found.live) == pytest.approx((cached, cached + read), rel=1e-9)
    writing = generation_flops(student, [100], [450], "causal")
    on_policy = (
        training_flops(student, [549], 450, attention="causal")
        + forward_flops(teacher, [549], 450, "causal")
        + writing
    )
    assert found.on_policy == pytest.approx(on_policy / 450, rel=1e-9)
    assert found.writing == pytest.approx(writing / 450, rel=1e-9)
    assert "on-policy at horizon 0.5" in str(found)


def test_without_a_teacher_there_is_nothing_to_compare() -> None:
    config = _config(teacher=None, loss={"kd_ratio": 0})
    assert scored_token_cost(config, [sequence(100, 800, 100)], 0.5) is None
