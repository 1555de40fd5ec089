"""Wilson's interval of a share: the one formula for accuracies and for what a cut keeps."""

from __future__ import annotations

import math

NORMAL_95 = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % at either end."""


def wilson(share: float, count: float, quantile: float = NORMAL_95) -> tuple[float, float]:
    """Where the true share lies, given the share seen among `count` independent cases.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        share: In [0, 1].
        count: Above 0; of cases, or of as many as would be worth the same.
        quantile: Of the normal or Student's distribution; a 95 % interval by default.
    """
    spread = quantile**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = quantile * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)
