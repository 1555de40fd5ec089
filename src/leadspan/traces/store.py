"""Rendered sequences on disk, found again by everything that made them.

The key is a hash of the traces' bytes, the filters, the render settings, the template, the tokenizer
and this package's own code. Knows nothing about how sequences are made.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from leadspan.config import RunConfig
from leadspan.identity import code_digest, digest, file_digest, tokenizer_fingerprint
from leadspan.records import Sequence, Span
from leadspan.traces.rows import Source, local_files
from leadspan.traces.sources import LoadedTraces

NOT_IN_KEY = {"path", "num_processes", "validation_fraction"}
"""Fields of TracesConfig that do not change the rendered rows, or are hashed by content."""


def cache_folder(config: RunConfig, tokenizer: Any, layout: list[Any]) -> Path | None:
    """Where this set is kept; None where its content has no fixed name (a hub branch).

    Args:
        config: The run.
        tokenizer: The student's.
        layout: `Layout.identity`; holds the date where the template reads one.
    """
    sources: list[Source] = [config.traces, *config.traces.decontaminate]
    contents = [_content(source.path, source.revision) for source in sources]
    if None in contents:
        return None
    traces = config.traces.model_dump(mode="json", exclude=NOT_IN_KEY)
    made_of = {
        "contents": contents,
        "traces": traces,
        "render": config.render.model_dump(mode="json", exclude={"chat_template", "date"}),
        "column": [config.truncation.column, config.truncation.column_unit],
        "layout": layout,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "code": code_digest(),
    }
    key = digest(json.dumps(made_of, sort_keys=True, default=str))
    root = os.environ.get("LEADSPAN_CACHE") or Path.home() / ".cache" / "leadspan"
    return Path(root) / "sequences" / key


def load_sequences(folder: Path) -> tuple[list[Sequence], LoadedTraces] | None:
    """Read a stored set; None where there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokens_T = np.load(folder / "tokens.npy")
        ends = np.load(folder / "ends.npy").tolist()
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return None
    sequences, start = [], 0
    for line, (prompt, cot, answer) in zip(lines, ends, strict=False):
        trace_id, closed, meta = json.loads(line)
        sequences.append(
            Sequence(
                trace_id=trace_id,
                input_ids_T=tokens_T[start : start + answer],
                prompt=Span(0, prompt),
                cot=Span(prompt, cot),
                answer=Span(cot, answer),
                closed=closed,
                meta=meta,
            )
        )
        start += answer
    counts = LoadedTraces(
        refused=Counter(manifest["refused"]),
        notes=Counter(manifest["notes"]),
        places=manifest["places"],
    )
    return sequences, counts


def save_sequences(folder: Path, sequences: list[Sequence], counts: LoadedTraces) -> None:
    """Write a set whole or not at all; where it cannot be written, the next run renders again."""
    try:
        rows = [json.dumps([s.trace_id, s.closed, dict(s.meta)]) for s in sequences]
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    except (OSError, TypeError, ValueError):
        return
    try:
        ids = [s.input_ids_T for s in sequences] or [np.zeros(0, np.int32)]
        ends = [[s.prompt.end, s.cot.end, s.answer.end] for s in sequences]
        np.save(temporary / "tokens.npy", np.concatenate(ids))
        np.save(temporary / "ends.npy", np.array(ends, dtype=np.int64).reshape(-1, 3))
        (temporary / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
        manifest = {"refused": counts.refused, "notes": counts.notes, "places": counts.places}
        (temporary / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        temporary.rename(folder)
    except OSError:  # a full disk, or another process was first
        shutil.rmtree(temporary, ignore_errors=True)


def _content(path: str, revision: str | None) -> Any:
    files = local_files(path)
    if files is None:
        return [path, revision] if revision else None
    inner = [f for file in files for f in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    return [file_digest(file) for file in inner if file.is_file()]
