"""What a card can compute at most, for the share of it that training reaches (MFU)."""

from __future__ import annotations

import re

import torch

PEAK_TFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200 NVL": 835.5,
    "H200": 989.4,
    "GH200": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.4,
    "A100": 311.9,
    "L40S": 362.1,
    "L40": 181.1,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.2,
}
"""Dense bfloat16 products with float32 sums, in 1e12 FLOPs a second, by words of the card's name, from the
vendor's data sheets; the first that fits counts."""


def peak_tflops_of(card: str) -> float | None:
    """The peak of a card by its name; None where it is not known."""
    named = (peak for name, peak in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", card))
    return next(named, None)


def device_peak(device: torch.device, bf16: bool) -> float | None:
    """FLOPs a second of `device` at most; None on a CPU, in float32 and on a card not known."""
    if device.type != "cuda" or not bf16:
        return None
    peak = peak_tflops_of(torch.cuda.get_device_name(device))
    return None if peak is None else peak * 1e12
