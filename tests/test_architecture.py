"""Imports go downwards, without a cycle, and each library has one owner."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FLOORS = {
    name: floor
    for floor, names in enumerate(
        (
            ("__init__", "errors", "display", "records", "progress", "integrity"),
            (
                "config",
                "config_io",
                "config_reference",
                "identity",
                "paths",
                "pins",
                "runs",
                "models",
                "precision",
                "parallel",
                "chat",
                "messages",
                "flops",
                "sizes",
                "statistics",
                "registry",
                "endpoint",
                "extras",
                "hub",
                "grading",
            ),
            ("traces", "losses", "generation"),
            ("teachers",),
            ("training", "evaluation", "analysis"),
            ("study", "world", "hf"),
            ("cli",),
            ("__main__",),
        )
    )
    for name in names
}
STRANGERS = ({"traces", "losses", "generation"}, {"training", "evaluation", "analysis"})
"""Packages of one floor that must not know one another."""
OWNERS = {
    "transformers": ("models", "chat", "world", "hf"),
    "tokenizers": ("world",),
    "peft": ("models",),
    "datasets": ("traces",),
    "math_verify": ("grading",),
    "mpmath": ("grading",),
    "openai": ("endpoint",),
    "vllm": ("generation",),
    "matplotlib": ("study",),
    "jinja2": ("study", "chat"),
    "pandas": ("study",),
    "submitit": ("study",),
}


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "leadspan").rglob("*.py"))
}
EDGES = {name: _imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}


def _room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    for imported in EDGES[module] - {"leadspan"}:
        mine, theirs = _room(module), _room(imported)
        assert FLOORS[theirs] <= FLOORS[mine] or module == "leadspan", f"{module} -> {imported}"
        for strangers in STRANGERS:
            assert mine == theirs or not {mine, theirs} <= strangers, f"{module} -> {imported}"


def test_there_is_no_cycle() -> None:
    # A package's own file names its public functions lazily; it is no layer.
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {name: edges - packages for name, edges in EDGES.items() if name not in packages}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_one_owner(library: str) -> None:
    users = {
        _room(name)
        for name, path in MODULES.items()
        if any(imported.split(".")[0] == library for imported in _imports(path))
    }
    assert users <= set(OWNERS[library]), f"{library} is imported by {users}"
