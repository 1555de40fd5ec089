"""What a path of the config names: files on this machine, or a data set of the hub.

Knows which files rows can be read from, and nothing of what is in them.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

from leadspan.errors import DataError

LINES = (".jsonl", ".json", ".ndjson")
DELIMITED = {".csv": ",", ".tsv": "\t"}
COMPRESSED = (".gz", ".zst")
TABLES = {".parquet": "parquet", ".arrow": "arrow"}
READABLE = (*LINES, *DELIMITED, *TABLES)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_files(path: str) -> list[Path] | None:
    """The files behind a path, folder or glob; None where it names a hub dataset.

    A folder written by `Dataset.save_to_disk` counts as one.

    Raises:
        DataError: The path is there but holds nothing readable, or is not there and no hub id.
    """
    here = Path(path).expanduser()
    if any((here / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return [here]
    if here.is_dir():
        files = sorted(file for file in here.rglob("*") if file.is_file() and suffix_of(file))
        if not files:
            known = ", ".join(READABLE)
            raise DataError(f"{path}: must hold trace files; got a folder without any of {known}.")
        return files
    if here.is_file():
        return [here]
    if matches := sorted(glob.glob(str(here), recursive=True)):
        return [Path(match) for match in matches if Path(match).is_file()]
    if HUB_ID.fullmatch(path) and not suffix_of(here):
        return None
    raise DataError(f"{path}: no such file, folder or glob, and no hub id (owner/name).")


def suffix_of(file: Path) -> str:
    """The suffix that says how to read a file, compression aside; empty for an unknown one."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in READABLE else ""
