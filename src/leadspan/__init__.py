"""leadspan: distil reasoning on truncated, section-supervised traces, and measure what the cut cost.

Importing this module imports nothing heavy; each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load_traces": "leadspan.traces.sources",
    "render": "leadspan.traces.render",
    "truncate": "leadspan.traces.cut",
    "supervise": "leadspan.traces.cut",
    "distill": "leadspan.training.distill",
    "evaluate": "leadspan.evaluation.evaluate",
}

if TYPE_CHECKING:
    from leadspan.evaluation.evaluate import evaluate as evaluate
    from leadspan.traces.cut import supervise as supervise
    from leadspan.traces.cut import truncate as truncate
    from leadspan.traces.render import render as render
    from leadspan.traces.sources import load_traces as load_traces
    from leadspan.training.distill import distill as distill

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'leadspan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
