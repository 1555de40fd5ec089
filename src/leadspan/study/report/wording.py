"""How numbers and settings are said. Pure; knows nothing about Markdown or HTML."""

from __future__ import annotations

import math

MISSING = "–"
SHORT_SECTIONS = {"prompt": "P", "cot": "CoT", "answer": "A"}
COST_LABELS = {
    "train_seconds": "training time",
    "peak_memory_gib": "peak memory",
    "peak_step_memory_gib": "memory of the step alone",
    "train_flops": "training FLOPs",
    "tokens_forwarded": "tokens forwarded",
    "tokens_scored": "tokens scored",
}


def is_known(value: float | None) -> bool:
    """False for None and NaN."""
    return value is not None and not math.isnan(value)


def say_number(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals, or a dash; an interval without an upper end has infinity."""
    if value is None or math.isnan(value):
        return MISSING
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def say_large(value: float | None) -> str:
    """Counts and FLOPs: thousands in groups, from a million on three significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"


def say_range(low: float | None, high: float | None) -> str:
    """An interval, `[0.90, 0.96]`, or a dash."""
    is_whole = is_known(low) and is_known(high)
    return f"[{say_number(low)}, {say_number(high)}]" if is_whole else MISSING


def say_estimate(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`0.93 [0.90, 0.96]`, the value alone where the interval is not known."""
    interval = say_range(low, high)
    return say_number(value) if interval == MISSING else f"{say_number(value)} {interval}"


def say_sections(sections: str | None) -> str:
    """`prompt+cot+answer` as the paper writes it, P+CoT+A."""
    return "+".join(SHORT_SECTIONS.get(name, name) for name in (sections or MISSING).split("+"))


def say_lsp(lsp: float | None) -> str:
    """The cut as one writes it: 0.5, 0.75, 1.0."""
    if lsp is None:
        return MISSING
    return f"{lsp:.1f}" if round(lsp, 1) == lsp else f"{lsp:g}"


def say_count(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
