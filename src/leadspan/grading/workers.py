"""Worker processes with hard limits: one that overruns ends, and another takes its place.

The limit is CPU time of one question, so that a busy machine changes no outcome. No library's pool:
those on `multiprocessing` (pebble, concurrent.futures) import the caller's main module in each child,
with its torch, and fail where a script has no `__main__` guard.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from leadspan.errors import ConfigError, RunError
from leadspan.grading.rules import Grade, Question, ask, ask_about_gold

START_SECONDS = 120.0
"""A worker that has not started by then never will."""
OUT_OF_MEMORY = 77
"""Exit status of a worker over its limit of memory."""
WALL_FACTOR = 30
"""The outer guard on the clock, in limits: far off, so that a busy machine never meets it; it ends
what waits without working, such as a sleep."""
SERVE = "from leadspan.grading.workers import serve; serve()"


class Worker:
    """One process that answers one question at a time.

    Raises:
        RunError: It does not start.
    """

    def __init__(self, limit_seconds: float, memory_gib: float) -> None:
        self._limit, self._memory = limit_seconds, memory_gib
        self._connection, theirs = Pipe()
        self._readable = select.poll()  # a third of what `Connection.poll` takes
        self._readable.register(self._connection, select.POLLIN)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                SERVE,
                str(theirs.fileno()),
                str(limit_seconds),
                str(memory_gib),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        theirs.close()
        try:
            self._receive(START_SECONDS)
        except (EOFError, OSError):
            self.end()
            raise RunError(
                f"grading: a worker must start; it ended with status {self._process.returncode}. "
                "Run `python -c 'import leadspan.grading'` to see why."
            ) from None

    def answer(self, question: Question) -> Grade | Question:
        """Put one question; every end of the process is an outcome.

        Raises:
            ConfigError: The user's own function or pattern failed.
        """
        try:
            self._connection.send(question)
            reply = self._receive(self._limit * WALL_FACTOR)
        except (EOFError, OSError) as error:
            self.end()
            self._connection.close()
            return self._explain(question, is_late=isinstance(error, TimeoutError))
        if isinstance(reply, ConfigError):
            raise reply
        return reply  # type: ignore[no-any-return]

    def _receive(self, seconds: float) -> Any:
        if not self._readable.poll(seconds * 1000):
            raise TimeoutError
        return self._connection.recv()

    def _explain(self, question: Question, is_late: bool) -> Grade:
        status = self._process.returncode
        if is_late:
            return Grade("timeout", question.extracted, f"waited {WALL_FACTOR} x {self._limit:g} s")
        if status == -signal.SIGPROF:
            return Grade("timeout", question.extracted, f"over {self._limit:g} s")
        reason = f"over {self._memory:g} GiB" if status == OUT_OF_MEMORY else "worker died"
        return Grade("unparsed", question.extracted, reason)

    @property
    def is_alive(self) -> bool:
        """Whether another question can be put."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer questions until the parent closes the pipe; arguments: its handle, seconds, GiB.

    The kernel ends the process by SIGPROF at the limit. The alarm on the clock only ends it where the
    parent is gone, and Ctrl-C is the parent's to handle.
    """
    limit_seconds, memory_gib = float(sys.argv[2]), float(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
    connection = Connection(int(sys.argv[1]))
    connection.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            question: Question = connection.recv()
            signal.alarm(math.ceil(limit_seconds * WALL_FACTOR) + 60)
            signal.setitimer(signal.ITIMER_PROF, limit_seconds)
            reply: Grade | Question | ConfigError
            try:
                reply = question.judge(*question.arguments)
            except MemoryError:
                os._exit(OUT_OF_MEMORY)  # what is left of the heap is not to be trusted
            except RecursionError:
                reply = Grade("unparsed", question.extracted, "too deep")
            except ConfigError as error:
                reply = error
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            connection.send(reply)


class Grader:
    """Grades many completions, side by side, each within a limit.

    Use as a context manager; workers start with the first question that needs one.
    """

    def __init__(
        self, workers: int | None = None, limit_seconds: float = 10.0, memory_gib: float = 2.0
    ) -> None:
        self._limits = limit_seconds, memory_gib
        self._threads = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), "grading")
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=error is None, cancel_futures=True)
        for worker in self._workers:
            worker.end()

    @property
    def workers_started(self) -> int:
        """Processes started so far, replacements included."""
        return len(self._workers)

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
        return self._settle(ask(completion, accepted, kind, pattern))

    def check_gold(self, gold: str, kind: str) -> Future[Grade]:
        """Whether a gold means something to this kind of grading: `correct`, or `unparsed`.

        Raises:
            ConfigError: From the future; the user's own function cannot be imported.
        """
        return self._settle(ask_about_gold(gold, kind))

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

    def _settle(self, result: Grade | Question) -> Future[Grade]:
        if isinstance(result, Question):
            return self._threads.submit(self._judge, result)
        future: Future[Grade] = Future()
        future.set_result(result)
        return future

    def _judge(self, question: Question) -> Grade:
        result: Grade | Question = question
        while isinstance(result, Question):  # what a pattern finds may be a question again
            worker = self._take()
            try:
                result = worker.answer(result)
            finally:
                self._idle.append(worker)
        return result

    def _take(self) -> Worker:
        with contextlib.suppress(IndexError):
            while True:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
        worker = Worker(*self._limits)
        self._workers.append(worker)
        return worker
