"""Experiment trackers by name: each gets the numbers of metrics.jsonl as they are written.

Knows nothing about training. Needs the extra `track`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from leadspan.extras import check_tracker

Tracker = Literal["trackio", "wandb", "tensorboard"]
Log = Callable[[Mapping[str, float], int], None]


@contextmanager
def open_tracker(
    name: Tracker | None, run_folder: Path, project: str, config: Mapping[str, Any]
) -> Iterator[Log]:
    """Yield `log(numbers, step)`; it does nothing where `name` is None.

    Args:
        name: Which tracker.
        run_folder: The run; its name is the run's name, TensorBoard writes inside it.
        project: Project of trackio and wandb.
        config: The run's config, shown beside it.

    Raises:
        ConfigError: The tracker is not installed, or has no key.
    """
    if name is not None:
        check_tracker(name)
    if name is None:
        yield lambda numbers, step: None
    elif name == "tensorboard":
        with _tensorboard(run_folder) as log:
            yield log
    else:
        module: Any = importlib.import_module(name)
        run = module.init(project=project, name=run_folder.name, config=dict(config))
        try:
            yield lambda numbers, step: run.log(dict(numbers), step=step)
        finally:
            run.finish()


@contextmanager
def _tensorboard(run_folder: Path) -> Iterator[Log]:
    from torch.utils.tensorboard.writer import SummaryWriter

    writer = SummaryWriter(str(run_folder / "tensorboard"))

    def log(numbers: Mapping[str, float], step: int) -> None:
        for key, value in numbers.items():
            writer.add_scalar(key, value, step)

    try:
        yield log
    finally:
        writer.close()
