"""Run folders: what a run was, what it measured, whether it is whole.

A file is written to a temporary name and renamed, and JSON carries a checksum. `manifest.json` is
written last: where it is, the run is complete. Knows nothing about torch.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from leadspan.config import RunConfig
from leadspan.config_io import config_hash, content_hash, load_run_config, read_yaml
from leadspan.errors import ConfigError, DamagedError, FolderHeldError, RunError
from leadspan.identity import result_keys
from leadspan.integrity import describe_bytes, describe_file, iter_sealed_lines, seal, unseal
from leadspan.pins import kept_date, value_at
from leadspan.progress import LOGGER, warn

PACKAGES = ("leadspan", "torch", "transformers", "datasets", "numpy", "safetensors", "tokenizers")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, file or folder, that takes its place if all goes well.

    Raises:
        RunError: The disk refuses.
    """
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir():  # a kill never leaves half a folder under its final name
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
        LOGGER.debug("saved %s", path)
    except OSError as error:
        if old.is_dir() and not path.exists():
            os.replace(old, path)
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
    """Write `content` as indented JSON, a mapping with its checksum; not-a-number is refused."""
    content = seal(content) if isinstance(content, Mapping) else content
    write_text_atomic(
        path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path, sealed: bool = False) -> Any:
    """Read one JSON file, compared with its checksum where it carries one, or `sealed` asks for it.

    Raises:
        RunError: The file is missing, is not JSON, or is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not JSON ({error}).") from None
    return unseal(content, str(path), sealed)


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock is let go when the process ends, however it ends.

    Raises:
        FolderHeldError: Another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderHeldError(
            f"{path}: another process is writing here. Wait for it or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """True while some process, this one included, holds the folder."""
    if not (path / ".lock").is_file():
        return False
    try:
        with lock_folder(path):
            return False
    except FolderHeldError:
        return True


def cache_root() -> Path:
    """Where everything is kept that lies outside run folders; it may be deleted at any time.

    `$LEADSPAN_CACHE`, else `leadspan` in `$XDG_CACHE_HOME`, else `~/.cache/leadspan`.
    """
    if own := os.environ.get("LEADSPAN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leadspan"


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


DECILES = 10
"""Parts of a rollout whose means stand in metrics.jsonl and rollouts.jsonl."""


class RunFolder:
    """One run on disk: `run.yaml`, `environment.json`, `metrics.jsonl`, checkpoints, `manifest.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path: Path = path / "run.yaml"
        self.metrics_path: Path = path / "metrics.jsonl"
        self.rollouts_path: Path = path / "rollouts.jsonl"
        self.manifest_path: Path = path / "manifest.json"
        self.checkpoints_path: Path = path / "checkpoints"
        self.student_path: Path = path / "student"
        self.adapter_path: Path = path / "adapter"

    @property
    def is_complete(self) -> bool:
        """True once the manifest is there."""
        return self.manifest_path.is_file()

    @property
    def manifest(self) -> dict[str, Any]:
        """The complete run's summary."""
        manifest: dict[str, Any] = read_json(self.manifest_path)
        return manifest

    @property
    def environment(self) -> dict[str, Any]:
        """What the run was begun with: packages, machine, precision."""
        environment: dict[str, Any] = read_json(self.path / "environment.json")
        return environment

    def claim_config(self, config: RunConfig) -> None:
        """Write the resolved config to `run.yaml`, where only keys that change no result may differ.

        Raises:
            RunError: The folder belongs to another config (names the keys that differ), or is no run.
        """
        content = config.model_dump(mode="json")
        if self.config_path.is_file():
            keys = self._changed_result_keys(config)
            if keys == ["render.date"] and kept_date(self.config_path) is None:
                keys = []  # claimed, not yet begun
            if keys:
                raise RunError(
                    f"{self.path}: belongs to a run with another config; {', '.join(keys[:5])} differ. "
                    "Give another --output or delete the folder."
                )
        elif self.path.is_dir() and any(not e.name.startswith(".") for e in self.path.iterdir()):
            raise RunError(f"{self.path}: is not empty and holds no run. Give another --output.")
        write_text_atomic(self.config_path, yaml.safe_dump(content, sort_keys=False))

    def _changed_result_keys(self, config: RunConfig) -> list[str]:
        """Keys on which results depend and that differ from `run.yaml`.

        That file is read as a config, so that a key that is newer than the folder has its default there.
        """
        try:
            earlier = load_run_config(self.config_path)
        except ConfigError as error:
            raise DamagedError(str(error)) from None
        return sorted(differing_keys(result_keys(earlier), result_keys(config)))

    def read_config(self) -> dict[str, Any]:
        """The resolved config as `run.yaml` holds it.

        Raises:
            RunError: It cannot be read, or is not what the run was begun with.
        """
        try:
            content = read_yaml(self.config_path)
        except ConfigError as error:
            raise DamagedError(str(error)) from None
        environment_path = self.path / "environment.json"
        if environment_path.is_file():
            expected = read_json(environment_path).get("config_hash")
            if expected not in (None, content_hash(content)):
                raise DamagedError(
                    f"{self.config_path}: is not the config that the run was begun with: its hash "
                    "is not the one in environment.json."
                )
        return content

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
            f"{key} was {value_at(earlier, key)!r}, is {value_at(environment, key)!r}"
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

    def describe_metrics(self) -> dict[str, Any]:
        """Size and checksum of metrics.jsonl as it is now: what `restore_metrics` goes back to."""
        return describe_file(self.metrics_path)

    def check_metrics(self, described: Mapping[str, Any]) -> None:
        """Check that metrics.jsonl still begins with what `describe_metrics` saw; it may be gone.

        Raises:
            DamagedError: It does not.
        """
        size = described["size"]
        if not self.metrics_path.is_file():
            return
        with self.metrics_path.open("rb") as file:
            if describe_bytes(file.read(size)) != described:
                raise DamagedError(
                    f"{self.metrics_path}: its first {size} bytes do not match their checksum. Delete "
                    "this file to go on without these lines."
                )

    def restore_metrics(self, size: int) -> None:
        """Cut metrics.jsonl to its first `size` bytes, and say so where it is gone."""
        if self.metrics_path.is_file():
            os.truncate(self.metrics_path, size)
        elif size:
            warn(f"{self.metrics_path}: is not there; a new one begins with the next step.")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl; what a kill left half-written is passed over.

        Raises:
            DamagedError: A line is no JSON object.
        """
        if not self.metrics_path.is_file():
            return []
        content = self.metrics_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        return list(iter_sealed_lines(whole.splitlines(), self.metrics_path))


def differing_keys(left: Any, right: Any, prefix: str = "") -> set[str]:
    """Dotted keys at which two nested mappings differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        return {
            key
            for name in left.keys() | right.keys()
            for key in differing_keys(left.get(name), right.get(name), f"{prefix}{name}.")
        }
    return set() if left == right else {prefix.rstrip(".")}
