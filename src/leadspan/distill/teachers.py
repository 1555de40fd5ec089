"""What the loss knows of a teacher: hidden states with a head, or the kept part of a distribution.

Knows nothing about models or files. Shape suffixes: N scored tokens, H hidden, K kept ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from leadspan.distill.heads import Head


@dataclass(frozen=True, slots=True)
class DenseTeacher:
    """The whole distribution, as final hidden states and the teacher's head; no logits are held."""

    hidden_NH: Tensor
    head: Head

    def __len__(self) -> int:
        return int(self.hidden_NH.shape[0])


@dataclass(frozen=True, slots=True)
class SparseTeacher:
    """Part of a distribution: K token ids, their log-probabilities, and the rest as one class.

    A kept entry with log-probability -inf is empty: its id counts as part of the tail. Ids of the
    other entries are distinct within a row.
    """

    topk_ids_NK: Tensor
    """Integer ids below the vocabulary size."""
    topk_logprobs_NK: Tensor
    """Natural logs, of the whole distribution: they need not sum to 1."""
    tail_logprob_N: Tensor
    """Log of the mass that is not kept; -inf where everything is."""

    def __len__(self) -> int:
        return int(self.topk_ids_NK.shape[0])

    def renormalised(self, kd_temperature: float = 1.0) -> SparseTeacher:
        """The kept part alone, scaled to sum to 1: hides the tail, so it biases the student."""
        wide = torch.promote_types(self.topk_logprobs_NK.dtype, torch.float32)
        logprobs_NK = torch.log_softmax(self.topk_logprobs_NK.to(wide) / kd_temperature, dim=-1)
        return SparseTeacher(
            self.topk_ids_NK, logprobs_NK, torch.full_like(logprobs_NK[:, 0], -torch.inf)
        )


Teacher = DenseTeacher | SparseTeacher
