"""Distil in a plain PyTorch loop, with leadspan's cut and its fused loss.

    leadspan world worlds/tiny --seed 1 --small
    python examples/own_loop.py worlds/tiny

The folder holds `traces.jsonl`, `student/` and `teacher/`; your own do as well. Prints the loss a token.
"""

import argparse
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from leadspan import Example, load_traces, render, supervise, truncate
from leadspan.losses import fused_linear_kd


def collate(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids padded on the right, and labels that are -100 where a token is not scored; both [B, T]."""
    ids = [torch.from_numpy(example.sequence.input_ids_T).long() for example in examples]
    scored = [torch.from_numpy(example.supervised_T) for example in examples]
    labels = [each.masked_fill(~mask, -100) for each, mask in zip(ids, scored, strict=True)]
    return pad_sequence(ids, batch_first=True), pad_sequence(labels, True, -100)


def main() -> None:
    """Train the student of the folder on the lead of its traces."""
    parser = argparse.ArgumentParser(description="Distil in a plain PyTorch loop.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--lsp", type=float, default=0.5, help="share of each sequence that is kept"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder

    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    student = AutoModelForCausalLM.from_pretrained(folder / "student", dtype=torch.float32)
    teacher = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=torch.float32).eval()

    sequences = render(load_traces(folder / "traces.jsonl"), tokenizer)
    examples = [supervise(sequence) for sequence in truncate(sequences, lsp=arguments.lsp)]

    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    torch.manual_seed(0)
    for step in range(arguments.steps):
        chosen = torch.randint(len(examples), (8,)).tolist()
        input_ids, labels = collate([examples[index] for index in chosen])
        # Hidden states, not logits: the loss projects the scored tokens, a few at a time.
        hidden = student.model(input_ids).last_hidden_state
        with torch.no_grad():
            teacher_hidden = teacher.model(input_ids).last_hidden_state
        loss = fused_linear_kd(
            hidden[:, :-1],
            student.lm_head.weight,
            labels[:, 1:],
            teacher_hidden[:, :-1],
            teacher.lm_head.weight,
            kd_ratio=0.5,
            divergence="forward_kl",
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1:3d}  loss {loss.item():.4f}")
    student.save_pretrained(folder / "distilled")
    tokenizer.save_pretrained(folder / "distilled")


if __name__ == "__main__":
    main()
