"""What the first start of a run settles for every later one: its day, and commits of the hub.

The day is what templates read; a commit is filled in wherever a model or a data set of the hub has no
revision. Both stay in the run's own run.yaml, or beside a capture. Knows nothing about how models and
rows are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from leadspan.config import RunConfig
from leadspan.errors import DataError
from leadspan.paths import local_files
from leadspan.registry import home_of

CAPTURE_KEPT_FILE = "date.json"
"""In a teacher cache: the day that its prompts were written for, and the commits that it was made of."""
_PART = {"path": True, "name": True, "revision": True}
_PARTS = {"__all__": _PART}
KEPT: Any = {
    "render": {"date": True},
    "student": _PART,
    "teacher": _PART,
    "teachers": _PARTS,
    "traces": {**_PART, "decontaminate": _PARTS},
    "evaluation": {"benchmarks": _PARTS},
}
"""What of a config a capture keeps, as `include` of pydantic."""
KINDS = {
    "student": "model",
    "teacher": "model",
    "teachers": "model",
    "traces": "dataset",
    "traces.decontaminate": "dataset",
    "evaluation.benchmarks": "dataset",
}
"""Where a config names something of the hub, and what."""
REGISTERED = ("traces.decontaminate", "evaluation.benchmarks")
"""Where it may be a registered name too."""
ASKING_SECONDS = 10.0

Commits = dict[str, str | None]
"""Hub ids, `model owner/name` or `dataset owner/name`, and their commit; None where none can be known."""

Place = tuple[str, str, str, int]
"""Where a part of a config stands, its path, its name, and which of those alike it is."""


def settled(config: RunConfig, folder: Path) -> RunConfig:
    """The config `with_date` and `with_revisions`."""
    return with_revisions(with_date(config, folder), folder)


def with_date(config: RunConfig, folder: Path) -> RunConfig:
    """The config with the day that templates read: its own, the run's, its teacher cache's, today's."""
    kept = [kept_date(path) for path in _kept_files(config, folder)]
    return config.model_copy(update={"render": config.render.dated(*kept)})


def with_revisions(config: RunConfig, folder: Path, commits: Commits | None = None) -> RunConfig:
    """The config with a commit wherever it names a hub id and no revision.

    The one that the run or its teacher cache was begun with, else the newest; a run that was begun
    without one goes on without. What lies on this machine is left alone.

    Args:
        config: The run.
        folder: Of the run, or of the capture.
        commits: What was found for other runs, which goes before the newest; receives what is found.
    """
    commits = {} if commits is None else commits
    kept: dict[Place, str | None] = {}
    for path in _kept_files(config, folder):
        for place, part in _iter_parts(_read(path)):
            revision = part.get("revision")
            kept.setdefault(place, None if revision is None else str(revision))
    content = config.model_dump(mode="json")
    for place, part in _iter_parts(content):
        hub_id = _unpinned(place[0], part)
        if hub_id is None:
            continue
        if place in kept:
            part["revision"] = kept[place]
        elif not _is_cached_teacher(part):
            if hub_id not in commits:
                commits[hub_id] = newest_commit(hub_id)
            part["revision"] = commits[hub_id]
    return RunConfig.model_validate(content)


def newest_commit(hub_id: str) -> str | None:
    """The newest commit that can be known: by the hub's answer, else of the copy in the hub's cache.

    None where neither knows, or where this is no hub id, such as a path of which nothing is there.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name

    kind, _, name = hub_id.partition(" ")
    try:
        commit: str | None = HfApi().repo_info(name, repo_type=kind, timeout=ASKING_SECONDS).sha
        return commit
    except HFValidationError:
        return None
    except Exception:  # offline or no such id; its kind differs with the hub library's HTTP client
        folder = repo_folder_name(repo_id=name, repo_type=kind)
    try:
        return (Path(constants.HF_HUB_CACHE) / folder / "refs" / "main").read_text().strip()
    except OSError:
        return None


def kept_date(path: Path) -> str | None:
    """`render.date` of a YAML or JSON file; None where the file or the key is not there."""
    date = value_at(_read(path), "render.date")
    return None if date is None else str(date)


def _kept_files(config: RunConfig, folder: Path) -> list[Path]:
    """Where an earlier start has written what it settled."""
    files = [folder / "run.yaml", folder / CAPTURE_KEPT_FILE]
    if config.teacher is not None and config.teacher.cache is not None:
        files.append(Path(config.teacher.cache) / CAPTURE_KEPT_FILE)
    return files


def _read(path: Path) -> Any:
    """The content of a YAML or JSON file, None where there is none to be had."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def value_at(content: Any, key: str) -> Any:
    """What stands at a dotted key of nested mappings, None where nothing does."""
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _iter_parts(content: Any) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The parts of a config's content that may name something of the hub, each with its place."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for where in KINDS:
        found = value_at(content, where)
        for part in found if isinstance(found, list) else [found]:
            if isinstance(part, dict):
                alike = where, str(part.get("path")), str(part.get("name"))
                seen[alike] += 1
                yield (*alike, seen[alike]), part


def _unpinned(where: str, part: dict[str, Any]) -> str | None:
    """The hub id, its kind before it, that a part names without a revision."""
    kind = KINDS[where]
    path, revision = part["path"], part["revision"]
    if where in REGISTERED:
        path, revision = home_of(path, revision)
    if revision is not None or _is_local(kind, path):
        return None
    return f"{kind} {path}"


def _is_local(kind: str, path: str) -> bool:
    """True for what is read from this machine, or is no hub id either."""
    if kind == "model":
        return Path(path).exists()
    try:
        return local_files(path) is not None
    except DataError:
        return True


def _is_cached_teacher(part: dict[str, Any]) -> bool:
    """A cache that is there was made of one commit, whatever the newest is."""
    return part.get("cache") is not None and Path(part["cache"]).is_dir()
