"""Why something of the hub could not be read: gated, not there, or out of reach, in one line.

Looks at errors alone, whichever library raised them; knows nothing about models and data sets.
"""

from __future__ import annotations

from collections.abc import Iterator

GATED = "gated on the hub: ask for access on its page there, then set HF_TOKEN to a token of that account"
MISSING = (
    "not on the hub, or private: check how owner/name is written; a private one needs HF_TOKEN"
)
NO_REVISION = "no such revision on the hub: `revision` must be a commit, a tag or a branch of it"
OFFLINE = (
    "not in the hub's cache on this machine, and the hub cannot be reached: fetch it where there is a "
    "network (hf download), unset HF_HUB_OFFLINE, or give a local folder"
)
WORDS = {
    "GatedRepoError": GATED,
    "RevisionNotFoundError": NO_REVISION,
    "RepositoryNotFoundError": MISSING,
    "DatasetNotFoundError": MISSING,
    "OfflineModeIsEnabled": OFFLINE,
    "LocalEntryNotFoundError": OFFLINE,
    "ConnectionError": OFFLINE,
    "ConnectError": OFFLINE,
}
"""By the class of an error; the first in this order speaks."""


def say_unread(error: BaseException) -> str:
    """Why a path could not be read: what the hub had against it, else the error's first line."""
    causes = list(_causes(error))
    names = {each.__name__ for cause in causes for each in type(cause).__mro__}
    # `datasets` has one class for what is not there and for what is gated.
    if "DatasetNotFoundError" in names and any("gated dataset" in str(each) for each in causes):
        return GATED
    found = next((said for name, said in WORDS.items() if name in names), "")
    return found or (str(error).strip() or type(error).__name__).splitlines()[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
