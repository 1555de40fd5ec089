"""What the passes of a step add up section by section, and the means that are reported of it.

The sums of a step are one float64 vector: its loss; count, cross-entropy and divergence of each section;
the mass of teacher and student on a sparse teacher's kept ids.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from leadspan.distill.batches import Batch
from leadspan.records import SECTIONS

NUM_SUMS = 1 + 3 * len(SECTIONS) + 2
"""Length of that vector."""


def section_sums(batch: Batch, ce_N: torch.Tensor, kd_N: torch.Tensor) -> torch.Tensor:
    """Count, cross-entropy and divergence summed by section, [3 * sections], float64."""
    values = torch.stack([torch.ones_like(ce_N), ce_N, kd_N]).double()
    sums = torch.zeros(3, len(SECTIONS), dtype=torch.float64, device=ce_N.device)
    return sums.index_add_(1, batch.sections_N, values).T.flatten()


def section_means(sums: torch.Tensor) -> Mapping[str, float]:
    """Token means by section, for the sections that were scored, and of the kept masses."""
    by_section = sums[1:-2].view(-1, 3).tolist()
    means = {}
    for section, (count, ce, kd) in zip(SECTIONS, by_section, strict=True):
        if count:
            means[f"ce_{section}"] = ce / count
            means[f"kd_{section}"] = kd / count
    teacher_kept, student_kept = sums[-2:].tolist()
    if teacher_kept:
        num_scored = sum(count for count, _, _ in by_section)
        means["teacher_mass_kept"] = teacher_kept / num_scored
        means["student_mass_kept"] = student_kept / num_scored
    return means
