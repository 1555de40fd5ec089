"""Capture from a server, for teachers that fit no card here."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceABC
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leadspan.config import EndpointConfig
from leadspan.errors import CacheError, RunError
from leadspan.teachers.cache_format import CacheIdentity, CapturedSequence, pack_rows
from leadspan.teachers.served import Dialect, ScoringServer, likeliest


class ServerBackend:
    """A teacher behind an OpenAI-compatible `/completions`.

    Args:
        endpoint: The server.
        identity: Of the cache to be written; mode topk.
        dialect: How the server is asked, and how it answers.
    """

    def __init__(self, endpoint: EndpointConfig, identity: CacheIdentity, dialect: Dialect) -> None:
        self.identity = identity
        self._server = ScoringServer(endpoint, identity.k, identity.vocab_size, dialect)

    def prepare(self, output: Path) -> None:
        """Ask the server whether it has the model, before anything is written."""
        self._server.check()

    def capture(
        self, sequences: SequenceABC[tuple[str, NDArray[np.int32]]]
    ) -> Iterator[CapturedSequence]:
        """Yield sequences as the server answers.

        Raises:
            CacheError: An answer lacks log-probabilities or names tokens that do not exist.
        """
        asked = [(trace_id, tokens.tolist()) for trace_id, tokens in sequences]
        try:
            for place, rows in self._server.ask(asked):
                parts = likeliest(rows, self.identity.k, self.identity.vocab_size)
                yield CapturedSequence(*sequences[place], pack_rows(self.identity, *parts))
        except RunError as error:
            raise CacheError(
                f"{error} What is captured is kept; run the same capture again."
            ) from None
