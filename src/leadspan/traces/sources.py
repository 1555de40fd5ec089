"""Traces from files and the hub: reading, filtering, counting. Knows rows, not tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadspan.config import TracesConfig
from leadspan.errors import DataError
from leadspan.records import Trace
from leadspan.traces.formats import to_trace
from leadspan.traces.sections import Refusal


@dataclass(slots=True)
class LoadedTraces:
    """Usable traces, and what became of the other rows."""

    traces: list[Trace] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> rows that are not used."""
    notes: Counter[str] = field(default_factory=Counter)
    """What is worth knowing about rows that are used."""

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)


def iter_traces(config: TracesConfig) -> Iterator[Trace | Refusal]:
    """Stream every row as a trace or as the reason why it is none."""
    path = Path(config.path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: must be one JSON object a line; {error}.") from None
        yield to_trace(row)


def load_traces(source: str | Path | TracesConfig, **overrides: Any) -> LoadedTraces:
    """Read all traces of a source.

    Args:
        source: A path, a hub id, or the `traces` part of a config.
        **overrides: Fields of TracesConfig, such as `format="messages"`.
    """
    fields = source.model_dump() if isinstance(source, TracesConfig) else {"path": str(source)}
    config = TracesConfig(**{**fields, **overrides})
    loaded = LoadedTraces()
    for row in iter_traces(config):
        if isinstance(row, Refusal):
            loaded.refused[row.reason] += 1
        else:
            loaded.traces.append(row)
    return loaded
