"""What a user can mend: each error is one line that says where, what was found, and what to do."""

from __future__ import annotations


class LeadspanError(Exception):
    """Base of the errors that the command line shows as one line, with exit code 2."""


class ConfigError(LeadspanError):
    """A run.yaml, a `--set` or an argument does not describe a run."""


class DataError(LeadspanError):
    """Traces, benchmarks, models or tokenizers cannot be used as they are."""


class CacheError(LeadspanError):
    """A teacher cache is missing, damaged, or belongs to another teacher or tokenizer."""


class RunError(LeadspanError):
    """A run folder is locked, incomplete or belongs to another config."""


class FolderHeldError(RunError):
    """Another process is writing in a folder: what is there is alive, not failed."""


class RunStopped(RunError):  # noqa: N818 - nothing went wrong
    """A run was told to stop; its checkpoint is written and the same command goes on."""


class DamagedError(RunError):
    """A file is missing, or is not what was written."""
