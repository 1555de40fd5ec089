"""Run the points of a sweep in local processes, and say how it goes.

Every point is a child of one fork server that has torch and transformers loaded already, so start-up is
paid once. A child dies with its driver; a point that another process holds is left to it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from leadspan.errors import LeadspanError
from leadspan.progress import say
from leadspan.study.board import Board
from leadspan.study.sweep import Point, run_and_record

PRELOAD = ["leadspan.study.run", "transformers.models.qwen3"]
FAILED = 1


def run_points(points: Sequence[Point], sweep_folder: Path, num_jobs: int) -> list[Point]:
    """Run every point that is not finished, `num_jobs` side by side, each on its share of the cores.

    Returns:
        The points that failed; their reason is in `failed.json` and their output in `log.txt`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    num_threads = max(1, (os.cpu_count() or 1) // num_jobs)
    running: dict[int, tuple[Point, ForkServerProcess]] = {}
    with Board(points, sweep_folder) as board:
        waiting = list(reversed(board.missing))
        try:
            while waiting or running:
                while waiting and len(running) < num_jobs:
                    point = waiting.pop()
                    child = _start(context, point.folder(sweep_folder), num_threads)
                    running[child.sentinel] = (point, child)
                    board.begin(point)
                for sentinel in wait(list(running)):
                    assert isinstance(sentinel, int)
                    point, child = running.pop(sentinel)
                    child.join()
                    board.end(point)
        except KeyboardInterrupt:
            _stop([child for _, child in running.values()])
            raise
    return board.failed


def _start(context: ForkServerContext, folder: Path, num_threads: int) -> ForkServerProcess:
    child = context.Process(target=_child, args=(folder, num_threads), name=folder.name)
    child.start()
    return child


def _stop(children: Sequence[ForkServerProcess]) -> None:
    """Ask the children to write a checkpoint, and wait for them."""
    for child in children:
        child.terminate()
    for child in children:
        child.join()


def _child(folder: Path, num_threads: int) -> None:
    """One point, in a process of its own: output to `log.txt`, the reason of a failure beside it."""
    import torch

    _die_with_parent()
    torch.set_num_threads(num_threads)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        print(time.strftime("%Y-%m-%d %H:%M:%S"), flush=True)
        try:
            run_and_record(folder)
        except LeadspanError as error:
            say(str(error))
            sys.exit(FAILED)


def _die_with_parent() -> None:
    """End this process when its driver is gone, so that nothing runs twice after a new start."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
