"""The cut, masked, tokenised set on disk, for other trainers. Knows Arrow folders, no models.

Streams: one buffered batch is held, whatever the size of the source.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from leadspan.config import RunConfig
from leadspan.errors import ConfigError, DataError, RunError
from leadspan.records import Example, Trace
from leadspan.runs import replacing, write_json_atomic
from leadspan.traces.cut import OPEN_TOKENS, Cut, CutCounter, CutReport
from leadspan.traces.dataset import (
    Annotate,
    check_annotated,
    is_validation,
    iter_sequences,
    nothing_usable,
)
from leadspan.traces.render import Renderer
from leadspan.traces.sources import LoadedTraces

Export = Literal["messages", "prompt_completion"]
SPLITS = ("train", "validation")
IGNORED = -100
"""Label of a token that is not scored, as Hugging Face trainers have it."""
MANIFEST = "leadspan.json"


@dataclass(slots=True)
class Prepared:
    """What was written."""

    path: Path
    rows: dict[str, int]
    """By split."""
    cuts: CutReport
    counts: LoadedTraces

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and for JSON."""
        return {
            "rows": self.rows,
            "cuts": self.cuts.as_dict(),
            "refused": dict(self.counts.refused),
            "notes": dict(self.counts.notes),
        }


def prepare(
    config: RunConfig,
    tokenizer: Any,
    output: Path,
    export: Export | None = None,
    annotate: Annotate | None = None,
) -> Prepared:
    """Write train and validation split, `Dataset.load_from_disk` folders, and a manifest last.

    Args:
        config: traces, render, truncation and supervision are used.
        tokenizer: The student's.
        output: A new folder, or one that an earlier call wrote.
        export: Also write the cut text as JSON lines of this kind.
        annotate: Adds each trace's own cut point, where the cut asks for one.

    Raises:
        ConfigError: The config has a schedule, which one set cannot hold.
        DataError: No row is usable.
        RunError: `output` holds something else.
    """
    check_annotated(config.truncation, annotate)
    if config.truncation.lsp_end is not None:
        raise ConfigError(
            "truncation.lsp_end must be null to prepare a set; a schedule is many cuts."
        )
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise RunError(f"{output}: must be empty or an earlier set; got other files. Name another.")
    renderer = Renderer(tokenizer, config.render)
    counts = LoadedTraces()
    counter = CutCounter(Cut(config.truncation, config.supervision))
    with replacing(output) as folder:
        folder.mkdir(parents=True)
        with ExitStack() as stack:
            files = {split: _SplitWriter(folder, split, renderer, export) for split in SPLITS}
            for file in files.values():
                stack.enter_context(file)
            for trace, example in _examples(config, renderer, counts, counter, annotate):
                held_out = is_validation(
                    trace.trace_id, config.traces.validation_fraction, config.traces.seed
                )
                files["validation" if held_out else "train"].write(trace, example)
        rows = {split: file.num_rows for split, file in files.items()}
        if not sum(rows.values()):
            raise DataError(nothing_usable(config.traces, counts))
        prepared = Prepared(output, rows, counter.report(), counts)
        kept = [split for split in SPLITS if rows[split]]
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": kept}), encoding="utf-8")
        write_json_atomic(folder / MANIFEST, prepared.as_dict())
    return prepared


def _examples(
    config: RunConfig,
    renderer: Renderer,
    counts: LoadedTraces,
    counter: CutCounter,
    annotate: Annotate | None,
) -> Iterator[tuple[Trace, Example]]:
    pairs = iter_sequences(config.traces, renderer, counts, config.truncation, annotate)
    for trace, sequence in pairs:
        example = counter.add(sequence)
        if example.num_scored_tokens:
            yield trace, example
        else:
            counts.refused["nothing_to_score"] += 1
            counts.places.setdefault("nothing_to_score", trace.trace_id)


class _SplitWriter:
    """One split as an Arrow folder, and as text where asked."""

    def __init__(self, folder: Path, split: str, renderer: Renderer, export: Export | None) -> None:
        self._folder, self._renderer, self._export = folder / split, renderer, export
        self._text_path = folder / f"{export}-{split}.jsonl"
        self.num_rows = 0

    def __enter__(self) -> _SplitWriter:
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        integer = Value("int32")
        self._features = Features(
            {
                "id": Value("string"),
                "input_ids": List(integer),
                "labels": List(integer),
                "prompt_end": integer,
                "cot_end": integer,
                "num_full_tokens": integer,
                "was_cut": Value("bool"),
                "closed": Value("bool"),
            }
        )
        self._folder.mkdir()
        self._arrow = ArrowWriter(
            path=str(self._folder / "data-00000-of-00001.arrow"),
            features=self._features,
            writer_batch_size=500,
        )
        self._text = self._text_path.open("w", encoding="utf-8") if self._export else None
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._text:
            self._text.close()
        if error is not None or not self.num_rows:
            self._arrow.close()
            shutil.rmtree(self._folder)
            self._text_path.unlink(missing_ok=True)
            return
        self._arrow.finalize()
        self._arrow.close()
        self._describe()

    def _describe(self) -> None:
        """The two files by which `load_from_disk` knows the folder."""
        from datasets import DatasetInfo

        DatasetInfo(features=self._features).write_to_directory(str(self._folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
            "_fingerprint": None,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": self._folder.name,
        }
        (self._folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

    def write(self, trace: Trace, example: Example) -> None:
        """Append one example."""
        sequence = example.sequence
        labels_T = sequence.input_ids_T.copy()
        labels_T[~example.supervised_T] = IGNORED
        self._arrow.write(
            {
                "id": sequence.trace_id,
                "input_ids": sequence.input_ids_T,
                "labels": labels_T,
                "prompt_end": sequence.prompt.end,
                "cot_end": sequence.cot.end,
                "num_full_tokens": sequence.num_full_tokens,
                "was_cut": sequence.was_cut,
                "closed": sequence.closed,
            }
        )
        self.num_rows += 1
        if self._text:
            row = self._as_text(trace, example)
            self._text.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _as_text(self, trace: Trace, example: Example) -> dict[str, Any]:
        """What is left of the trace, decoded; the end token is left to the other trainer."""
        sequence, layout = example.sequence, self._renderer.layout
        ids = sequence.input_ids_T
        ending = 0
        if tuple(ids[len(ids) - len(layout.ending_ids) :].tolist()) == layout.ending_ids:
            ending = len(layout.ending_ids) if len(sequence.answer) else 0
        parts = [ids[: sequence.prompt.end], ids[sequence.prompt.end : len(ids) - ending]]
        prompt, completion = self._renderer.encoder.decode([part.tolist() for part in parts])
        if self._export == "prompt_completion":
            return {"id": trace.trace_id, "prompt": prompt, "completion": completion}
        turns = trace.messages if len(sequence.prompt) else ()
        asked = [{"role": turn.role, "content": turn.content, **turn.fields} for turn in turns]
        opening = "" if sequence.meta[OPEN_TOKENS] else layout.block.open
        reply = {"role": "assistant", "content": opening + completion}
        tools = {"tools": list(trace.tools)} if trace.tools else {}
        return {"id": trace.trace_id, "messages": [*asked, reply], **tools}
