"""run.yaml as a file: read it, change keys, check it, say what is wrong.

Knows nothing about torch or tokenizers.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from leadspan.config import RunConfig
from leadspan.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


SHORT_KEYS = {
    "lsp": "truncation.lsp",
    "keep": "truncation.keep",
    "sections": "supervision.sections",
    "kd_ratio": "loss.kd_ratio",
}
"""Short names that `--set` and the grids of a sweep take for whole keys."""

_MAPPING, _NUMBER, _DATE = "a mapping of keys", "a number", "a date such as 2026-11-25"
_WHOLE, _TRUTH = "a whole number", "true or false"
WANTED = {
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": "a list",
    "string_type": "text",
    "string_unicode": "text",
    "string_too_short": "a text that is not empty",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
}
"""What a value must be, for each kind of error that pydantic can find in our models."""

Place = tuple[str | int, ...]


def _problems(errors: list[Any], model: type[BaseModel]) -> list[str]:
    """One line a key that is wrong, in order; where a key takes several kinds, all are named."""
    by_place: dict[Place, list[Any]] = {}
    for error in errors:
        by_place.setdefault(_place_of(error["loc"], model), []).append(error)
    inner = {place[:end] for place in by_place for end in range(1, len(place))}
    return [_say(place, found, model) for place, found in by_place.items() if place not in inner]


def _say(place: Place, errors: list[Any], model: type[BaseModel]) -> str:
    """The errors of one key as `<field> must be ...; got ...`, with a near-miss for unknown keys."""
    error, name = errors[0], ".".join(map(str, place))
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{name}: {message}." if name else f"{message}."
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
        return f"{name} is not a known key. {hint}"
    if error["type"] == "missing":
        return f"{name} is required."
    wanted = (WANTED[one["type"]].format(**one.get("ctx", {})) for one in errors)
    return f"{name} must be {' or '.join(dict.fromkeys(wanted))}; got {error['input']!r}.{_hint(error, name)}"


def _hint(error: Any, name: str) -> str:
    """What to write instead, where the slip is a common one."""
    value = error["input"]
    if name.endswith("lsp") and isinstance(value, int | float) and 1 < value <= 100:
        return f" Write {value / 100:g} for {value:g} %."
    if error["type"] == "tuple_type":
        return f" Write [{value}]." if isinstance(value, str) else " Write [...]."
    return ""


def _place_of(path: Place, model: type[BaseModel]) -> Place:
    """The keys of a place; where a key takes several kinds, pydantic names the kind behind it."""
    annotation: Any = model
    place: list[str | int] = []
    for part in path:
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        if get_origin(annotation) in (UnionType, Union) and len(kinds) > 1:
            annotation = next((m for m in _models_in(annotation) if m.__name__ == part), None)
            continue
        place.append(part)
        if isinstance(part, int):
            annotation = kinds[0] if kinds else None
            continue
        models = _models_in(annotation)
        annotation = _annotations(models[0]).get(part) if models else None
    return tuple(place)


def _annotations(model: type[BaseModel]) -> dict[str | int, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


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
        lines = [f"{where}: {problem}" for problem in _problems(error.errors(), model)]
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
        return set_key(content, whole_key(key.strip()), yaml.safe_load(value))
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(
            f"--set {assignment}: the value must be YAML; {what}. Close what is open, and quote the "
            "whole for the shell: --set 'supervision.sections=[cot, answer]'."
        ) from None
    except ConfigError as error:
        raise ConfigError(f"--set {assignment}: {error}") from None


def whole_key(key: str) -> str:
    """The whole name of a key that may be a short one."""
    return SHORT_KEYS.get(key, key)


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
    content = read_run_yaml(path)
    for assignment in overrides:
        content = apply_override(content, assignment)
    return validate(RunConfig, content, str(path))


def read_run_yaml(path: Path) -> dict[str, Any]:
    """The keys of a run.yaml.

    Raises:
        ConfigError: It cannot be read, or is a sweep.
    """
    content = read_yaml(path)
    if is_sweep(content):
        raise ConfigError(
            f"{path}: must be a run.yaml; got a sweep, with grids. Give it to `leadspan sweep`, or give "
            "the run.yaml that its base stands for."
        )
    return content


def is_sweep(content: Mapping[str, Any]) -> bool:
    """The file holds a sweep, not a run."""
    return "grids" in content


def config_hash(config: BaseModel) -> str:
    """Identity of a config: `content_hash` of what run.yaml holds of it."""
    return content_hash(config.model_dump(mode="json"))


def content_hash(content: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of sorted JSON; what JSON cannot hold counts as text."""
    content = json.loads(json.dumps(content, default=str))  # keys that are no text cannot be sorted
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
