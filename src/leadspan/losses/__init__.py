"""Divergences, and the fused loss over the vocabulary. Knows nothing about sequences, models or files.

For a training loop of one's own these are functions of tensors:

- `fused_linear_kd` and `fused_linear_topk_kd`: cross-entropy and distillation from hidden states, without
  holding the logits; what `leadspan train` computes.
- `cross_entropy`, `forward_kl`, `reverse_kl`, `jsd`, `skew_kl`, `reverse_skew_kl`, `total_variation`,
  `mixed_kl`, `entropy_gated_kl`: plain references, one value a token, from logits [N, V].
"""

from __future__ import annotations

from leadspan.losses.divergences import (
    cross_entropy,
    entropy_gated_kl,
    forward_kl,
    jsd,
    mixed_kl,
    reverse_kl,
    reverse_skew_kl,
    skew_kl,
    total_variation,
)
from leadspan.losses.functional import fused_linear_kd, fused_linear_topk_kd

__all__ = [
    "cross_entropy",
    "entropy_gated_kl",
    "forward_kl",
    "fused_linear_kd",
    "fused_linear_topk_kd",
    "jsd",
    "mixed_kl",
    "reverse_kl",
    "reverse_skew_kl",
    "skew_kl",
    "total_variation",
]
