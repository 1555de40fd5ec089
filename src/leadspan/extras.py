"""What a run needs besides leadspan itself: packages of its extras, a key, a GPU. Loads none of them.

Asked before a model is loaded; uses no network.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from leadspan.config import PACKING, RunConfig
from leadspan.errors import ConfigError
from leadspan.precision import own_device

WANDB = "https://api.wandb.ai"
WITHOUT_KEY = ("offline", "dryrun", "disabled")
"""Modes of wandb that send nothing."""


def check_installed(module: str, key: str, extra: str) -> None:
    """Check that a package can be imported.

    Args:
        module: Its name in Python.
        key: Of run.yaml, with the value that asks for it.
        extra: Of leadspan, which brings it.

    Raises:
        ConfigError: It is not installed.
    """
    is_loaded = sys.modules.get(module) is not None
    if not is_loaded and importlib.util.find_spec(module) is None:
        raise ConfigError(f'{key} needs {module}. pip install "leadspan[{extra}]"')


def check_tracker(name: str) -> None:
    """Check that a tracker is installed, and has the key that it would ask for.

    Raises:
        ConfigError: It is not, or has none.
    """
    check_installed(name, f"tracking.tracker {name}", "track")
    if name == "wandb" and not _has_wandb_key():
        raise ConfigError(
            "tracking.tracker wandb needs a key: there is none in WANDB_API_KEY or in ~/.netrc. Run `wandb "
            "login`, or set WANDB_MODE=offline to keep the run on this machine."
        )


def _has_wandb_key() -> bool:
    environment = os.environ
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if environment.get("WANDB_MODE") in WITHOUT_KEY:
        return True
    host = urlparse(environment.get("WANDB_BASE_URL") or WANDB).hostname or ""
    names = ("NETRC", "~/.netrc", "~/_netrc")
    paths = [Path(environment.get(name, name)).expanduser() for name in names]
    try:
        return any(netrc.netrc(path).authenticators(host) for path in paths if path.is_file())
    except (netrc.NetrcParseError, OSError):
        return False


def iter_missing(config: RunConfig) -> Iterator[str]:
    """What a run asks for and this machine does not have, a line each."""
    for name, key, extra in _packages(config):
        try:
            check_installed(name, key, extra)
        except ConfigError as error:
            yield str(error)
    if config.tracking.tracker is not None:
        try:
            check_tracker(config.tracking.tracker)
        except ConfigError as error:
            yield str(error)
    if own_device() == "cuda":
        return
    for teacher in config.all_teachers:
        if teacher.is_live and teacher.quantization is not None:
            yield f"teacher.quantization {teacher.quantization} needs a GPU; there is none here."
    for part, model in (
        ("student", config.student),
        *(("teacher", t) for t in config.all_teachers),
    ):
        if model.attention in PACKING:
            yield f"{part}.attention {model.attention} needs a GPU; there is none here. Use sdpa."


def check_extras(config: RunConfig) -> None:
    """Check that all that a run needs is here.

    Raises:
        ConfigError: Something is missing; a line each.
    """
    if missing := list(iter_missing(config)):
        raise ConfigError("\n".join(missing))


def _packages(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Packages, the keys that ask for them, and the extras that bring them."""
    if config.student.lora is not None:
        yield "peft", "student.lora", "lora"
    for teacher in config.all_teachers:
        if teacher.is_live and teacher.quantization is not None:
            yield "bitsandbytes", f"teacher.quantization {teacher.quantization}", "quantization"
        if teacher.endpoint is not None:
            yield "openai", "teacher.endpoint", "endpoint"
    backends: list[tuple[str, str]] = []
    if config.evaluation.benchmarks:
        backends.append(("evaluation.backend", config.evaluation.backend))
    if config.rollout is not None:
        backends.append(("rollout.backend", config.rollout.backend))
    for key, backend in backends:
        if backend == "vllm":
            yield "vllm", f"{key} vllm", "vllm"
        elif backend == "endpoint":
            yield "openai", f"{key} endpoint", "endpoint"
