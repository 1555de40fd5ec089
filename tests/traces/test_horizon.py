"""How long rollouts are, at a moment of the training and before they are written."""

from __future__ import annotations

from typing import Any

import pytest

from leadspan.config import RolloutConfig
from leadspan.traces.horizon import Horizon, in_tokens, num_context_tokens, stand_in
from tests.training.test_rollouts import sequence


@pytest.mark.parametrize(
    ("amount", "length", "expected"),
    [(5, 100, 5), (0.5, 101, 50), (1.0, 7, 7), (0.01, 7, 1), (0.3, 10, 3)],
)
def test_amounts_are_tokens_or_shares(amount: float, length: int, expected: int) -> None:
    assert in_tokens(amount, amount, length) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"), [(0, 3), (2, 5), (0.5, 6), (1.0, 8), (99, 8)], ids=str
)
def test_a_prefix_is_a_lead_of_the_completion_without_its_last_token(
    prefix: float, expected: int
) -> None:
    config = RolloutConfig(prefix=prefix, horizon=2)
    assert num_context_tokens(config, sequence(3, 4, 2)) == expected
    cost = stand_in(config, sequence(3, 4, 2))
    assert list(cost.supervised_T[:expected]) == [False] * expected
    assert cost.num_scored_tokens == min(2, 9 - expected)


@pytest.mark.parametrize(
    ("keys", "progress", "expected"),
    [
        ({"horizon": 0.5}, 0.0, 50),
        ({"horizon": 0.5, "horizon_start": 0.1, "schedule": "linear"}, 0.0, 10),
        ({"horizon": 0.5, "horizon_start": 0.1, "schedule": "linear"}, 0.5, 30),
        ({"horizon": 0.5, "horizon_start": 0.1, "schedule": "linear"}, 1.0, 50),
        ({"horizon": 64, "horizon_start": 8, "schedule": "linear"}, 0.5, 36),
    ],
)
def test_the_horizon_grows_over_the_training(
    keys: dict[str, Any], progress: float, expected: int
) -> None:
    assert Horizon().length(RolloutConfig(**keys), 100, progress, num_validations=4) == expected


def test_with_schedule_entropy_it_grows_only_while_the_entropy_is_healthy() -> None:
    config = RolloutConfig(horizon=0.9, horizon_start=0.1, schedule="entropy", entropy_floor=0.8)
    horizon, lengths = Horizon(), []
    for entropy in (2.0, 1.7, 1.5, 1.61):  # 0.8 of the first is 1.6
        lengths.append(horizon.length(config, 100, 0.0, num_validations=5))
        horizon.note([(entropy, entropy)])
        assert horizon.close_interval(config.entropy_floor) == entropy
    lengths.append(horizon.length(config, 100, 0.0, num_validations=5))
    assert lengths == [10, 30, 50, 50, 70]
    assert horizon.close_interval(config.entropy_floor) is None
