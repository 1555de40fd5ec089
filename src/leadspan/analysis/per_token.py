"""What a scored token costs off-policy and on-policy, on the same traces and models. Trains nothing."""

from __future__ import annotations

from collections.abc import Sequence as SequenceABC
from dataclasses import asdict, dataclass

from leadspan.analysis.cost import Teachers, predict_cost, workload_of
from leadspan.config import RolloutConfig, RunConfig
from leadspan.records import Sequence
from leadspan.sizes import shape_of


@dataclass(frozen=True, slots=True)
class ScoredTokenCost:
    """FLOPs of one scored token."""

    share: float
    """The lsp of traces, and the horizon of rollouts."""
    cached: float
    """Traces, with the teacher's rows from a cache; its capture is paid for once and not counted."""
    live: float
    """Traces, with a live teacher."""
    on_policy: float
    """Rollouts, which need a live teacher."""
    writing: float
    """Of that, writing them."""

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"FLOPs of a scored token: {self.cached:.2g} on traces with a cached teacher, {self.live:.2g} "
            f"with a live one; {self.on_policy:.2g} on-policy at horizon {self.share:g}, of which writing "
            f"{self.writing:.2g}"
        )


def scored_token_cost(
    config: RunConfig, sequences: SequenceABC[Sequence], share: float
) -> ScoredTokenCost | None:
    """Compare leads of traces with rollouts as long as the same share.

    Args:
        config: The run, which trains on plain leads.
        sequences: Uncut.
        share: As lsp, and as horizon.

    Returns:
        None without a teacher.

    Raises:
        ConfigError: A model's sizes are not known.
    """
    if not config.all_teachers or config.loss.kd_ratio == 0:
        return None
    student = shape_of(config.student.path, config.student.revision)
    live = [shape_of(each.path, each.revision) for each in config.all_teachers]
    rolled = config.model_copy(update={"rollout": RolloutConfig(horizon=share)})

    def cost(run: RunConfig, lsp: float, teachers: Teachers) -> tuple[float, float]:
        point = predict_cost(run, workload_of(sequences, run, lsp), student, teachers)
        scored = max(1, point.tokens_scored)
        return point.flops / scored, point.rollout_flops / scored

    return ScoredTokenCost(
        share,
        cost(config, share, ())[0],
        cost(config, share, live)[0],
        *cost(rolled, 1.0, live),
    )
