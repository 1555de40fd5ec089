"""Run folders: what a run was, what it measured, whether it is whole.

A file is written to a temporary name and renamed. `manifest.json` is written last: where it is, the
run is complete. Knows nothing about torch.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from leadspan.config import RunConfig
from leadspan.config_file import config_hash, load_run_config
from leadspan.errors import RunError
from leadspan.identity import result_keys

PACKAGES = ("leadspan", "torch", "transformers", "datasets", "numpy", "safetensors", "tokenizers")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, file or folder, that takes its place if all goes well.

    Raises:
        RunError: The disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}). Make room or give another folder."
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json_atomic(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; not-a-number is refused."""
    write_text_atomic(
        path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        RunError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}).") from None


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go when the process ends, however it ends.

    Raises:
        RunError: Another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{path}: another process is writing here. Wait for it or end it."
            ) from None
        yield


def describe_environment() -> dict[str, Any]:
    """Package versions, Python, machine and, inside a checkout, the git commit."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "packages": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


class RunFolder:
    """One run on disk: `run.yaml`, `environment.json`, `metrics.jsonl`, checkpoints, `manifest.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.manifest_path = path / "manifest.json"
        self.checkpoints_path = path / "checkpoints"
        self.student_path = path / "student"

    @property
    def is_complete(self) -> bool:
        """True once the manifest is there."""
        return self.manifest_path.is_file()

    @property
    def manifest(self) -> dict[str, Any]:
        """The complete run's summary."""
        manifest: dict[str, Any] = read_json(self.manifest_path)
        return manifest

    def claim_config(self, config: RunConfig) -> None:
        """Write the resolved config to `run.yaml`, where only keys that change no result may differ.

        Raises:
            RunError: The folder belongs to another config (names the keys that differ), or is no run.
        """
        config_path = self.path / "run.yaml"
        content = config.model_dump(mode="json")
        if config_path.is_file():
            # Read as a config, so that a key that is newer than the folder has its default there.
            earlier = result_keys(load_run_config(config_path))
            keys = sorted(differing_keys(earlier, result_keys(config)))
            if keys:
                raise RunError(
                    f"{self.path}: belongs to a run with another config; {', '.join(keys[:5])} differ. "
                    "Give another --output or delete the folder."
                )
        elif self.path.is_dir() and any(entry.name != ".lock" for entry in self.path.iterdir()):
            raise RunError(f"{self.path}: is not empty and holds no run. Give another --output.")
        write_text_atomic(config_path, yaml.safe_dump(content, sort_keys=False))

    def claim(self, config: RunConfig, environment: dict[str, Any]) -> list[str]:
        """Claim the folder for a config, and write or compare the environment.

        Returns:
            A line for each thing that differs from the environment the run was begun in.

        Raises:
            RunError: See `claim_config`.
        """
        self.claim_config(config)
        environment_path = self.path / "environment.json"
        environment = {"config_hash": config_hash(config), **environment}
        if not environment_path.is_file():
            write_json_atomic(environment_path, environment)
            return []
        earlier = read_json(environment_path)
        return [
            f"{key} was {_at(earlier, key)!r}, is {_at(environment, key)!r}"
            for key in sorted(differing_keys(earlier, environment))
            if key != "git_commit"
        ]

    def claim_inputs(self, inputs: dict[str, str | None]) -> None:
        """Write what the run reads to `inputs.json`, or check that it is the same still.

        Args:
            inputs: Name -> fingerprint; None where it is not known now, which is not compared.

        Raises:
            RunError: The folder belongs to a run on something else; names what changed.
        """
        path = self.path / "inputs.json"
        if not path.is_file():
            write_json_atomic(path, inputs)
            return
        earlier = read_json(path)
        changed = [
            name
            for name, fingerprint in inputs.items()
            if None not in (fingerprint, earlier.get(name)) and fingerprint != earlier[name]
        ]
        if changed:
            raise RunError(
                f"{self.path}: belongs to a run on other content; {' and '.join(changed)} changed since "
                "it was begun. Give another --output or delete the folder."
            )

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        line = json.dumps(record, allow_nan=False)
        try:
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunError(f"{self.metrics_path}: cannot be written ({error.strerror}).") from None

    def cut_metrics_after(self, step: int) -> None:
        """Drop the lines of steps after `step`, and a half-written last line."""
        if self.metrics_path.is_file():
            kept = [record for record in self.read_metrics() if record["step"] <= step]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            write_text_atomic(self.metrics_path, text)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl; what a kill left half-written is passed over."""
        if not self.metrics_path.is_file():
            return []
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def differing_keys(left: Any, right: Any, prefix: str = "") -> set[str]:
    """Dotted keys at which two nested mappings differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        return {
            key
            for name in left.keys() | right.keys()
            for key in differing_keys(left.get(name), right.get(name), f"{prefix}{name}.")
        }
    return set() if left == right else {prefix.rstrip(".")}


def _at(content: Any, key: str) -> Any:
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content
