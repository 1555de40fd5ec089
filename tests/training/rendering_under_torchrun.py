"""Run by torchrun in test_parallel.py: a training from a config, which prints what is rendered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from leadspan.config_io import load_run_config
from leadspan.study.run import annotator_of
from leadspan.traces import dataset, rows
from leadspan.training.run import train

HUB_SET = "me/traces"


def main(run_yaml: str, file: str, output: str) -> None:
    """Train; the data set HUB_SET is read from `file`, whatever its revision."""
    torch.set_num_threads(1)
    make = dataset.iter_sequences

    def render(config: Any, *arguments: Any) -> Iterator[Any]:
        sys.stdout.write(f"rendered {config.path} at {config.revision}\n")
        return make(config, *arguments)

    dataset.iter_sequences = render
    streamed = rows._streamed

    def read(path: str, *arguments: Any, **options: Any) -> Any:
        if path == HUB_SET:
            return streamed("json", data_files=file, split="train")
        return streamed(path, *arguments, **options)

    rows._streamed = read
    config = load_run_config(Path(run_yaml))
    train(config, Path(output), annotator_of(config.truncation))


if __name__ == "__main__":
    main(*sys.argv[1:])
