"""What can stand in run.yaml, generated from the models: a JSON schema, and every key with its default.

Knows nothing about files.
"""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from leadspan.config import RoutedTeacherConfig, RunConfig, SweepConfig, TeacherConfig

SCHEMA_FILE = "run.schema.json"
"""Name of the schema beside a run.yaml that refers to it."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
WIDTH = 100
INDENT = "  "


def build_run_schema() -> dict[str, Any]:
    """The JSON schema of run.yaml, for editors; what joins several keys is checked by `doctor`."""
    schema = RunConfig.model_json_schema(by_alias=True)
    for model in (TeacherConfig, RoutedTeacherConfig):
        del schema["$defs"][model.__name__]["required"]  # `from: student` stands for the path
    return {"$schema": DIALECT, **schema}


def build_sweep_schema() -> dict[str, Any]:
    """The JSON schema of sweep.yaml; its base is a run.yaml of which the grids may give any key."""
    schema = SweepConfig.model_json_schema(by_alias=True)
    run = build_run_schema()
    definitions = {**run.pop("$defs"), **schema.pop("$defs", {})}
    base = {key: run[key] for key in ("type", "properties", "additionalProperties")}
    schema["properties"]["base"] |= base
    return {"$schema": DIALECT, **schema, "$defs": definitions}


def write_full_yaml(content: Mapping[str, Any]) -> str:
    """A run.yaml with every key, its default and its help, and the values of `content` in their places.

    What is null by default and has keys of its own stands below as comments.
    """
    return "\n".join(_lines(RunConfig, content, "")) + "\n"


def _lines(model: type[BaseModel], content: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not indent:
            yield ""
        for line in textwrap.wrap(" ".join((field.description or "").split()), WIDTH):
            yield f"{indent}# {line}"
        value = content.get(key, _default(field))
        inner = _model_in(field.annotation)
        if inner is not None and isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _lines(inner, value, indent + INDENT)
            continue
        yield f"{indent}{key}: {_inline(value)}"
        if inner is not None:
            is_list = get_origin(field.annotation) is tuple
            yield f"{indent}# {key}:"
            yield from [f"{indent}# {INDENT}-"] if is_list else []
            for line in _lines(inner, {}, INDENT * (2 if is_list else 1)):
                yield f"{indent}# {line}"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _default(field: FieldInfo) -> Any:
    """As run.yaml would hold it; three dots where there is none."""
    if field.is_required():
        return "..."
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json")
    return list(default) if isinstance(default, tuple) else default


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The part behind an annotation: itself, or what may be null or stand in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, types.UnionType):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None
