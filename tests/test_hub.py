"""What is gated, not there or out of reach on the hub is told apart, for models and data sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadspan.config import ModelConfig
from leadspan.errors import DataError
from leadspan.hub import GATED, MISSING, NO_REVISION, OFFLINE, say_unread
from leadspan.models import load_tokenizer, read_model_config
from leadspan.traces.rows import iter_rows
from tests.hub_server import hub_server

READ = """
from leadspan.config import ModelConfig
from leadspan.errors import DataError
from leadspan.models import load_tokenizer, read_model_config
for name in ("me/gated", "me/missing"):
    for read in (load_tokenizer, read_model_config):
        try:
            read(ModelConfig(path=name))
        except DataError as error:
            print(error)
"""


def test_gated_and_missing_are_two_lines(tmp_path: Path) -> None:
    with hub_server({}) as server:
        server.gated.add("me/gated")
        environment = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", READ],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines() == [
        f"me/gated: no tokenizer could be loaded ({GATED}).",
        f"me/gated: no config could be read ({GATED}).",
        f"me/missing: no tokenizer could be loaded ({MISSING}).",
        f"me/missing: no config could be read ({MISSING}).",
    ]


@pytest.mark.parametrize("read", [load_tokenizer, read_model_config])
def test_a_model_out_of_reach(read: object) -> None:
    with pytest.raises(DataError) as error:
        read(ModelConfig(path="me/elsewhere"))  # type: ignore[operator]
    assert OFFLINE in str(error.value)


def test_a_data_set_out_of_reach() -> None:
    with pytest.raises(DataError) as error:
        next(iter_rows("me/elsewhere"))
    assert str(error.value) == f"me/elsewhere: cannot be read as a data set ({OFFLINE})."


def _named(name: str, text: str = "") -> BaseException:
    return type(name, (OSError,), {})(text)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_named("GatedRepoError"), GATED),
        (_named("DatasetNotFoundError", "'me/x' is a gated dataset on the Hub."), GATED),
        (_named("DatasetNotFoundError", "'me/x' doesn't exist on the Hub"), MISSING),
        (_named("RevisionNotFoundError"), NO_REVISION),
        (_named("ConnectError"), OFFLINE),
        (ValueError("first\nsecond"), "first"),
        (ValueError(), "ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_error_or_what_caused_it_is_named(error: BaseException, said: str) -> None:
    assert say_unread(error) == said
    wrapped = OSError("we could not")
    wrapped.__cause__ = error
    assert say_unread(wrapped) == (said if isinstance(error, OSError) else "we could not")
