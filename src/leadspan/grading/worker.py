"""The process in which answers are compared by math-verify or a user's own function.

Started as `python -m leadspan.grading.worker LIMIT_SECONDS MEMORY_GIB`; reads one JSON question a
line, writes one JSON reply a line. The limit is CPU time of this process, so that a busy machine
changes no outcome: the kernel ends the process by SIGPROF. The alarm on the clock only ends it
where the parent is gone.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import sys
from importlib import import_module
from typing import Any

from leadspan.grading.compare import is_readable, same
from leadspan.grading.extract import find_pattern
from leadspan.grading.grade import Grade
from leadspan.grading.pool import OUT_OF_MEMORY, WALL_FACTOR

RANK = ("error", "correct", "wrong", "unparsed", "timeout")
"""With several golds the best outcome counts, but an error is never hidden."""


def main() -> None:
    """Answer questions until the parent closes the pipe."""
    limit_seconds, memory_gib = float(sys.argv[1]), float(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
    print("ready", file=replies, flush=True)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for line in sys.stdin:
        signal.alarm(math.ceil(limit_seconds * WALL_FACTOR) + 60)
        signal.setitimer(signal.ITIMER_PROF, limit_seconds)
        question = json.loads(line)
        try:
            reply = answer(question)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # what is left of the heap is not to be trusted
        except RecursionError:
            reply = {"outcome": "unparsed", "reason": "too deep"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps(reply), file=replies, flush=True)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answer one question of either kind of grading."""
    if question["kind"] == "pattern":
        return find_by(question["pattern"], question["completion"])
    if question["kind"] != "math":
        return judge_by(question)
    if question["is_about_gold"]:
        gold = question["golds"][0]
        readable = is_readable(gold) or _mathematics().read(gold) is not None
        return {"outcome": "correct" if readable else "unparsed"}
    verdicts = [same(question["extracted"], gold) for gold in question["golds"]]
    if True in verdicts or None not in verdicts:
        return {"outcome": "correct" if True in verdicts else "wrong"}
    unread = [
        gold for gold, verdict in zip(question["golds"], verdicts, strict=True) if verdict is None
    ]
    reply: dict[str, Any] = _mathematics().judge(question["extracted"], unread)
    return reply


def _mathematics() -> Any:
    return _import_untimed("leadspan.grading.mathematics")


def _import_untimed(name: str) -> Any:
    """Import a module; its start-up counts for no question."""
    left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
    module = import_module(name)
    signal.setitimer(signal.ITIMER_PROF, left)
    return module


def find_by(pattern: str, completion: str) -> dict[str, Any]:
    """What a user's pattern finds."""
    try:
        return {"found": find_pattern(completion, pattern)}
    except re.error as error:
        return {"error": f"answer_pattern is no regular expression ({error}). Mend it."}


def judge_by(question: dict[str, Any]) -> dict[str, Any]:
    """Call a user's `module:function(completion, gold)`, which returns a bool, an outcome or a Grade."""
    module, _, name = question["kind"].partition(":")
    try:
        function = getattr(_import_untimed(module), name)
    except (ImportError, AttributeError) as error:
        return {"error": f"cannot be imported ({error}). Run where the module can be found."}
    if question["is_about_gold"]:
        return {"outcome": "correct"}
    replies = [_reply(function, question["completion"], gold) for gold in question["golds"]]
    return min(replies, key=lambda reply: RANK.index(reply.get("outcome", "error")))


def _reply(function: Any, completion: str, gold: str) -> dict[str, Any]:
    try:
        verdict = function(completion, gold)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return {"error": f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    if isinstance(verdict, bool):
        verdict = "correct" if verdict else "wrong"
    if isinstance(verdict, str) and verdict in RANK[1:]:
        return {"outcome": verdict, "extracted": None}
    if isinstance(verdict, Grade):
        return {
            "outcome": verdict.outcome,
            "extracted": verdict.extracted,
            "reason": verdict.reason,
        }
    return {"error": f"must return a bool, an outcome or a Grade; got {verdict!r:.80}"}


if __name__ == "__main__":
    main()
