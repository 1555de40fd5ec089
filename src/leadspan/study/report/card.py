"""The model card of an exported student: its cut, data, cost and scores, for the Hugging Face hub.

Read from the run folder alone. A local path is shown by its last name: a card is made to be published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData, metadata_load, try_to_load_from_cache
from yaml import YAMLError

from leadspan.config import TruncationConfig
from leadspan.config_io import read_yaml, validate
from leadspan.runs import RunFolder, read_json, write_text_atomic
from leadspan.study.report.summary import (
    FULL,
    flatten,
    say_horizon,
    say_large,
    say_number,
    say_percent,
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
SCORES_HOLD = "Scores hold for the benchmarks named and for the sampling they were taken with."
USAGE = """```python
from transformers import {load}AutoTokenizer

path = "."  # this folder, or its id on the hub
tokenizer = AutoTokenizer.from_pretrained(path)
model = {model}.from_pretrained(path, dtype="auto")
messages = [{{"role": "user", "content": "What is 12 * 34?"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=2048)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :]))
```"""


def write_model_card(run_folder: Path) -> Path:
    """Write `student/README.md` of a finished run, with its scores where it was evaluated.

    A run with an adapter gets `adapter/README.md` too.

    Raises:
        RunError: The run has not finished, or the disk refuses.
    """
    folder = RunFolder(run_folder)
    evaluation_path = run_folder / "evaluation" / "evaluation.json"
    config = read_yaml(run_folder / "run.yaml")
    parts = (
        config,
        folder.manifest,
        read_json(evaluation_path) if evaluation_path.is_file() else {},
        read_json(path) if (path := run_folder / "environment.json").is_file() else {},
        read_license(str(config["student"]["path"])),
    )
    if folder.adapter_path.is_dir():
        text = build_model_card(*parts, is_adapter=True)
        write_text_atomic(folder.adapter_path / "README.md", text)
    write_text_atomic(folder.student_path / "README.md", build_model_card(*parts))
    return folder.student_path / "README.md"


def read_license(student: str) -> str | None:
    """What the base model's own card, in its folder or the hub's cache, says its license is."""
    path: Any = Path(student) / "README.md"
    if _is_hub_id(student):
        path = try_to_load_from_cache(student, "README.md")
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    try:
        found = (metadata_load(path) or {}).get("license")
    except (ValueError, YAMLError):
        return None
    return found if isinstance(found, str) else None


def build_model_card(
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    environment: Mapping[str, Any],
    license: str | None = None,
    is_adapter: bool = False,
) -> str:
    """The text of the card.

    Args:
        config: run.yaml.
        manifest: manifest.json.
        evaluation: evaluation.json, empty where the run was not evaluated.
        environment: environment.json.
        license: Of the base model, where it is known.
        is_adapter: The card is that of the adapter alone.
    """
    flat = flatten(config)
    trained_on = _say_trained_on(config, manifest)
    name = f"{_name(str(flat['student.path']))}-distilled" + ("-adapter" if is_adapter else "")
    taught_by = _teachers(flat)
    source = f"taught by {taught_by}" if taught_by else "fine-tuned"
    parts = [
        f"---\n{_front_matter(flat, evaluation, name, license, is_adapter)}\n---",
        f"# {escape(name)}",
        escape(
            f"{_name(str(flat['student.path']))} {source} on {trained_on}, with leadspan."
            + (" This is the LoRA adapter alone." if is_adapter else "")
        ),
        "## Usage",
        _usage(is_adapter),
        "## Settings",
        _pairs(_settings(flat, trained_on)),
        "## Cost",
        _pairs(_costs(manifest)),
        "## Scores",
        _scores(evaluation),
        "## Limits",
        escape(f"{_say_limits(config, manifest, trained_on)}{SCORES_HOLD}"),
        "## License",
        escape(_say_license(_name(str(flat["student.path"])), license)),
        _made_with(environment),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(is_adapter: bool) -> str:
    if is_adapter:
        model = "AutoPeftModelForCausalLM"
        return USAGE.format(load="", model=model).replace(
            "```python\n", f"```python\nfrom peft import {model}\n"
        )
    return USAGE.format(load="AutoModelForCausalLM, ", model="AutoModelForCausalLM")


def _say_trained_on(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What a training example was, whatever the cut policy, and of which data."""
    truncation = validate(TruncationConfig, config.get("truncation") or {}, "run.yaml: truncation")
    data = _name(str(config["traces"]["path"]))
    rollout = config.get("rollout") or {}
    share = rollout.get("share", 0.0)
    written = (
        f"what it wrote itself to prompts of {data} ({say_horizon(rollout)})" if rollout else ""
    )
    if share == FULL:
        return written
    cut = f"{Cut(truncation)} of {data}"
    if manifest.get("num_given_cut"):
        kept = say_percent(manifest["kept_fraction"])
        cut = f"sequences of {data} that were cut before the run, {kept} of their tokens kept"
    return f"{cut}, and for {say_percent(share)} on {written}" if rollout else cut


def _say_limits(config: Mapping[str, Any], manifest: Mapping[str, Any], trained_on: str) -> str:
    """What a cut leaves out; empty where nothing was cut."""
    truncation = validate(TruncationConfig, config.get("truncation") or {}, "run.yaml: truncation")
    is_whole = str(Cut(truncation)) == str(Cut(TruncationConfig(lsp=FULL))) and not manifest.get(
        "num_given_cut"
    )
    if is_whole or (config.get("rollout") or {}).get("share") == FULL:
        return ""
    return (
        f"Trained on {trained_on}, the student has not seen the rest of its training traces. Where traces "
        "derive their answer in that rest, the cut loses it; `leadspan advise` says where a data set "
        "derives its answers. "
    )


def _say_license(base: str, license: str | None) -> str:
    stated = f", {license}," if license else ""
    return (
        f"The weights come from {base}: its license{stated} applies, and so may the terms of the teacher and "
        "of the data. Check the `license` field at the top of this file before you publish."
    )


def _front_matter(
    flat: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    name: str,
    license: str | None,
    is_adapter: bool,
) -> str:
    student, traces = str(flat["student.path"]), str(flat["traces.path"])
    results = [
        EvalResult("text-generation", entry["name"], entry["name"], "accuracy", entry["accuracy"])
        for entry in evaluation.get("benchmarks") or ()
    ]
    base: dict[str, Any] = {}
    if _is_hub_id(student):
        relation = "adapter" if is_adapter else "finetune"
        base = {"base_model": student, "base_model_relation": relation}
    return ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        license=license or "other",
        license_name=None if license else "that-of-the-base-model",
        tags=["leadspan", "distillation", "reasoning"],
        datasets=[traces] if _is_hub_id(traces) else None,
        model_name=name,
        eval_results=results or None,
        **base,
    ).to_yaml()


def _teachers(flat: Mapping[str, Any]) -> str:
    """By name; of several, in the order of the config; empty without any."""
    paths = [each["path"] for each in flat.get("teachers") or ()] or [flat.get("teacher.path")]
    return ", ".join(_name(str(path)) for path in paths if path)


def _settings(flat: Mapping[str, Any], trained_on: str) -> list[tuple[str, str]]:
    sections = "+".join(flat.get("supervision.sections") or ())
    shown = [
        ("student", _name(str(flat["student.path"]))),
        ("teacher", _teachers(flat) or "none"),
        ("trained on", trained_on),
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
