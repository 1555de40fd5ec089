"""Which tokens of a sequence are labels. Pure: knows sections, not markers, text or models."""

from __future__ import annotations

import hashlib

import numpy as np

from leadspan.config import SupervisionConfig
from leadspan.records import Example, Sequence


def supervise(sequence: Sequence, config: SupervisionConfig | None = None) -> Example:
    """Mark the tokens of the chosen sections as labels.

    Args:
        sequence: Cut or uncut.
        config: Sections and masked share; the defaults of run.yaml where None.

    Returns:
        The sequence with its mask. The first token is never a label.
    """
    config = config or SupervisionConfig()
    supervised_T = np.zeros(len(sequence), dtype=np.bool_)
    for section in config.sections:
        span = sequence.span(section)
        supervised_T[span.start : span.end] = True
    supervised_T[:1] = False
    if config.mask_fraction:
        supervised_T &= ~_masked(sequence, config)
    return Example(sequence, supervised_T)


def _masked(sequence: Sequence, config: SupervisionConfig) -> np.ndarray:
    """A draw for each position of the trace, the same in every epoch and for every cut."""
    key = f"{config.mask_seed}:{sequence.trace_id}".encode()
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
    draws: np.ndarray = generator.random(len(sequence)) < config.mask_fraction
    return draws
