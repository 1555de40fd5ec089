"""The cut, masked, tokenised set on disk, for other trainers. Knows Arrow folders, no models.

Streams: one buffered batch is held, whatever the size of the source; what `datasets` then maps while it
saves, the system may drop.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
from leadspan.traces.rows import Place
from leadspan.traces.sources import LoadedTraces
from leadspan.traces.trainer_files import Trainer, write_for

Export = Literal["messages", "prompt_completion"]
SPLITS = ("train", "validation")
IGNORED = -100
"""Label of a token that is not scored, as Hugging Face trainers have it."""
MANIFEST = "leadspan.json"
ROWS_HELD = 500


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
    trainer: Trainer | None = None,
) -> Prepared:
    """Write train and validation split as a `DatasetDict.load_from_disk` folder, and a manifest last.

    Args:
        config: traces, render, truncation and supervision are used.
        tokenizer: The student's.
        output: A new folder, or one that an earlier call wrote.
        export: Also write the cut text as JSON lines of this kind.
        annotate: Adds each trace's own cut point, where the cut asks for one.
        trainer: Write the columns that this trainer loads, and the lines of its config.

    Raises:
        ConfigError: The config has a schedule, which one set cannot hold.
        DataError: No row is usable.
        RunError: `output` holds something else.
    """
    from datasets import Dataset, DatasetDict, NamedSplit

    check_annotated(config.truncation, annotate)
    check_one_cut(config)
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise RunError(f"{output}: must be empty or an earlier set; got other files. Name another.")
    renderer = Renderer(tokenizer, config.render)
    counts = LoadedTraces()
    counter = CutCounter(Cut(config.truncation, config.supervision))
    with replacing(output) as folder:
        streamed = folder / "streamed"
        streamed.mkdir(parents=True)
        examples = iter_examples(config, renderer, counts, counter, annotate)
        rows = _write_rows(examples, streamed, renderer, export, trainer is not None)
        if not sum(rows.values()):
            raise DataError(nothing_usable(config.traces, counts))
        kept = [split for split in SPLITS if rows[split]]
        splits = DatasetDict(
            {s: Dataset.from_file(str(streamed / f"{s}.arrow"), split=NamedSplit(s)) for s in kept}
        )
        longest = counter.report().longest_tokens
        if trainer:
            write_for(trainer, splits, folder, output.absolute(), longest)
        else:
            splits.save_to_disk(folder)
        for split in kept if export else ():
            (streamed / f"{split}.jsonl").rename(folder / f"{export}-{split}.jsonl")
        shutil.rmtree(streamed)
        prepared = Prepared(output, rows, counter.report(), counts)
        write_json_atomic(folder / MANIFEST, prepared.as_dict())
    return prepared


def check_one_cut(config: RunConfig) -> None:
    """Check that the cut is the same at every moment of training.

    Raises:
        ConfigError: It has a schedule, which one set cannot hold.
    """
    if config.truncation.lsp_end is not None:
        raise ConfigError(
            "truncation.lsp_end must be null to prepare a set; a schedule is many cuts."
        )


def iter_examples(
    config: RunConfig,
    renderer: Renderer,
    counts: LoadedTraces,
    counter: CutCounter,
    annotate: Annotate | None = None,
    rows: Iterable[Place] | None = None,
) -> Iterator[tuple[str, Trace, Example]]:
    """The split, the trace and the cut of each row that has something to score.

    Args:
        config: traces and truncation are used.
        renderer: Turns traces into tokens.
        counts: Receives what was refused, and notes.
        counter: Cuts, and counts what the cut keeps.
        annotate: Adds to each trace's `meta`.
        rows: Read instead of the source's own.
    """
    traces = config.traces
    pairs = iter_sequences(traces, renderer, counts, config.truncation, annotate, rows)
    for trace, sequence in pairs:
        example = counter.add(sequence)
        if example.num_scored_tokens:
            held_out = is_validation(trace.trace_id, traces.validation_fraction, traces.seed)
            yield "validation" if held_out else "train", trace, example
        else:
            counts.refused["nothing_to_score"] += 1
            counts.places.setdefault("nothing_to_score", trace.trace_id)


def _write_rows(
    examples: Iterable[tuple[str, Trace, Example]],
    folder: Path,
    renderer: Renderer,
    export: Export | None,
    plain: bool,
) -> dict[str, int]:
    """Write each split as one Arrow file, and as text where asked; returns their numbers of rows.

    Plain rows hold what a trainer's collator pads, and no other column.
    """
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    integer, truth = Value("int32"), Value("bool")
    told = {
        "id": Value("string"),
        **dict.fromkeys(("prompt_end", "cot_end", "num_full_tokens"), integer),
        **dict.fromkeys(("was_cut", "closed"), truth),
    }
    more = {"attention_mask": List(integer)} if plain else told
    features = Features({"input_ids": List(integer), "labels": List(integer), **more})
    rows = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        arrows = {
            split: stack.enter_context(
                ArrowWriter(
                    path=str(folder / f"{split}.arrow"),
                    features=features,
                    writer_batch_size=ROWS_HELD,
                )
            )
            for split in SPLITS
        }
        texts = {
            split: stack.enter_context((folder / f"{split}.jsonl").open("w", encoding="utf-8"))
            for split in SPLITS
        }
        for split, trace, example in examples:
            rows[split] += 1
            row = _arrow_row(example)
            arrows[split].write({column: row[column] for column in features})
            if export:
                text = _text_row(trace, example, renderer, export)
                texts[split].write(json.dumps(text, ensure_ascii=False) + "\n")
        for arrow in arrows.values():
            arrow.finalize()
    return rows


def labels_of(example: Example) -> NDArray[np.int32]:
    """The label of each token, not shifted: its own id, or IGNORED where it is not scored."""
    return np.where(example.supervised_T, example.sequence.input_ids_T, IGNORED)


def _arrow_row(example: Example) -> dict[str, Any]:
    sequence = example.sequence
    return {
        "id": sequence.trace_id,
        "input_ids": sequence.input_ids_T,
        "labels": labels_of(example),
        "attention_mask": np.ones(len(sequence), dtype=np.int32),
        "prompt_end": sequence.prompt.end,
        "cot_end": sequence.cot.end,
        "num_full_tokens": sequence.num_full_tokens,
        "was_cut": sequence.was_cut,
        "closed": sequence.closed,
    }


def _text_row(trace: Trace, example: Example, renderer: Renderer, export: Export) -> dict[str, Any]:
    """What is left of the trace, decoded; the end token is left to the other trainer."""
    sequence, layout = example.sequence, renderer.layout
    ids, ending_ids = sequence.input_ids_T.tolist(), list(layout.ending_ids)
    end = len(ids)
    if len(sequence.answer) and ids[-len(ending_ids) :] == ending_ids:
        end -= len(ending_ids)
    parts = [ids[: sequence.prompt.end], ids[sequence.prompt.end : end]]
    prompt, completion = renderer.encoder.decode(parts)
    if export == "prompt_completion":
        return {"id": trace.trace_id, "prompt": prompt, "completion": completion}
    asked = trace.messages if len(sequence.prompt) else ()
    messages = [{"role": m.role, "content": m.content, **m.fields} for m in asked]
    opening = "" if sequence.meta[OPEN_TOKENS] else layout.block.open
    messages.append({"role": "assistant", "content": opening + completion})
    tools = {"tools": list(trace.tools)} if trace.tools else {}
    return {"id": trace.trace_id, "messages": messages, **tools}
