"""Seconds from counts: fitted to measured runs, or from a device's stated peak. Knows no config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadspan.errors import RunError

MEASURED = ("tokens_forwarded", "train_flops", "train_seconds")
"""Keys of a manifest that say how fast a run was."""


@dataclass(frozen=True, slots=True)
class SecondsModel:
    """seconds = FLOPs * per_flop + tokens * per_token.

    On small models `per_token` is often below zero: attention takes more time than its FLOPs say, so
    the curve bends more than FLOPs do. It holds between the lsps it was fitted at.
    """

    per_flop: float
    per_token: float
    source: str
    """Where the figures come from, in words."""

    def predict(self, tokens: float, flops: float) -> float:
        """Device seconds of a training."""
        return tokens * self.per_token + flops * self.per_flop


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a finished (short) run says about speed, the writing of rollouts apart."""

    tokens: int
    flops: int
    seconds: float
    """Of all its devices together: the clock's, times the ranks."""


def stated_speed(peak_tflops: float, utilisation: float) -> SecondsModel:
    """Seconds from a device's peak and the share of it that training reaches.

    Args:
        peak_tflops: Dense bfloat16 peak, in 1e12 FLOPs a second.
        utilisation: 0 to 1; 0.4 is usual for a well-filled GPU.
    """
    return SecondsModel(
        per_token=0.0,
        per_flop=1 / (peak_tflops * 1e12 * utilisation),
        source=f"a stated peak of {peak_tflops:g} TFLOP/s at {utilisation:.0%}",
    )


def fit_speed(measured: Sequence[Measurement]) -> SecondsModel:
    """Fit seconds to measured runs of different lsp, least squares of the relative error.

    One measurement gives seconds per FLOP, several a term per token too.

    Raises:
        ValueError: There is none.
    """
    if not measured:
        raise ValueError("fit_speed: needs at least one measurement; got none.")
    plural = "s" if len(measured) > 1 else ""
    source = f"{len(measured)} measured run{plural}"
    rate = float(np.mean([m.seconds / m.flops for m in measured]))
    if len({m.tokens for m in measured}) < 2:
        return SecondsModel(rate, 0.0, source)
    columns = np.array([[m.flops / m.seconds, m.tokens / m.seconds] for m in measured])
    scale = columns.max(axis=0)
    weights, *_ = np.linalg.lstsq(columns / scale, np.ones(len(measured)), rcond=None)
    per_flop, per_token = (float(weight) for weight in weights / scale)
    if per_flop <= 0:  # noise: longer runs were not slower
        return SecondsModel(rate, 0.0, source)
    return SecondsModel(per_flop, per_token, source)


def measurement_of(manifest: Any) -> Measurement:
    """Read speed off the manifest of a finished run.

    Raises:
        RunError: It does not hold tokens, FLOPs and seconds above 0.
    """
    content = manifest if isinstance(manifest, dict) else {}
    found: list[Any] = [content.get(key) for key in MEASURED]
    if not all(_is_positive(value) for value in found):
        raise RunError(
            f"{', '.join(MEASURED)} of its manifest must be above 0; got "
            f"{', '.join(map(str, found))}. FLOPs are known of models of some families only: see "
            "docs/cost.md, or give --peak-tflops."
        )
    tokens, flops, seconds = found
    flops -= content.get("rollout_flops") or 0
    seconds -= content.get("rollout_seconds") or 0.0
    return Measurement(int(tokens), int(flops), float(seconds) * int(content.get("num_ranks") or 1))


def _is_positive(value: Any) -> bool:
    """True for a finite number above 0."""
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
