"""`leadspan schema`: what an editor is told of run.yaml and sweep.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.config import RunConfig, SweepConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml"))


def _schema(*arguments: str) -> dict[str, Any]:
    printed = CliRunner().invoke(app, ["schema", *arguments], catch_exceptions=False)
    schema: dict[str, Any] = json.loads(printed.output)
    return schema


def _unknown_keys(content: Any, schema: Any, definitions: Any, place: str = "") -> list[str]:
    """Keys that an editor would underline, by the part of the schema that names keys."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            return _unknown_keys(content, option, definitions, place)
    if isinstance(content, list):
        return [
            key
            for entry in content
            for key in _unknown_keys(entry, schema.get("items", {}), definitions, place)
        ]
    properties = schema.get("properties")
    if not isinstance(content, dict) or properties is None:
        return []
    found = (
        [] if schema.get("additionalProperties", True) else sorted(set(content) - set(properties))
    )
    for key in set(content) & set(properties):
        found += _unknown_keys(content[key], properties[key], definitions, f"{place}{key}.")
    return [f"{place}{key}" for key in found]


def test_every_key_has_its_help() -> None:
    schema = _schema()
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    lsp = schema["$defs"]["TruncationConfig"]["properties"]["lsp"]
    assert lsp["description"] == "Lead-Span Proportion: share of each sequence that is kept."
    assert (lsp["exclusiveMinimum"], lsp["maximum"], lsp["default"]) == (0, 1, 1.0)
    for name, definition in schema["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_a_teacher_that_is_the_student_needs_no_path() -> None:
    teacher = _schema()["$defs"]["TeacherConfig"]
    assert "from" in teacher["properties"]
    assert "required" not in teacher
    assert _schema()["$defs"]["StudentConfig"]["required"] == ["path"]


@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(ROOT)) for path in CONFIGS])
def test_no_published_config_is_underlined(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema = _schema(*(["--sweep"] if "grids" in content else []))
    assert not _unknown_keys(content, schema, schema["$defs"])
    part = content["base"] if "grids" in content else content
    part["training"]["learning_rat"] = 1
    assert _unknown_keys(content, schema, schema["$defs"])[0].endswith("training.learning_rat")


def test_a_sweep_may_leave_keys_of_its_base_to_its_grids() -> None:
    schema = _schema("--sweep")
    assert set(schema["properties"]) == set(SweepConfig.model_fields)
    base = schema["properties"]["base"]
    assert set(base["properties"]) == set(RunConfig.model_fields)
    assert "required" not in base
    assert schema["required"] == ["base", "grids"]
