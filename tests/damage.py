"""Damage to files, drawn from a seed: for every test that asks whether it is noticed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leadspan.errors import LeadspanError

NUM_FLIPS = 30
NUM_CUTS = 6


def draw_damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What was done and what came of it: one byte replaced, or the end cut off."""
    draw = random.Random(f"{len(content)}")
    for _ in range(NUM_FLIPS):
        place = draw.randrange(len(content))
        byte = draw.choice([value for value in range(256) if value != content[place]])
        yield f"byte {place} is {byte}", content[:place] + bytes([byte]) + content[place + 1 :]
    for _ in range(NUM_CUTS):
        size = draw.randrange(len(content))
        yield f"cut to {size}", content[:size]
    yield "empty", b""


def outcome_of(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """What reading gave, or the one refusal that is allowed: an error a user can read."""
    try:
        return read(), None
    except LeadspanError as error:
        return None, str(error)


@contextmanager
def damaged(path: Path, content: bytes) -> Iterator[None]:
    """The file with another content, until the block ends."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
