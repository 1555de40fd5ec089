"""The result of grading one answer, and the kinds of grading there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from leadspan.errors import ConfigError

Outcome = Literal["correct", "wrong", "unparsed", "timeout"]
KINDS = ("math", "numeric", "choice", "exact", "set")
OF_A_USER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Grade:
    """What came of one completion."""

    outcome: Outcome
    """`wrong` was read and differs; `unparsed` could not be read; `timeout` cost more than allowed."""
    extracted: str | None = None
    """The answer found in the completion, as it stands there; None where none was found."""
    reason: str = ""
    """How the answer was found or why it was not, in a few words, for counting."""

    @property
    def is_correct(self) -> bool:
        """True for `correct` alone."""
        return self.outcome == "correct"


def check_kind(kind: str, where: str = "grading") -> str:
    """Return `kind` if it is one of KINDS or a `module:function`.

    Raises:
        ConfigError: It is neither.
    """
    if kind in KINDS or OF_A_USER.fullmatch(kind):
        return kind
    raise ConfigError(
        f"{where}: grading must be one of {', '.join(KINDS)} or module:function; got {kind!r}."
    )
