"""Train with TRL's SFTTrainer on the first half of each trace.

leadspan world world --seed 1 --small
python examples/trl_sft.py world/traces.jsonl world/student runs/trl
"""

import argparse

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from leadspan import lead_span


def main() -> None:
    """Cut the traces, train the student, save it."""
    parser = argparse.ArgumentParser(description="Train with TRL on cut traces.")
    parser.add_argument("traces", help="JSON lines in any known format")
    parser.add_argument("student", help="model folder or hub id")
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lsp", type=float, default=0.5, help="share of each sequence to keep")
    arguments = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(arguments.student)
    rows = load_dataset("json", data_files=arguments.traces, split="train")
    trainer = SFTTrainer(
        model=arguments.student,
        args=SFTConfig(
            output_dir=arguments.output,
            max_steps=arguments.steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            max_length=None,  # the cut decides the length; the default of 1,024 would cut again
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            bf16=False,
        ),
        train_dataset=lead_span(rows, tokenizer, lsp=arguments.lsp),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; student saved to {arguments.output}")


if __name__ == "__main__":
    main()
