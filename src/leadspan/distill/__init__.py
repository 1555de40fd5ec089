"""Teach a student: losses, teacher, batches, the training loop.

The public function and this room share one name, so the room can be called: `leadspan.distill(...)`
is `leadspan.distill.run.distill(...)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from leadspan.distill.run import distill

        return distill(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
