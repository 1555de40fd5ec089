"""Prepared rows for the tests, in the order in which a run of `distill` trains on them."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import TrainingArguments

from leadspan import distill, render, supervise, truncate
from leadspan.records import SECTIONS, Example
from leadspan.traces.batches import compute_order
from leadspan.training.run import TrainedRun
from tests.conftest import build_tiny_tokenizer, build_traces

STEPS, BATCH = 5, 4
LEARNING_RATE = 1e-4
"""AdamW moves a weight by as much whatever the size of its gradient, so that where a gradient nearly cancels
its rounding moves the weight: by less than 1e-6 in five steps at this rate."""


def examples(count: int = 24, lsp: float = 0.95) -> list[Example]:
    return [
        supervise(s) for s in truncate(render(build_traces(count), build_tiny_tokenizer()), lsp=lsp)
    ]


def rows(of: list[Example]) -> Dataset:
    """With the columns of `lead_span`."""
    return Dataset.from_list(
        [
            {
                "input_ids": example.sequence.input_ids_T.tolist(),
                "labels": [
                    int(token) if scored else -100
                    for token, scored in zip(
                        example.sequence.input_ids_T, example.supervised_T, strict=True
                    )
                ],
                "num_full_tokens": example.sequence.num_full_tokens,
                "spans": [
                    [example.sequence.span(name).start, example.sequence.span(name).end]
                    for name in SECTIONS
                ],
                "trace_id": example.sequence.trace_id,
            }
            for example in of
        ]
    )


def ordered(of: list[Example]) -> Dataset:
    """The rows of STEPS steps in the order of `train_by_loop`, one pass over which is the whole training."""
    return rows([of[index] for index in compute_order(len(of), STEPS * BATCH, seed=0)])


def train_by_loop(of: list[Example], folder: Any, **options: Any) -> TrainedRun:
    """The reference."""
    return distill(
        of,
        output=folder,
        steps=STEPS,
        batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        lr_schedule="constant",
        warmup_fraction=0.0,
        bf16=False,
        **options,
    )


def arguments(folder: Any, **changes: Any) -> TrainingArguments:
    """The optimiser settings of `train_by_loop`."""
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.05,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainingArguments(**{**settings, **changes})
