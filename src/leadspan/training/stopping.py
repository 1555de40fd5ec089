"""Ctrl-C and SIGTERM while a model trains: said at once, obeyed after the step, at once the second time.

A signal handler of Python waits for the call into C that is under way, and a backward pass is one such
call. So a thread reads the signals as the interpreter notes them. Knows nothing about training.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from leadspan.progress import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
"""Exit code of a process that was told twice to stop."""
SECONDS_OF_ONE_REQUEST = 0.5
"""The same signal again within them is the same request: torchrun passes on what a terminal sends to all."""


class _Watcher:
    """What was asked for so far; read by the training, written by a thread of its own."""

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._asked_at: dict[int, float] = {}

    @property
    def is_asked(self) -> bool:
        """Some signal has come."""
        return bool(self._asked_at)

    def watch(self, numbers: int) -> None:
        """Read signal numbers, a byte each, until the other end is closed."""
        while byte := os.read(numbers, 1):
            if byte[0] in SIGNALS:
                self._ask(byte[0])

    def _ask(self, number: int) -> None:
        now = time.monotonic()
        first = self._asked_at.setdefault(number, now)
        if now - first > SECONDS_OF_ONE_REQUEST:
            self._say("stopped now. The same command goes on from the last checkpoint.")
            os._exit(INTERRUPTED)  # the step may hang in a call that no exception ends
        elif first == now:
            self._say("stopping after this step; press again to stop now")

    def _say(self, text: str) -> None:
        if self._speaks:
            say(text)


@contextmanager
def stop_requests(speaks: bool = True) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag that is read between steps; a second one ends the process.

    Args:
        speaks: Say what happens, on stderr; of several ranks one does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watcher = _Watcher(speaks)
    thread = threading.Thread(target=watcher.watch, args=(reading,), daemon=True)
    thread.start()
    # With a handler of Python's the interpreter notes the signal; it has nothing else to do.
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield lambda: watcher.is_asked
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)
        thread.join()
        os.close(reading)
