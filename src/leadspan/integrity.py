"""Checksums: of files, of folders, and of JSON that carries its own.

A checksum finds damage, not malice: whoever can change a file can change its checksum too. Knows
nothing about what the content means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from leadspan.errors import DamagedError

CHECKSUM = "checksum"
"""The key under which a JSON object carries the checksum of its other keys."""
CHECKSUMS_FILE = "checksums.json"


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file; most processors of today have instructions for it.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def describe_bytes(content: bytes) -> dict[str, Any]:
    """`describe_file` of a file with this content."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def check_file(path: Path, described: Mapping[str, Any]) -> None:
    """Check that a file is still what `describe_file` saw.

    Raises:
        DamagedError: It is missing, cannot be read, or has another content.
    """
    try:
        size = path.stat().st_size
        if size != described["size"]:
            raise DamagedError(f"{path}: must have {described['size']} bytes; got {size}.")
        found = describe_file(path)["sha256"]
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}).") from None
    if found != described["sha256"]:
        raise DamagedError(f"{path}: the content does not match its checksum.")


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with a checksum of it as its last key, instead of any that it carries."""
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    return {**rest, CHECKSUM: _checksum_of(rest)}


def unseal(content: Any, where: str, required: bool = False) -> Any:
    """`content` without its checksum, once that was compared.

    Args:
        content: What JSON gave. Anything but an object with a checksum comes back as it is.
        where: Named in the error.
        required: Refuse what carries no checksum.

    Raises:
        DamagedError: The content is not what was sealed.
    """
    if not isinstance(content, dict) or CHECKSUM not in content:
        if required:
            raise DamagedError(f"{where}: must carry a {CHECKSUM}; got none.")
        return content
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    if content[CHECKSUM] != _checksum_of(rest):
        raise DamagedError(
            f"{where}: the content does not match its {CHECKSUM}. If you changed it yourself, "
            f"delete the key {CHECKSUM}."
        )
    return rest


def _checksum_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def iter_sealed_lines(lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON Lines, each compared with its checksum where it carries one.

    Raises:
        DamagedError: A line is no JSON object or was changed; says which.
    """
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{where}: must be JSON ({error}).") from None
        if not isinstance(record, dict):
            raise DamagedError(f"{where}: must be a JSON object; got {type(record).__name__}.")
        yield unseal(record, where)


def check_folder(
    folder: Path, files: Mapping[str, Mapping[str, Any]], names: Iterable[str] | None = None
) -> None:
    """Check that files of a folder are still what `describe_file` saw; `names` picks some.

    Raises:
        DamagedError: One is not; names the first.
    """
    for name in files if names is None else names:
        if Path(name).name != name:
            raise DamagedError(f"{folder}: must list files by name alone; got {name!r}.")
        check_file(folder / name, files[name])


def write_checksums(folder: Path) -> None:
    """Write checksums.json for the files that lie in `folder`; files added later are not checked."""
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(seal(files), indent=2) + "\n", encoding="utf-8")


def check_checksums(folder: Path, skipped: str | None = None) -> None:
    """Check the files of `folder` where it has a checksums.json.

    Args:
        folder: Any folder; one without the file is taken as it is.
        skipped: A suffix of files that are not read, such as `.safetensors`.

    Raises:
        DamagedError: A file is missing or is not what was written; says how to go on.
    """
    path = folder / CHECKSUMS_FILE
    if not path.is_file():
        return
    try:
        (files,) = iter_sealed_lines([path.read_bytes()], path)
        names = [name for name in files if not (skipped and name.endswith(skipped))]
        check_folder(folder, files, names)
    except (OSError, DamagedError, TypeError, KeyError) as error:
        raise DamagedError(
            f"{error} Put the file back; if you changed the folder yourself, delete {path}."
        ) from None
