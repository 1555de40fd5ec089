"""Peak memory of training: the CUDA allocator's, or on Linux the process's high-water mark.

`ru_maxrss` is never read: a child process inherits it from its parent.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

GIB = 1024**3
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Total peak, and the peak of one step above what stays between steps.

    Call `reset_for_steps` once model, optimiser and one warm-up step are in memory, and again after
    whatever is no step; call `note_step` after each step.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total_before = 0.0
        self._baseline: float | None = None
        self._step_peak: float | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def reset_for_steps(self) -> None:
        """Forget earlier peaks, and remember what is held now."""
        self._total_before = max(self._total_before, self._peak() or 0.0)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._baseline = torch.cuda.memory_allocated(self._device) / GIB
            return
        try:
            _return_free_memory()
            CLEAR.write_text("5")
            self._baseline = _read_status("VmRSS")
        except OSError:
            self._baseline = None

    def note_step(self) -> None:
        """Remember how high the step went above what is held between steps."""
        peak = self._peak()
        if peak is not None and self._baseline is not None:
            self._step_peak = max(self._step_peak or 0.0, peak - self._baseline)

    def read(self) -> tuple[float | None, float | None]:
        """Total peak and step peak in GiB; None where the machine refuses to say."""
        peak = self._peak()
        total = None if peak is None else max(peak, self._total_before)
        return total, self._step_peak

    def _peak(self) -> float | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / GIB
        try:
            return _read_status("VmHWM")
        except OSError:
            return None


def _return_free_memory() -> None:
    """Give what the allocator has freed back to the system, or the baseline would hold old peaks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _read_status(field: str) -> float:
    """One field of /proc/self/status, in GiB."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / GIB
    raise OSError(f"{STATUS} has no {field}")
