"""`lead_span`: raw traces in a `datasets` data set to the cut, masked, tokenised one.

Reading, rendering and cutting are those of `leadspan prepare`. Knows nothing about models or trainers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceABC
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, Features, IterableDataset, List, Value
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock

from leadspan.config import RenderConfig, RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError, DataError
from leadspan.identity import code_digest, digest, tokenizer_fingerprint
from leadspan.progress import say
from leadspan.records import SECTIONS, Example
from leadspan.runs import cache_root, replacing
from leadspan.study.run import annotator_of
from leadspan.traces.cut import Cut, CutCounter
from leadspan.traces.dataset import nothing_usable
from leadspan.traces.prepare import ROWS_HELD, check_one_cut, iter_examples, labels_of
from leadspan.traces.render import Renderer
from leadspan.traces.rows import iter_given_rows
from leadspan.traces.sources import LoadedTraces

NAME = "lead_span"
IN_MEMORY = "<dataset>"
INTEGERS = List(Value("int32"))
FEATURES = Features(
    {
        "input_ids": INTEGERS,
        "labels": INTEGERS,
        "num_full_tokens": Value("int32"),
        "spans": List(INTEGERS),
        "trace_id": Value("string"),
    }
)


def lead_span(
    dataset: Dataset | IterableDataset,
    tokenizer: Any,
    lsp: float = 0.5,
    sections: SequenceABC[str] = ("cot", "answer"),
    *,
    truncation: Mapping[str, Any] | None = None,
    render: RenderConfig | Mapping[str, Any] | None = None,
    traces: Mapping[str, Any] | None = None,
    num_proc: int = 1,
) -> Dataset | IterableDataset:
    """Cut the rows of a data set to their lead, as tokens and labels that a trainer takes.

    The result has the columns `input_ids`, `labels` (the token itself, or -100 where it is not scored; not
    shifted), `num_full_tokens` (before the cut), `spans` ([start, end] of prompt, CoT and answer in the
    cut sequence) and `trace_id`. Rows that cannot be used are left out and counted by reason, in one logged
    line and as JSON in `info.description`; of an `IterableDataset`, after each whole pass.

    Args:
        dataset: Rows of any known trace format. A `Dataset` is written to the cache once, a few rows in
            memory at a time; an `IterableDataset` is read as far as its result is read.
        tokenizer: The student's.
        lsp: Share of each sequence that is kept.
        sections: Which tokens are scored.
        truncation: Other keys of `TruncationConfig`, such as `{"keep": "tail"}`.
        render: A RenderConfig or its keys.
        traces: Keys of `TracesConfig` that say how rows are read and which are used, such as
            `{"columns": {"prompt": "question", "completion": "response"}}`.
        num_proc: Processes that render.

    Raises:
        LeadspanError: An argument is wrong, or no row of a `Dataset` is usable.

    Example:
        >>> train = lead_span(load_dataset("json", data_files="traces.jsonl", split="train"), tokenizer)
    """
    if not isinstance(dataset, Dataset | IterableDataset):
        raise ConfigError(
            f"{NAME}: dataset must be a datasets.Dataset or IterableDataset; got "
            f"{type(dataset).__name__}. Write Dataset.from_list(rows), or name a split."
        )
    content = {
        "student": {"path": IN_MEMORY},
        "traces": {
            "validation_fraction": 0,
            "num_processes": num_proc,
            **(traces or {}),
            "path": IN_MEMORY,
        },
        "render": render or {},
        "truncation": {"lsp": lsp, **(truncation or {})},
        "supervision": {"sections": list(sections)},
        "loss": {"kd_ratio": 0},
        "training": {"steps": 1},
    }
    config = validate(RunConfig, content, NAME)
    check_one_cut(config)
    if config.traces.validation_fraction:
        raise ConfigError(
            f"{NAME}: traces.validation_fraction must be 0; got {config.traces.validation_fraction}. "
            "Call train_test_split on the rows."
        )
    rows = _Rows(dataset.with_format(None), tokenizer, config)
    return rows.streamed() if isinstance(dataset, IterableDataset) else rows.stored()


class _Rows:
    """The prepared rows of a data set, made anew by each pass."""

    def __init__(self, dataset: Any, tokenizer: Any, config: RunConfig) -> None:
        self._dataset = dataset
        self._config = config
        self._renderer = Renderer(tokenizer, config.render)
        self._info: DatasetInfo | None = None

    def streamed(self) -> IterableDataset:
        """As a data set that reads as far as it is read."""
        streamed = IterableDataset.from_generator(self._tell_at_the_end, features=FEATURES)
        self._info = streamed.info
        return streamed

    def stored(self) -> Dataset:
        """As an Arrow file of the cache; of several processes, one writes it."""
        folder = cache_root() / "prepared" / self._key()
        file, description = folder / "rows.arrow", folder / "description.json"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not description.is_file():
                with replacing(folder) as temporary:
                    temporary.mkdir(parents=True)
                    counts = self._write(temporary / file.name)
                    (temporary / description.name).write_text(_described(counts), encoding="utf-8")
        told = description.read_text(encoding="utf-8")
        _tell(json.loads(told))
        return Dataset.from_file(str(file), info=DatasetInfo(description=told, features=FEATURES))

    def _key(self) -> str:
        """Of everything that makes the rows; `datasets` tells data sets apart by their fingerprint."""
        config = self._config.model_dump(mode="json", exclude={"traces": {"num_processes"}})
        layout, tokenizer = self._renderer.layout.identity, self._renderer.tokenizer
        made_of = [self._dataset._fingerprint, config, layout, tokenizer_fingerprint(tokenizer)]
        return digest(json.dumps([*made_of, code_digest()], sort_keys=True, default=str))

    def _write(self, file: Path) -> LoadedTraces:
        counts, written = LoadedTraces(), 0
        with ArrowWriter(path=str(file), features=FEATURES, writer_batch_size=ROWS_HELD) as arrow:
            for row in self._iter(counts):
                arrow.write(row)
                written += 1
            if not written:
                raise DataError(f"{NAME}: {nothing_usable(self._config.traces, counts)}")
            arrow.finalize()
        return counts

    def _iter(self, counts: LoadedTraces) -> Iterator[dict[str, Any]]:
        config = self._config
        counter = CutCounter(Cut(config.truncation, config.supervision))
        annotate = annotator_of(config.truncation)
        rows = iter_given_rows(self._dataset)
        for _, _, example in iter_examples(config, self._renderer, counts, counter, annotate, rows):
            yield _row(example)

    def _tell_at_the_end(self) -> Iterator[dict[str, Any]]:
        counts = LoadedTraces()
        yield from self._iter(counts)
        described = _described(counts)
        if self._info is not None:
            self._info.description = described
        _tell(json.loads(described))


def _row(example: Example) -> dict[str, Any]:
    sequence = example.sequence
    spans = [sequence.span(name) for name in SECTIONS]
    return {
        "input_ids": sequence.input_ids_T.tolist(),
        "labels": labels_of(example).tolist(),
        "num_full_tokens": sequence.num_full_tokens,
        "spans": [[span.start, span.end] for span in spans],
        "trace_id": sequence.trace_id,
    }


def _described(counts: LoadedTraces) -> str:
    return json.dumps({"refused": counts.refused, "first_at": counts.places})


def _tell(described: Mapping[str, Any]) -> None:
    """Log how many rows were refused, and why."""
    refused: dict[str, int] = described["refused"]
    if refused:
        reasons = ", ".join(
            f"{reason} {number} (first at {described['first_at'].get(reason) or '?'})"
            for reason, number in sorted(refused.items(), key=lambda item: -item[1])
        )
        say(f"{NAME}: {sum(refused.values())} rows are not used: {reasons}")
