"""Seconds from measured runs or a stated peak."""

from __future__ import annotations

from typing import Any

import pytest

from leadspan.analysis.speed import Measurement, fit_speed, measurement_of, stated_speed
from leadspan.errors import RunError


def _measured(per_flop: float, per_token: float) -> list[Measurement]:
    sizes = ((4000, 9e12), (12000, 30e12), (40000, 110e12))
    return [Measurement(n, int(f), per_flop * f + per_token * n) for n, f in sizes]


@pytest.mark.parametrize("per_token", [1e-5, 0.0, -1e-4])
def test_speed_is_recovered(per_token: float) -> None:
    runs = _measured(2e-13, per_token)
    speed = fit_speed(runs)
    assert speed.per_flop == pytest.approx(2e-13, rel=1e-6)
    assert speed.per_token == pytest.approx(per_token, rel=1e-6, abs=1e-12)
    for run in runs:
        assert speed.predict(run.tokens, run.flops) == pytest.approx(run.seconds)


def test_one_measurement_gives_a_rate() -> None:
    speed = fit_speed([Measurement(1000, 10**12, 4.0)])
    assert speed.per_token == 0
    assert speed.predict(2000, 2 * 10**12) == pytest.approx(8)
    with pytest.raises(ValueError, match="at least one"):
        fit_speed([])


def test_noise_does_not_make_work_free() -> None:
    speed = fit_speed([Measurement(1000, 10**12, 4.0), Measurement(4000, 5 * 10**12, 3.0)])
    assert speed.per_flop > 0


def test_stated_peak() -> None:
    assert stated_speed(100, 0.5).predict(1, 1e15) == pytest.approx(20)
    assert "100 TFLOP/s" in stated_speed(100, 0.5).source


MANIFEST = {"tokens_forwarded": 10, "train_flops": 99, "train_seconds": 1.5}


def test_measurement_of_a_manifest() -> None:
    assert measurement_of(MANIFEST) == Measurement(10, 99, 1.5)
    assert measurement_of({**MANIFEST, "num_ranks": 4}).seconds == 6, "of all devices"


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        [],
        {**MANIFEST, "train_flops": None},
        {**MANIFEST, "train_flops": 0},
        {**MANIFEST, "train_seconds": 0.0},
        {**MANIFEST, "train_seconds": float("nan")},
        {**MANIFEST, "tokens_forwarded": "ten"},
    ],
    ids=repr,
)
def test_a_run_that_measured_nothing_is_refused(manifest: Any) -> None:
    with pytest.raises(RunError, match="of its manifest must be above 0; got "):
        measurement_of(manifest)


def test_the_writing_of_rollouts_is_no_measure_of_training() -> None:
    written = {**MANIFEST, "rollout_flops": 33, "rollout_seconds": 1.0}
    assert measurement_of(written) == Measurement(10, 66, 0.5)
