"""Each trace's own cut point, from its first derivation. Light: imports neither torch nor models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadspan.analysis.derivation import find_derivation
from leadspan.config import DERIVATION_COLUMN, TruncationConfig
from leadspan.records import Trace
from leadspan.traces.dataset import Annotate


def annotate_derivation(trace: Trace) -> Mapping[str, Any]:
    """Where the trace may be cut, for `truncation.policy: derivation`.

    Nothing where no derivation was found in the CoT, or where the gold stands in the prompt, so that
    a mention proves nothing: those traces are cut by `truncation.lsp`.
    """
    derivation = find_derivation(trace)
    if derivation.status != "derived" or derivation.end is None:
        return {}
    return {DERIVATION_COLUMN: derivation.end}


def annotator_of(truncation: TruncationConfig) -> Annotate | None:
    """What finds each trace's own cut point, where the cut asks for one."""
    return annotate_derivation if truncation.policy == "derivation" else None
