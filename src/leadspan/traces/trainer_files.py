"""A prepared set where another trainer looks for it, and the lines of that trainer's config."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml

from leadspan.runs import write_text_atomic

Trainer = Literal["axolotl", "llama-factory", "trl"]


def write_for(trainer: Trainer, splits: Any, folder: Path, final: Path, longest: int) -> None:
    """Write the splits and `TRAINER.yaml`.

    Args:
        trainer: Who loads them.
        splits: A `DatasetDict` with the columns input_ids, attention_mask and labels.
        folder: Where they are written.
        final: What the folder is called when it is whole.
        longest: Tokens of the longest sequence.
    """
    if trainer == "trl":  # its script reads files, not folders of save_to_disk
        for split, rows in splits.items():
            rows.to_parquet(folder / "data" / f"{split}.parquet")
    else:
        splits.save_to_disk(folder)
    lines = yaml.safe_dump(_lines(trainer, list(splits), final, longest), sort_keys=False)
    write_text_atomic(folder / f"{trainer}.yaml", lines)


def _lines(trainer: Trainer, splits: list[str], final: Path, longest: int) -> dict[str, Any]:
    """What the trainer must be told so that it loads every row and shortens none."""
    held_out = "validation" in splits
    if trainer == "axolotl":  # no type: the rows are tokens already; longer rows would be dropped
        lines: dict[str, Any] = {"datasets": [{"path": str(final / "train"), "type": None}]}
        if held_out:
            path = str(final / "validation")
            lines["test_datasets"] = [{"path": path, "split": "train", "type": None}]
        return {**lines, "sequence_len": longest}
    if trainer == "llama-factory":  # it asks for the name of a data set, and then ignores it
        return {"stage": "sft", "dataset": "leadspan", "tokenized_path": str(final)}
    lines = {"dataset_name": str(final / "data"), "dataset_train_split": "train"}
    if held_out:
        lines["dataset_test_split"] = "validation"
    return {**lines, "max_length": None}
