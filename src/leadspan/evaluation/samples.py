"""The evaluation folder: every sample, whose they are, and the summary. Knows nothing about models.

`samples.jsonl` grows a line a finished answer; `identity.json` says what the lines belong to;
`evaluation.json` is written last, so where it is the evaluation is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadspan.errors import DataError, RunError
from leadspan.runs import differing_keys, read_json, write_json_atomic


class EvaluationFolder:
    """One evaluation on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.samples_path = self.path / "samples.jsonl"
        self.identity_path = self.path / "identity.json"
        self.summary_path = self.path / "evaluation.json"

    def claim(self, identity: dict[str, Any]) -> None:
        """Make the folder ready to be written: the identity, and no half-written last line.

        Raises:
            RunError: The samples here were drawn under another identity; names the keys that differ.
        """
        if self.identity_path.is_file():
            earlier = read_json(self.identity_path)
            keys = sorted(
                key
                for key in differing_keys(
                    _comparable(earlier, identity), _comparable(identity, earlier)
                )
            )
            if keys:
                raise RunError(
                    f"{self.path}: holds samples of another evaluation; {', '.join(keys[:5])} differ. "
                    "Give another --output or delete the folder."
                )
            benchmarks = {**earlier["benchmarks"], **identity["benchmarks"]}
            identity = {**identity, "benchmarks": benchmarks}
        elif self.samples_path.is_file():
            raise RunError(
                f"{self.path}: holds samples without identity.json. Give another --output."
            )
        write_json_atomic(self.identity_path, identity)
        self._drop_half_line()

    def _drop_half_line(self) -> None:
        """Cut off what a kill left of a last line, so that the next sample starts a new one."""
        if not self.samples_path.is_file():
            return
        with self.samples_path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)

    def read(self) -> list[dict[str, Any]]:
        """Every whole line; a last one that is half-written is passed over. Writes nothing."""
        if not self.samples_path.is_file():
            return []
        content = self.samples_path.read_bytes()
        return parse_samples(content[: content.rfind(b"\n") + 1], self.samples_path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one finished sample.

        Raises:
            RunError: The disk refuses.
        """
        line = json.dumps(row, ensure_ascii=False) + "\n"
        try:
            with self.samples_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)
        except OSError as error:
            raise RunError(
                f"{self.samples_path}: cannot be written ({error.strerror}). Make room; what is "
                "there is kept, and the same command goes on."
            ) from None

    def finish(self, identity: dict[str, Any], summary: dict[str, Any]) -> None:
        """Write the summary."""
        write_json_atomic(self.summary_path, {**summary, "identity": identity})


def _comparable(identity: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What must agree: benchmarks that both have, and not where the student lies on disk."""
    student = {key: value for key, value in identity["student"].items() if key != "path"}
    shared = identity["benchmarks"].keys() & other["benchmarks"].keys()
    benchmarks = {name: identity["benchmarks"][name] for name in shared}
    return {**identity, "student": student, "benchmarks": benchmarks}


def parse_samples(content: bytes, path: Path) -> list[dict[str, Any]]:
    """Lines of samples.jsonl.

    Raises:
        DataError: A line is not a sample; says which.
    """
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: must be JSON ({error}).") from None
        missing = {"benchmark", "problem_id", "sample", "text", "golds"} - (
            row.keys() if isinstance(row, dict) else set()
        )
        if missing:
            raise DataError(
                f"{path}:{number}: must be a sample; {', '.join(sorted(missing))} missing."
            )
        rows.append(row)
    return rows
