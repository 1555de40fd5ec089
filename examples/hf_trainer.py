"""Distil with transformers' Trainer: the cut, the teacher and the loss in three lines of your script.

    leadspan world worlds/tiny --seed 1 --small
    python examples/hf_trainer.py worlds/tiny runs/trainer

The folder holds `traces.jsonl`, `student/` and `teacher/`; your own do as well.
"""

import argparse
from pathlib import Path

from datasets import load_dataset
from transformers import AutoTokenizer, TrainingArguments

from leadspan import LeadSpanTrainer


def main() -> None:
    """Train the student of the folder on the lead of its traces."""
    parser = argparse.ArgumentParser(description="Distil with transformers' Trainer.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--lsp", type=float, default=0.5, help="share of each sequence that is kept"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder

    rows = load_dataset("json", data_files=str(folder / "traces.jsonl"), split="train")
    parts = rows.train_test_split(test_size=0.1, seed=0)
    trainer = LeadSpanTrainer(
        model=str(folder / "student"),
        teacher=str(folder / "teacher"),
        args=TrainingArguments(
            output_dir=str(arguments.output),
            max_steps=arguments.steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        processing_class=AutoTokenizer.from_pretrained(folder / "student"),
        lsp=arguments.lsp,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model()
    print(f"evaluation loss {before:.3f} -> {after:.3f}; student saved to {arguments.output}")


if __name__ == "__main__":
    main()
