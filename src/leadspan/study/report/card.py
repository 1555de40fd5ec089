"""The model card of an exported student: its cut, data, cost and scores, for the Hugging Face hub.

Read from the run folder alone. A local path is shown by its last name: a card is made to be published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from leadspan.config import TruncationConfig
from leadspan.config_io import read_yaml, validate
from leadspan.runs import RunFolder, read_json, write_text_atomic
from leadspan.study.report.summary import (
    flatten,
    say_large,
    say_lsp,
    say_number,
    say_range,
    say_sections,
)
from leadspan.study.report.text import escape, write_table
from leadspan.traces.cut import Cut

COSTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "train_seconds": ("training time", lambda value: f"{say_number(value, 1)} s"),
    "peak_memory_gib": ("peak memory", lambda value: f"{say_number(value)} GiB"),
    "train_flops": ("training FLOPs", say_large),
    "tokens_forwarded": ("tokens forwarded", say_large),
    "tokens_scored": ("tokens scored", say_large),
    "num_train": ("training traces", say_large),
    "train_loss": ("training loss", lambda value: say_number(value, 4)),
    "val_loss": ("validation loss", lambda value: say_number(value, 4)),
    "device": ("device", lambda value: value or "not recorded"),
}
"""Keys of the manifest, shown where they were measured."""
ALWAYS = {"train_loss", "val_loss", "device"}
"""Those that are shown as missing, too."""
KEYS = (
    "loss.kd_ratio",
    "loss.divergence",
    "loss.kd_temperature",
    "training.steps",
    "training.epochs",
    "training.batch_size",
    "training.learning_rate",
    "seed",
)
"""Settings shown under their own names."""
LIMITS = (
    "A student trained on the lead of traces has seen no ending of a cut trace. Where traces derive "
    "their answer late, a fractional cut loses it; `leadspan advise` tells such data apart. Scores "
    "hold for the benchmarks named and for the sampling they were taken with."
)


def write_model_card(run_folder: Path) -> Path:
    """Write `student/README.md` of a finished run, with its scores where it was evaluated.

    Raises:
        RunError: The run has not finished, or the disk refuses.
    """
    folder = RunFolder(run_folder)
    evaluation_path = run_folder / "evaluation" / "evaluation.json"
    card = build_model_card(
        read_yaml(run_folder / "run.yaml"),
        folder.manifest,
        read_json(evaluation_path) if evaluation_path.is_file() else {},
        read_json(path) if (path := run_folder / "environment.json").is_file() else {},
    )
    write_text_atomic(folder.student_path / "README.md", card)
    return folder.student_path / "README.md"


def build_model_card(
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> str:
    """The text of the card."""
    flat = flatten(config)
    student, lsp = str(flat["student.path"]), flat.get("truncation.lsp")
    cut = str(
        Cut(validate(TruncationConfig, config.get("truncation") or {}, "run.yaml: truncation"))
    )
    if manifest.get("num_given_cut"):
        kept = f"{100 * manifest['kept_fraction']:.3g} %"
        cut = f"sequences cut before the run, {kept} of their tokens kept,"
        flat["truncation.lsp"] = lsp = None
    parts = [
        f"---\n{_front_matter(flat, evaluation)}\n---",
        f"# {escape(_name(student))}, distilled" + (f" at lsp {say_lsp(lsp)}" if lsp else ""),
        _what(flat, cut),
        "## Settings",
        _pairs(_settings(flat, cut)),
        "## Cost",
        _pairs(_costs(manifest)),
        "## Scores",
        _scores(evaluation),
        "## Limits",
        LIMITS,
        _made_with(environment),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(flat: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    student, traces = str(flat["student.path"]), str(flat["traces.path"])
    results = [
        EvalResult("text-generation", entry["name"], entry["name"], "accuracy", entry["accuracy"])
        for entry in evaluation.get("benchmarks") or ()
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["leadspan", "distillation", "reasoning"],
        base_model=student if _is_hub_id(student) else None,
        datasets=[traces] if _is_hub_id(traces) else None,
        model_name=f"{_name(student)}-distilled",
        eval_results=results or None,
    ).to_yaml()


def _what(flat: Mapping[str, Any], cut: str) -> str:
    taught_by = _teachers(flat)
    source = f"taught by {taught_by}" if taught_by else "fine-tuned"
    return escape(
        f"{_name(str(flat['student.path']))} {source} on {cut} of {_name(str(flat['traces.path']))}, "
        "with leadspan."
    )


def _teachers(flat: Mapping[str, Any]) -> str:
    """By name; of several, in the order of the config; empty without any."""
    paths = [each["path"] for each in flat.get("teachers") or ()] or [flat.get("teacher.path")]
    return ", ".join(_name(str(path)) for path in paths if path)


def _settings(flat: Mapping[str, Any], cut: str) -> list[tuple[str, str]]:
    sections = "+".join(flat.get("supervision.sections") or ())
    shown = [
        ("student", _name(str(flat["student.path"]))),
        ("teacher", _teachers(flat) or "none"),
        ("traces", _name(str(flat["traces.path"]))),
        ("lsp", say_lsp(flat.get("truncation.lsp"))),
        ("trained on", cut),
        ("scored sections", say_sections(sections)),
    ]
    return shown + [(key, str(flat[key])) for key in KEYS if flat.get(key) is not None]


def _costs(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (label, say(manifest.get(key)))
        for key, (label, say) in COSTS.items()
        if manifest.get(key) is not None or key in ALWAYS
    ]


def _scores(evaluation: Mapping[str, Any]) -> str:
    rows = [
        (
            str(entry.get("name", "")),
            say_number(entry.get("accuracy"), 3),
            say_range(entry.get("accuracy_low"), entry.get("accuracy_high")),
            say_number(entry.get("closed_fraction")),
            str(entry.get("problems", "")),
        )
        for entry in evaluation.get("benchmarks") or ()
    ]
    if not rows:
        return "Not evaluated."
    columns = ["benchmark", "accuracy", "95 % interval", "closed", "problems"]
    return write_table(pd.DataFrame(rows, columns=columns))


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return write_table(pd.DataFrame(pairs, columns=["what", "value"]))


def _made_with(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages") or {}
    said = [f"{name} {version}" for name, version in packages.items() if version]
    if environment.get("config_hash"):
        said.append(f"config {environment['config_hash']}")
    return escape(f"Made with {', '.join(said)}.") if said else ""


def _is_hub_id(path: str) -> bool:
    """True for `owner/name`, which is no folder here."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not Path(path).exists()


def _name(path: str) -> str:
    """A hub id as it is, a local path by its last name."""
    return path if _is_hub_id(path) else Path(path).name
