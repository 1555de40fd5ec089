"""Worker processes with hard limits: one that overruns ends, and the parent starts another.

Answers that text and plain numbers decide never reach a worker, so that a run of exact-match rows
starts none. Knows nothing about benchmarks.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from leadspan.grading.grade import Grade
from leadspan.grading.rules import Question, ask, gold_is_readable, settle

START_SECONDS = 120.0
"""A worker that has not started by then never will."""
OUT_OF_MEMORY = 77
"""Exit status of a worker over its limit of memory."""
WALL_FACTOR = 30
"""The outer guard on the clock, in limits: far off, so that a busy machine never meets it; it ends
what waits without working, such as a sleep."""


class WorkerDiedError(Exception):
    """The worker ended; the message says by which limit."""


T = TypeVar("T")


def _same(grade: Grade) -> Grade:
    return grade


def _is_readable(grade: Grade) -> bool:
    return grade.outcome == "correct"


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


class Worker:
    """One process that answers one question at a time."""

    def __init__(self, limit_seconds: float, memory_gib: float) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "leadspan.grading.worker", str(limit_seconds), str(memory_gib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._limit, self._memory = limit_seconds, memory_gib
        self._unread = b""
        self._read(START_SECONDS)

    def ask(self, question: dict[str, Any], limit_seconds: float) -> dict[str, Any]:
        """Put one question.

        Raises:
            TimeoutError: No answer within the guard on the clock.
            WorkerDiedError: The process ended, at its limit of CPU time or of memory, or killed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None
        reply: dict[str, Any] = json.loads(self._read(limit_seconds))
        return reply

    def _read(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        handle, end = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(handle, 65536)
            if not chunk:
                raise self._death()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> WorkerDiedError:
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return WorkerDiedError(f"over {self._limit:g} s")
        if status == OUT_OF_MEMORY:
            return WorkerDiedError(f"over {self._memory:g} GiB")
        return WorkerDiedError("worker died")

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Grader:
    """Grades many completions, side by side, each within a limit.

    Use as a context manager; workers start with the first question that needs one.
    """

    def __init__(
        self, workers: int | None = None, limit_seconds: float = 10.0, memory_gib: float = 2.0
    ) -> None:
        self._count = workers or min(4, os.cpu_count() or 1)
        self._limit, self._memory = limit_seconds, memory_gib
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()
        self.workers_started = 0
        """Processes started so far, replacements included."""

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=error is None, cancel_futures=True)
        with self._lock:
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    def submit(
        self,
        completion: str,
        golds: str | Sequence[str],
        kind: str = "math",
        pattern: str | None = None,
    ) -> Future[Grade]:
        """Grade one completion in the background; done at once where no worker is needed.

        Args:
            completion: The text that holds the answer.
            golds: The accepted answer, or several of which any counts.
            kind: One of KINDS, or `module:function`.
            pattern: A regular expression that finds the answer, instead of the kind's own rule.
        """
        accepted = (golds,) if isinstance(golds, str) else tuple(golds)
        question = ask(completion, accepted, kind, pattern)
        return self._put(question, _same) if isinstance(question, Question) else _done(question)

    def can_read(self, gold: str, kind: str) -> Future[bool]:
        """Whether a gold means something to this kind of grading, in the background.

        Raises:
            ConfigError: From the future; the user's own function cannot be imported.
        """
        verdict = gold_is_readable(gold, kind)
        return _done(verdict) if isinstance(verdict, bool) else self._put(verdict, _is_readable)

    def _put(self, question: Question, read: Callable[[Grade], T]) -> Future[T]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="grading")
        return self._threads.submit(lambda: read(self._judge(question)))

    def grade(
        self,
        completion: str,
        golds: str | Sequence[str],
        kind: str = "math",
        pattern: str | None = None,
    ) -> Grade:
        """Grade one completion and wait for it."""
        return self.submit(completion, golds, kind, pattern).result()

    def grade_many(self, rows: Iterable[tuple[str, str | Sequence[str], str]]) -> list[Grade]:
        """Grade (completion, gold or golds, kind) rows; the grades are in the rows' order."""
        return [future.result() for future in [self.submit(*row) for row in rows]]

    def _judge(self, question: Question) -> Grade:
        result: Grade | Question = question
        while isinstance(result, Question):  # what a pattern finds may be a question again
            try:
                reply = self._worker().ask(result.to_json(), self._limit * WALL_FACTOR)
            except TimeoutError:
                self._drop()
                return Grade(
                    "timeout", result.extracted or None, f"waited {WALL_FACTOR} x {self._limit:g} s"
                )
            except WorkerDiedError as death:
                self._drop()
                return Grade("timeout", result.extracted or None, str(death))
            result = settle(result, reply)
        return result

    def _worker(self) -> Worker:
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = Worker(self._limit, self._memory)
            self._own.worker = worker
            with self._lock:
                self._workers.add(worker)
                self.workers_started += 1
        return worker

    def _drop(self) -> None:
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None:
            worker.end()
            with self._lock:
                self._workers.discard(worker)
            self._own.worker = None
