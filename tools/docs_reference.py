"""Writes the site's reference pages from the code: verbs, keys of run.yaml, public names, files on disk.

An mkdocs hook (`hooks:` in mkdocs.yml). The pages exist only in the built site, so that none of them can
say something that the code does not.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import leadspan
from leadspan import config as models
from leadspan.cli.main import app

FILE_MODULES = {
    "A run folder": "leadspan.runs",
    "Checkpoints": "leadspan.training.checkpoint",
    "Rollouts": "leadspan.training.rollout_log",
    "An evaluation": "leadspan.evaluation.samples",
    "A teacher cache": "leadspan.teachers.cache_format",
    "The prepared set": "leadspan.traces.prepare",
    "A sweep": "leadspan.study.sweep",
    "Checksums": "leadspan.integrity",
}
"""What is written to disk, and the module whose docstrings say how."""
OPTION_TABLE = "| argument or option | default | what it does |\n|---|---|---|\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {
        "cli": "".join(_cli()),
        "run-yaml": "".join(_config_page("run.yaml", models.RunConfig)),
        "sweep-yaml": "".join(_config_page("sweep.yaml", models.SweepConfig)),
        "python": "".join(_python()),
        "files": "".join(_files()),
    }
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def _cli() -> Iterator[str]:
    yield "# Command line\n\nWritten from the program itself; `leadspan VERB --help` prints the same.\n\n"
    root = typer.main.get_command(app)
    options = [row for row in map(_parameter, root.params) if row]
    if options:
        yield f"## Before the verb\n\n{OPTION_TABLE}{''.join(options)}\n"
    yield from _verb(root, "leadspan", 2)


def _verb(command: click.Command, name: str, level: int) -> Iterator[str]:
    """A verb, and those under it, with their arguments and options."""
    if hasattr(command, "commands"):
        for child_name, child in command.commands.items():
            yield from _verb(child, f"{name} {child_name}", level)
        return
    context = click.Context(command, info_name=name)
    yield f"{'#' * level} `{name}`\n\n{_text(command.help or '')}\n\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{name} {usage}\n```\n\n"
    rows = [row for row in map(_parameter, command.params) if row]
    if rows:
        yield f"{OPTION_TABLE}{''.join(rows)}\n"


def _parameter(parameter: click.Parameter) -> str:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return ""
    is_option = parameter.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    shown = names if is_option else f"`{(parameter.name or '').upper()}`"
    default = parameter.default
    is_given = default not in (None, [], (), False) and not callable(default)
    value = "required" if parameter.required else f"`{default}`" if is_given else ""
    return f"| {shown} | {value} | {_cell(getattr(parameter, 'help', None) or '')} |\n"


def _config_page(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"# {title}\n\n"
    yield (
        "Written from the models that check the file. An unknown key is an error. `--set KEY=VALUE` "
        "changes one key of a run.yaml for one call.\n\n"
    )
    yield from _section(model, "", set())


def _section(model: type[BaseModel], prefix: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    """A table of a model's keys, then those of the models inside it."""
    seen.add(model)
    yield f"## {f'`{prefix}`' if prefix else 'Top level'}\n\n{_text(model.__doc__ or '')}\n\n"
    yield "| key | type | default | what it does |\n|---|---|---|---|\n"
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield (
            f"| `{key}` | {_cell(_type(field.annotation, field))} | {_default(field)} "
            f"| {_cell(field.description or '')} |\n"
        )
        path = f"{prefix}.{key}".lstrip(".")
        inner += [(path, child) for child in _models_in(field.annotation)]
    yield "\n"
    for path, child in inner:
        if child in seen:
            yield f"## `{path}`\n\nThe keys are those of `{child.__name__}`, listed above.\n\n"
        else:
            yield from _section(child, path, seen)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [child for part in get_args(annotation) for child in _models_in(part)]


def _type(annotation: Any, field: FieldInfo | None = None) -> str:
    """A type in the words of someone who writes YAML."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join("off" if value is False else f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in parts)
    if origin in (tuple, list):
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return "mapping"
    if parts:  # Annotated
        return _type(parts[0]) + _bounds(parts[1:])
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    bounds = _bounds(tuple(field.metadata)) if field is not None else ""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys below"
    return words.get(annotation, getattr(annotation, "__name__", "any")) + bounds


def _bounds(metadata: tuple[Any, ...]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = []
    for entry in metadata:
        for source in getattr(entry, "metadata", None) or [entry]:
            found += [
                f"{sign} {getattr(source, name):g}"
                for name, sign in signs.items()
                if getattr(source, name, None) is not None
            ]
    return f" ({', '.join(found)})" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, tuple):
        value = list(value)
    shown = {None: "null", True: "true", False: "false"}.get(value) if _is_plain(value) else None
    return f"`{shown or value}`"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _python() -> Iterator[str]:
    yield (
        "# Python\n\nEvery public name of `leadspan`, from its docstrings. The names load when they are "
        "first used, so `import leadspan` is quick.\n\n"
    )
    for name in leadspan.__all__:
        if name == "__version__":
            continue
        public = getattr(leadspan, name)
        if isinstance(public, types.ModuleType):
            yield f"## `leadspan.{name}`\n\n{_text(public.__doc__ or '')}\n\n"
            yield from (_entry(getattr(public, each), each) for each in public.__all__)
        else:
            yield _entry(public, name)


def _entry(public: Any, name: str) -> str:
    """A public name, from the module that defines it."""
    entry = f"::: {public.__module__}.{name}\n"
    if name.endswith("Config"):  # its keys are those of run.yaml, which has a page
        entry += "    options:\n      members: false\n\nIts keys are in [run.yaml](run-yaml.md).\n"
    return f"{entry}\n"


def _files() -> Iterator[str]:
    yield (
        "# Files\n\nWhat is saved to disk, from the docstrings of the modules that write it. The table of "
        "a run folder is in [Architecture](../architecture.md#a-run-folder).\n\n"
    )
    for title, module in FILE_MODULES.items():
        yield f"## {title}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        yield "      show_root_toc_entry: false\n\n"


def _text(docstring: str) -> str:
    return re.sub(r"\n[ \t]+", "\n", docstring).strip()


def _cell(text: str) -> str:
    """Text as one cell of a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()
