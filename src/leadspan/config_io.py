"""run.yaml as a file: read it, change keys, check it, say what is wrong.

Knows nothing about torch or tokenizers.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from leadspan.config import RunConfig
from leadspan.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def _say(error: Any, model: type[BaseModel]) -> str:
    """One pydantic error as `<field> must ...; got ...`, with a near-miss for unknown keys."""
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
        return f"{place} is not a known key. {hint}"
    if error["type"] == "missing":
        return f"{place} is required."
    message = error["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be ", "must be ").replace("Input ", "")
    if error["type"] == "value_error":
        return f"{place}: {message}."
    hint = ""
    if place.endswith("lsp") and isinstance(error["input"], int | float) and error["input"] > 1:
        hint = f" Write {min(error['input'] / 100, 1.0):g} for {error['input']:g} %."
    return f"{place} {message}; got {error['input']!r}.{hint}"


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for name in path:
        if name in model.model_fields:
            for candidate in _models_in(model.model_fields[name].annotation):
                model = candidate
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def validate(model: type[Model], content: Any, where: str) -> Model:
    """Check `content` against `model`.

    Raises:
        ConfigError: With every problem, a line each.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"{where}: {_say(problem, model)}" for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML; {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys; got {type(content).__name__}.")
    return content


def apply_override(content: dict[str, Any], assignment: str) -> dict[str, Any]:
    """Return `content` with one `a.b=value` applied; the value is read as YAML.

    Raises:
        ConfigError: It is no assignment, its value is no YAML, or its key names no place in `content`.
    """
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: write key=value, for example truncation.lsp=0.25.")
    try:
        return set_key(content, key.strip(), yaml.safe_load(value))
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(
            f"--set {assignment}: the value must be YAML; {what}. Close what is open, and quote the "
            "whole for the shell: --set 'supervision.sections=[cot, answer]'."
        ) from None
    except ConfigError as error:
        raise ConfigError(f"--set {assignment}: {error}") from None


def set_key(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of the nested mapping with the dotted `key` set.

    A number in the key is the place of an entry in a list, counted from 0:
    `evaluation.benchmarks.0.limit`.

    Raises:
        ConfigError: A list has no such entry, or a name in the key is empty.
    """
    changed: dict[str, Any] = _replaced(content, key.split("."), value, "")
    return changed


def _replaced(content: Any, names: list[str], value: Any, place: str) -> Any:
    if not names:
        return value
    name, *rest = names
    if not name:
        raise ConfigError("a key must be names with single dots between them.")
    if isinstance(content, list | tuple):
        if not name.isdecimal() or int(name) >= len(content):
            raise ConfigError(
                f"{place} is a list of {len(content)} entries, counted from 0; got {name!r}. Name one "
                f"of them, or set the whole list: {place}=[...]."
            )
        entries = list(content)
        entries[int(name)] = _replaced(entries[int(name)], rest, value, f"{place}.{name}")
        return entries
    inner = content if isinstance(content, dict) else {}
    inside = f"{place}.{name}".lstrip(".")
    return {**inner, name: _replaced(inner.get(name), rest, value, inside)}


def load_run_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read run.yaml, apply `--set` overrides, check everything."""
    content = read_yaml(path)
    for assignment in overrides:
        content = apply_override(content, assignment)
    return validate(RunConfig, content, str(path))


def config_hash(config: BaseModel) -> str:
    """Identity of a config: `content_hash` of what run.yaml holds of it."""
    return content_hash(config.model_dump(mode="json"))


def content_hash(content: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of sorted JSON; what JSON cannot hold counts as text."""
    content = json.loads(json.dumps(content, default=str))  # keys that are no text cannot be sorted
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
