"""The process in which answers are compared by math-verify or a user's own function.

Started as `python -m leadspan.grading.worker LIMIT_SECONDS MEMORY_GIB`; reads one JSON question a
line, writes one JSON reply a line. The parent kills it at the limit; the alarm below only ends it
where the parent is gone.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    """Answer questions until the parent closes the pipe."""
    limit_seconds, memory_gib = float(sys.argv[1]), float(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    from leadspan.grading.mathematics import judge

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        signal.alarm(math.ceil(limit_seconds) + 5)
        question = json.loads(line)
        try:
            if question["kind"] == "math":
                reply: dict[str, Any] = judge(question["extracted"], question["golds"])
            else:
                reply = judge_by(question["kind"], question["completion"], question["golds"])
        except MemoryError:
            os._exit(1)  # what is left of the heap is not to be trusted
        except RecursionError:
            reply = {"outcome": "unparsed", "reason": "too deep"}
        signal.alarm(0)
        print(json.dumps(reply), file=replies, flush=True)


def judge_by(name: str, completion: str, golds: list[str]) -> dict[str, Any]:
    """Call a user's `module:function(completion, golds)`, which returns an outcome or a bool."""
    module, _, function = name.partition(":")
    verdict = getattr(import_module(module), function)(completion, golds)
    if isinstance(verdict, bool):
        return {"outcome": "correct" if verdict else "wrong", "extracted": None}
    return {"outcome": verdict.outcome, "extracted": verdict.extracted}


if __name__ == "__main__":
    main()
