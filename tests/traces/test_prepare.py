"""The prepared set says the same as the library, loads everywhere, and trains in TRL."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import load_dataset, load_from_disk

from leadspan.config import RunConfig
from leadspan.errors import ConfigError, DataError, RunError
from leadspan.traces.cut import Cut
from leadspan.traces.dataset import build_sequences
from leadspan.traces.prepare import IGNORED, MANIFEST, prepare
from tests.traces.tokenizers_for_tests import TEMPLATES, byte_level


def tokenizer_with(template: str) -> Any:
    tokenizer = copy.copy(byte_level())
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


def config_for(tmp_path: Path, count: int = 20, **parts: Any) -> RunConfig:
    rows = [
        {
            "id": f"r{n}",
            "prompt": f"What is {n}+1?",
            "cot": f"so {n} and 1. " * 4,
            "answer": f"{n + 1}",
        }
        for n in range(count)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return RunConfig.model_validate(
        {
            "student": {"path": "none"},
            "loss": {"kd_ratio": 0},
            "training": {"steps": 1},
            **parts,
            "traces": {"path": str(file), "validation_fraction": 0.2, **parts.get("traces", {})},
        }
    )


def test_arrow_rows_are_the_examples(tmp_path: Path) -> None:
    config = config_for(tmp_path, truncation={"lsp": 0.5})
    prepared = prepare(config, tokenizer_with("chatml"), tmp_path / "set")
    saved = load_from_disk(str(tmp_path / "set"))
    made = build_sequences(config, tokenizer_with("chatml"))
    cut = Cut(config.truncation, config.supervision)
    assert set(saved) == {"train", "validation"}
    assert prepared.rows == {"train": len(made.train), "validation": len(made.validation)}
    for split, sequences in (("train", made.train), ("validation", made.validation)):
        for row, sequence in zip(saved[split], sequences, strict=True):
            example = cut.example(sequence)
            assert row["id"] == sequence.trace_id
            assert row["input_ids"] == example.sequence.input_ids_T.tolist()
            labels = np.array(row["labels"])
            assert (labels != IGNORED).tolist() == example.supervised_T.tolist()
            assert labels[example.supervised_T].tolist() == (
                example.sequence.input_ids_T[example.supervised_T].tolist()
            )
            assert (row["prompt_end"], row["cot_end"]) == (
                example.sequence.prompt.end,
                example.sequence.cot.end,
            )
            assert row["num_full_tokens"] == len(sequence)
            assert row["was_cut"]


def test_rows_with_nothing_to_score_are_dropped_and_counted(tmp_path: Path) -> None:
    config = config_for(tmp_path, truncation={"lsp": 0.5}, supervision={"sections": ["answer"]})
    with pytest.raises(DataError, match="nothing_to_score 20"):
        prepare(config, tokenizer_with("chatml"), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert not list(tmp_path.glob(".set*"))


def test_manifest_comes_with_the_set_and_a_second_call_replaces_it(tmp_path: Path) -> None:
    for lsp in (0.5, 1.0):
        prepare(config_for(tmp_path, truncation={"lsp": lsp}), byte_level(), tmp_path / "set")
        manifest = json.loads((tmp_path / "set" / MANIFEST).read_text())
        full = manifest["cuts"]["kept_tokens"] == manifest["cuts"]["full_tokens"]
        assert full == (lsp == 1.0)


def test_somebody_else_s_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="must be empty or an earlier set"):
        prepare(config_for(tmp_path), byte_level(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_schedule_cannot_be_written_down(tmp_path: Path) -> None:
    config = config_for(tmp_path, truncation={"lsp": 0.5, "lsp_end": 1.0})
    with pytest.raises(ConfigError, match="lsp_end must be null"):
        prepare(config, byte_level(), tmp_path / "set")


def exported(tmp_path: Path, export: Any, template: str, lsp: float) -> list[dict[str, Any]]:
    config = config_for(tmp_path, truncation={"lsp": lsp}, traces={"validation_fraction": 0})
    prepare(config, tokenizer_with(template), tmp_path / "set", export)
    text = (tmp_path / "set" / f"{export}-train.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("template", ["chatml", "opens_thinking"])
def test_exported_messages(tmp_path: Path, template: str) -> None:
    row = exported(tmp_path, "messages", template, 1.0)[3]
    user, assistant = row["messages"]
    glue = "\n" if template == "opens_thinking" else ""
    assert user == {"role": "user", "content": "What is 3+1?"}
    assert assistant["content"] == (f"<think>{glue}{'so 3 and 1. ' * 4}{glue}</think>{2 * glue}4")


def test_exported_cut_text_has_no_ending(tmp_path: Path) -> None:
    row = exported(tmp_path, "messages", "chatml", 0.6)[3]
    content = row["messages"][-1]["content"]
    assert content.startswith("<think>so 3")
    assert ("<think>" + "so 3 and 1. " * 4).startswith(content)


def test_exported_prompt_and_completion_join_to_the_sequence(tmp_path: Path) -> None:
    rows = exported(tmp_path, "prompt_completion", "opens_thinking", 1.0)
    assert rows[3]["prompt"].endswith("<|im_start|>assistant\n<think>\n")
    assert rows[3]["completion"].endswith("</think>\n\n4")


def tiny_model(tokenizer: Any, folder: Path) -> Path:
    from tests.conftest import build_tiny_model

    build_tiny_model(len(tokenizer), seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrow", "messages", "prompt_completion"])
def test_trl_trains_on_it(tmp_path: Path, kind: str) -> None:
    trl = pytest.importorskip("trl", reason="trl is a development extra (pip install trl)")

    tokenizer = tokenizer_with("chatml")
    config = config_for(tmp_path, truncation={"lsp": 0.6}, traces={"validation_fraction": 0})
    prepare(config, tokenizer, tmp_path / "set", None if kind == "arrow" else kind)  # type: ignore[arg-type]
    if kind == "arrow":
        data = load_from_disk(str(tmp_path / "set"))["train"].select_columns(
            ["input_ids", "labels"]
        )
    else:
        file = str(tmp_path / "set" / f"{kind}-train.jsonl")
        data = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "hf"))
        data = data.remove_columns("id")
    trainer = trl.SFTTrainer(
        model=str(tiny_model(tokenizer, tmp_path / "model")),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=4,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
        train_dataset=data,
        processing_class=tokenizer,
    )
    result = trainer.train()
    assert result.global_step == 2
    assert np.isfinite(result.training_loss)
    if kind == "arrow":  # our labels, not labels made anew: the prompt is not scored
        batch = next(iter(trainer.get_train_dataloader()))
        assert (batch["labels"] == IGNORED).any()
        assert (batch["labels"][:, 0] == IGNORED).all()


def test_a_cut_at_derivations_needs_someone_to_find_them(tmp_path: Path) -> None:
    config = config_for(tmp_path, truncation={"policy": "derivation", "margin": 0.0, "lsp": 1.0})
    with pytest.raises(ConfigError, match="needs the derivations"):
        prepare(config, byte_level(), tmp_path / "set")
    found = {"derivation_end": len("so 3 and 1. ")}
    prepared = prepare(config, byte_level(), tmp_path / "set", annotate=lambda trace: found)
    assert prepared.cuts.derivation_kept == 1.0
    assert prepared.cuts.answer_kept == 0.0
    assert prepared.cuts.kept_tokens < prepared.cuts.full_tokens


@pytest.mark.parametrize("trainer", ["axolotl", "llama-factory", "trl"])
def test_each_trainer_gets_the_rows_and_the_lines_to_load_them(
    tmp_path: Path, trainer: Any
) -> None:
    config = config_for(tmp_path, truncation={"lsp": 0.5})
    tokenizer = tokenizer_with("chatml")
    prepare(config, tokenizer, tmp_path / "set", trainer=trainer)
    lines = yaml.safe_load((tmp_path / "set" / f"{trainer}.yaml").read_text())
    if trainer == "axolotl":
        splits = {
            "train": load_from_disk(lines["datasets"][0]["path"]),
            "validation": load_from_disk(lines["test_datasets"][0]["path"]),
        }
        longest = max(len(row) for split in splits.values() for row in split["input_ids"])
        assert lines["sequence_len"] == longest
    elif trainer == "llama-factory":
        splits = load_from_disk(lines["tokenized_path"])
    else:
        splits = load_dataset(lines["dataset_name"], cache_dir=str(tmp_path / "hf"))
        assert lines["max_length"] is None
    made = build_sequences(config, tokenizer)
    cut = Cut(config.truncation, config.supervision)
    for split, sequences in (("train", made.train), ("validation", made.validation)):
        for row, sequence in zip(splits[split], sequences, strict=True):
            example = cut.example(sequence)
            ids_T = example.sequence.input_ids_T
            assert row == {
                "input_ids": ids_T.tolist(),
                "labels": np.where(example.supervised_T, ids_T, IGNORED).tolist(),
                "attention_mask": [1] * len(ids_T),
            }
