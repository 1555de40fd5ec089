"""The evaluation folder: every sample, whose they are, and the summary. Knows nothing about models.

`samples.jsonl` grows a line a finished answer; `identity.json` says what the lines belong to;
`evaluation.json` is written last, so where it is the evaluation is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leadspan.errors import DamagedError, DataError, RunError
from leadspan.integrity import check_folder, describe_file, iter_sealed_lines, seal
from leadspan.runs import differing_keys, read_json, write_json_atomic


class EvaluationFolder:
    """One evaluation on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.samples_path = self.path / "samples.jsonl"
        self.identity_path = self.path / "identity.json"
        self.summary_path = self.path / "evaluation.json"

    @property
    def date(self) -> str | None:
        """The day that the prompts of the samples here were written for, where they say one."""
        if not self.identity_path.is_file():
            return None
        date: str | None = read_json(self.identity_path).get("date")
        return date

    def claim(self, identity: dict[str, Any]) -> None:
        """Make the folder ready to be written: the identity, and no half-written last line.

        Raises:
            RunError: The samples here were drawn under another identity; names the keys that differ.
        """
        if self.identity_path.is_file():
            earlier = read_json(self.identity_path)
            ours, theirs = _comparable(earlier, identity), _comparable(identity, earlier)
            keys = sorted(differing_keys(ours, theirs))
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
        """Every whole line; see `iter_samples`. Writes nothing.

        Raises:
            DataError: A line is not a sample.
        """
        rows = list(iter_samples(self.samples_path))
        for number, row in enumerate(rows, 1):
            missing = {"benchmark", "problem_id", "sample", "text", "golds"} - row.keys()
            if missing:
                raise DataError(
                    f"{self.samples_path}:{number}: must be a sample; "
                    f"{', '.join(sorted(missing))} missing."
                )
        return rows

    def read_summary(self) -> dict[str, Any]:
        """The finished evaluation, once samples.jsonl was found to be what it was made from.

        Raises:
            DamagedError: One of the two is not what was written.
        """
        summary: dict[str, Any] = read_json(self.summary_path)
        try:
            check_folder(self.path, summary.get("files", {}))
        except DamagedError as error:
            raise DamagedError(f"{error} Run the evaluation again.") from None
        return summary

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one finished sample.

        Raises:
            RunError: The disk refuses.
        """
        try:
            with self.samples_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(sample_line(row))
        except OSError as error:
            raise RunError(
                f"{self.samples_path}: cannot be written ({error.strerror}). Make room; what is "
                "there is kept, and the same command goes on."
            ) from None

    def finish(self, identity: dict[str, Any], summary: dict[str, Any]) -> None:
        """Write the summary, and which samples it was made from."""
        files = {self.samples_path.name: describe_file(self.samples_path)}
        write_json_atomic(self.summary_path, {**summary, "identity": identity, "files": files})


def sample_line(row: Mapping[str, Any]) -> str:
    """A sample as it stands in samples.jsonl, with its checksum."""
    return json.dumps(seal(row), ensure_ascii=False) + "\n"


def _comparable(identity: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What must agree: benchmarks that both have, and not where the student lies on disk."""
    student = {key: value for key, value in identity["student"].items() if key != "path"}
    shared = identity["benchmarks"].keys() & other["benchmarks"].keys()
    benchmarks = {name: identity["benchmarks"][name] for name in shared}
    return {**identity, "student": student, "benchmarks": benchmarks}


def iter_samples(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a samples.jsonl; a missing file is empty, a half-written last line passed over.

    Raises:
        DamagedError: A line is not what was written; says which.
    """
    if path.is_file():
        with path.open("rb") as file:
            yield from iter_sealed_lines((line for line in file if line.endswith(b"\n")), path)
