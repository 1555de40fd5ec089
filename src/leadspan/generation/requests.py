"""What every generation back end takes and gives. Knows nothing about models, servers or grading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from leadspan.records import Message

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted."""

    key: str
    """Comes back on the completion; unique within one call."""
    prompt_ids: tuple[int, ...] = ()
    """The prompt as tokens, for back ends that run the model themselves."""
    prompt_text: str = ""
    """The same as text, for servers that continue a text."""
    messages: tuple[Message, ...] = ()
    """The same as messages, for servers that apply the chat template."""
    seed: int = 0
    """Decides every random choice of this answer, whatever is generated beside it."""
    max_new_tokens: int | None = None
    """Instead of the sampling config's."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, in the order in which answers finish."""

    key: str
    text: str
    """Without the end token; special tokens such as the think markers are kept."""
    num_tokens: int | None
    """Generated tokens, end token included; None where a server does not say."""
    finish_reason: FinishReason
    """`stop` at an end token, `length` at the limit, `error` when a server gave no answer."""
    seconds: float
    """From the start of this answer's work to its end; answers generated side by side overlap."""
    token_ids: tuple[int, ...] = ()
    """The generated ids, end token included; empty where a server does not give them."""
    entropies: tuple[float, ...] = ()
    """Of the model's distribution at each token, in nats; empty where the back end does not say."""
    error: str | None = None
    """What went wrong, for `error`."""
    is_transient: bool = False
    """True for an `error` that another try might mend."""


class Backend(Protocol):
    """Generates answers; the sampling settings are the back end's own."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish."""
        ...


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed from anything that identifies one answer, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
