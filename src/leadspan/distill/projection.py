"""A head applied to a chunk of rows at a time, and how many rows a chunk may have.

Knows nothing about losses. Shape suffixes: n rows of one chunk, H hidden, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leadspan.distill.heads import Head
from leadspan.distill.losses import LOG_OF_NOTHING
from leadspan.distill.products import product_into

CHUNK_BYTES = {"cpu": 256 * 2**20, "cuda": 1024 * 2**20}


class Projection:
    """Hidden states to logits over the vocabulary; products in `dtype`, logits float32 or wider.

    A token that the head masks by a bias of -inf gets the logit `LOG_OF_NOTHING` and no gradient: its
    probability is 0, and nothing here multiplies 0 by infinity.

    Args:
        head: Any head at least `vocab_size` wide; its later rows are left out.
        vocab_size: Width of the logits.
        dtype: Of the matrix product.
    """

    def __init__(self, head: Head, vocab_size: int, dtype: torch.dtype) -> None:
        self.weight_VH = head.weight_VH.detach()[:vocab_size].to(dtype)
        self._bias_V = None if head.bias_V is None else head.bias_V.detach()[:vocab_size]
        self._masked = _masked_columns(self._bias_V)
        self._scale, self._cap = head.logit_scale, head.soft_cap
        self._dtype = dtype
        self._buffer_nV: Tensor | None = None

    def __call__(self, hidden_nH: Tensor) -> Tensor:
        """Logits [n, V], for the caller to overwrite; the next call writes into the same memory."""
        logits_nV = self._room_for(len(hidden_nH), hidden_nH.device)
        product_into(logits_nV, hidden_nH.to(self._dtype), self.weight_VH.t())
        if self._bias_V is not None:
            logits_nV += self._bias_V
        if self._scale != 1.0:
            logits_nV *= self._scale
        if self._masked is not None:
            logits_nV[:, self._masked] = LOG_OF_NOTHING
        if self._cap is not None:
            logits_nV.div_(self._cap).tanh_().mul_(self._cap)
        return logits_nV

    def _room_for(self, num_rows: int, device: torch.device) -> Tensor:
        # Fresh memory costs a page fault every 4 KiB on a CPU, more than an elementwise pass.
        if self._buffer_nV is None or len(self._buffer_nV) < num_rows:
            wide = torch.promote_types(self._dtype, torch.float32)
            width = len(self.weight_VH)
            self._buffer_nV = torch.empty(num_rows, width, dtype=wide, device=device)
        return self._buffer_nV[:num_rows]

    def cap_slope(self, logits_nV: Tensor) -> Tensor | None:
        """Derivative of the soft cap, read off its output: 1 - (logit / cap) ** 2."""
        if self._cap is None:
            return None
        return (logits_nV / self._cap).square_().neg_().add_(1)

    def to_raw(self, grad_nV: Tensor, slope_nV: Tensor | None) -> Tensor:
        """Turn a gradient by the logits into one by the bare product (before bias), in place."""
        if slope_nV is not None:
            grad_nV *= slope_nV
        if self._scale != 1.0:
            grad_nV *= self._scale
        if self._masked is not None:
            grad_nV[:, self._masked] = 0
        return grad_nV


def _masked_columns(bias_V: Tensor | None) -> Tensor | None:
    """Indices of the tokens that a head can never say; None where there are none."""
    if bias_V is None:
        return None
    masked = torch.isneginf(bias_V).nonzero().squeeze(1)
    return masked if len(masked) else None


def rows_in_budget(
    device: torch.device, vocab_size: int, dtype: torch.dtype, num_buffers: int
) -> int:
    """Rows of a chunk of which `num_buffers` logits of `dtype`, or float32, fit the budget."""
    itemsize = torch.promote_types(dtype, torch.float32).itemsize
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    return max(1, budget // (vocab_size * itemsize * num_buffers))
