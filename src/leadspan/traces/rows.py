"""Rows of any source as dictionaries, one at a time. Knows files and the hub, not what rows mean.

JSON lines and delimited tables are read here, so that a bad line is refused by its number and the
next one is read; Parquet, Arrow and the hub go through `datasets`, streaming.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from leadspan.errors import DataError
from leadspan.hub import say_unread
from leadspan.messages import SURROGATE
from leadspan.paths import DELIMITED, TABLES, local_files, suffix_of
from leadspan.traces.sections import SkippedRow

MOST_LINE_BYTES = 64 * 2**20
"""A longer line is refused without being held."""
UTF8_BOM = b"\xef\xbb\xbf"

Place = tuple[str, dict[str, Any] | SkippedRow]
"""Where a row stands (`file:line`), and the row or why it is none."""


def iter_rows(
    path: str, split: str = "train", config: str | None = None, revision: str | None = None
) -> Iterator[Place]:
    """Stream the rows of a file, folder, glob or hub dataset, files in the order of their names.

    Raises:
        DataError: Nothing is there, nothing is readable, or a compressed file is damaged.
    """
    files = local_files(path)
    if files is None:
        hub = partial(_streamed, path, config, split=split, revision=revision)
        yield from _dataset_rows(path, hub)
    for file in files or ():
        name = str(file)
        if file.is_dir():
            yield from _dataset_rows(name, partial(_saved, name, split))
        elif kind := TABLES.get(suffix_of(file)):
            table = partial(_streamed, kind, data_files=name, split="train")
            yield from _dataset_rows(name, table)
        else:
            yield from _text_rows(file)


def iter_given_rows(rows: Iterable[Any]) -> Iterator[Place]:
    """The rows of a list or of a `datasets.Dataset` in memory, each with its number."""
    for number, row in enumerate(rows):
        is_row = isinstance(row, Mapping)
        yield f"row[{number}]", dict(row) if is_row else SkippedRow("not_an_object")


def _text_rows(file: Path) -> Iterator[Place]:
    try:
        with closing(_open(file)) as stream:
            if suffix_of(file) in DELIMITED:
                yield from _delimited_rows(file, stream)
            else:
                yield from _json_rows(file, stream)
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"{file}: cannot be read to its end ({error}). Fetch it again.") from None


def _open(file: Path) -> Any:
    """A buffered binary stream, decompressed."""
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rb")
    if file.suffix.lower() == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(file), compression="zstd"))
    return file.open("rb")


def _json_rows(file: Path, stream: Any) -> Iterator[Place]:
    """JSON lines, or one JSON document that holds a list of rows or a single row."""
    first = stream.readline(MOST_LINE_BYTES + 1).removeprefix(UTF8_BOM)
    if suffix_of(file) == ".json" and not isinstance(_parse(first), dict):
        yield from _document_rows(file, first + stream.read())
        return
    number, line = 1, first
    while line:
        if len(line) > MOST_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MOST_LINE_BYTES)
            yield f"{file}:{number}", SkippedRow("line_too_long")
        elif line.strip():
            yield f"{file}:{number}", _parse(line)
        line = stream.readline(MOST_LINE_BYTES + 1)
        number += 1


def _delimited_rows(file: Path, stream: Any) -> Iterator[Place]:
    """Rows of a table with a header, every cell a text and an empty one null.

    `datasets` would read them too, but takes words such as `NA` for nulls and gives up the whole
    file at one uneven row.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(MOST_LINE_BYTES)
    reader = csv.reader(text, delimiter=DELIMITED[suffix_of(file)], strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{file}: must open with a line of column names; {error}.") from None
    if len(set(names)) < len(names):
        raise DataError(f"{file}: column names must differ; got {', '.join(names)}.")
    while True:
        place = f"{file}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield place, SkippedRow("broken_table_row")
            continue
        if not cells:
            continue
        if len(cells) != len(names):
            yield place, SkippedRow("broken_table_row")
        elif SURROGATE.search("".join(cells)):  # bytes that were no UTF-8
            yield place, SkippedRow("invalid_utf8")
        else:
            yield place, {n: cell or None for n, cell in zip(names, cells, strict=True)}


def _document_rows(file: Path, content: bytes) -> Iterator[Place]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: must be JSON; {error}.") from None
    rows = document if isinstance(document, list) else [document]
    for number, row in enumerate(rows):
        yield f"{file}[{number}]", row if isinstance(row, dict) else SkippedRow("not_an_object")


def _parse(line: bytes) -> dict[str, Any] | SkippedRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return SkippedRow("invalid_utf8")
    except (ValueError, RecursionError):
        return SkippedRow("broken_json")
    return row if isinstance(row, dict) else SkippedRow("not_an_object")


def _streamed(*source: str | None, **options: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(*source, **options, streaming=True)


def _saved(folder: str, split: str) -> Any:
    from datasets import load_from_disk

    saved = load_from_disk(folder)
    if not isinstance(saved, dict):
        return saved
    if split not in saved:
        raise DataError(f"{folder}: traces.split must be one of {list(saved)}; got {split!r}.")
    return saved[split]


def _dataset_rows(name: str, load: Callable[[], Any]) -> Iterator[Place]:
    """Rows of a dataset; whatever `datasets` or the hub raises becomes one line."""
    try:
        for number, row in enumerate(load()):
            yield f"{name}[{number}]", dict(row)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name}: cannot be read as a data set ({say_unread(error)}).") from None
