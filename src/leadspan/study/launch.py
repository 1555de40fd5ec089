"""Run the points of a sweep in local processes, and say how it goes.

Every point is a child of one fork server that has torch and transformers loaded already, so start-up is
paid once. Children share out the GPUs that this process sees. A child dies with its driver; a point that
another process holds is left to it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from itertools import takewhile
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from leadspan.errors import LeadspanError
from leadspan.progress import say
from leadspan.study.board import Board
from leadspan.study.sweep import Point, is_running, run_and_record

PRELOAD = ["leadspan.study.run", "transformers.models.qwen3"]
FAILED = 1


def run_points(points: Sequence[Point], sweep_folder: Path, num_jobs: int) -> list[Point]:
    """Run every point that is not finished, `num_jobs` side by side, each on its share of the machine.

    Returns:
        The points without a result: failed, with the reason in `failed.json` and the output in
        `log.txt`, or running elsewhere.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    num_threads = max(1, (os.cpu_count() or 1) // num_jobs)
    running: dict[int, tuple[Point, ForkServerProcess, int]] = {}
    free_slots = list(reversed(range(num_jobs)))
    devices = devices_of_slots(
        num_jobs, visible_devices(), max(map(_num_devices, points), default=1)
    )
    with Board(points, sweep_folder) as board:
        waiting = list(reversed(board.missing))
        try:
            while waiting or running:
                while waiting and free_slots:
                    point, slot = waiting.pop(), free_slots.pop()
                    folder = point.folder(sweep_folder)
                    child = _start(context, folder, num_threads, devices[slot])
                    running[child.sentinel] = (point, child, slot)
                    board.begin(point)
                for sentinel in wait(list(running)):
                    assert isinstance(sentinel, int)
                    point, child, slot = running.pop(sentinel)
                    child.join()
                    free_slots.append(slot)
                    board.end(point)
        except KeyboardInterrupt:
            _stop([child for _, child, _ in running.values()])
            raise
    return board.failed


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: numbers or UUIDs."""
    import torch

    num_devices = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(map(str, range(num_devices)))
    # As in CUDA, the list ends before its first entry that names no device.
    names = list(takewhile(lambda name: name and name[0] != "-", map(str.strip, named.split(","))))
    return names[: num_devices or None]


def devices_of_slots(num_slots: int, devices: Sequence[str], each: int = 1) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place at which a job may run: in turn, `each` devices a job.

    None, where there is no device, leaves a job what it finds.
    """
    if not devices:
        return [None] * num_slots
    each = min(each, len(devices))
    num_groups = len(devices) // each
    groups = [",".join(devices[each * group :][:each]) for group in range(num_groups)]
    return [groups[slot % num_groups] for slot in range(num_slots)]


def _num_devices(point: Point) -> int:
    """How many GPUs one job of this point uses at a time."""
    evaluation = point.config.evaluation
    return evaluation.tensor_parallel if evaluation.backend == "vllm" else 1


def _start(
    context: ForkServerContext, folder: Path, num_threads: int, devices: str | None
) -> ForkServerProcess:
    child = context.Process(target=_child, args=(folder, num_threads, devices), name=folder.name)
    child.start()
    return child


def _stop(children: Sequence[ForkServerProcess]) -> None:
    """Ask the children to write a checkpoint, and wait for them."""
    for child in children:
        child.terminate()
    for child in children:
        child.join()


def _child(folder: Path, num_threads: int, devices: str | None) -> None:
    """One point, in a process of its own: output to `log.txt`, the reason of a failure beside it."""
    if devices is not None:  # before CUDA is first asked for anything
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    import torch

    _die_with_parent()
    if is_running(folder):  # nor is anything written into the log of a live run
        sys.exit(FAILED)
    torch.set_num_threads(num_threads)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        on = "" if devices is None else f" on CUDA_VISIBLE_DEVICES={devices}"
        print(time.strftime("%Y-%m-%d %H:%M:%S") + on, flush=True)
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
