"""Matrix products whose result is wider than their factors: half precision in, float32 out.

CUDA keeps its float32 accumulator; a CPU rounds a product of halves, so sums are formed wide there.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


def _keeps_accumulator(a: Tensor) -> bool:
    return a.device.type == "cuda" and a.dtype in HALVES and torch.version.hip is None


def product_into(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Write a @ b into `out`, whose dtype is that of the factors or wider; return `out`."""
    if a.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    if _keeps_accumulator(a):
        return torch.mm(a, b, out_dtype=out.dtype, out=out)
    return out.copy_(torch.mm(a, b))


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total` in the dtype of `total`; the factors share one dtype."""
    if _keeps_accumulator(a) and total.dtype != a.dtype:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
