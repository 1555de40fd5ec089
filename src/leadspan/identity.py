"""When two things are the same: configs, models, vocabularies, sequences, files, this package's code.

The one place that fingerprints anything; runs, caches, evaluations and the store of rendered
sequences ask it. A fingerprint is 16 hex digits over the whole content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from leadspan.config import DIVERGENCE_PARAMETER, LossConfig, RunConfig
from leadspan.errors import DataError
from leadspan.records import Example, Sequence

WEIGHT_FILES = ("*.safetensors", "*.bin")
NOT_OF_THE_MODEL = ("transformers_version", "_name_or_path")
"""Keys of a config.json that say who wrote it."""

SPEED_KEYS = (
    "training.micro_batch_tokens",
    "training.gradient_checkpointing",
    "training.checkpoint_every_steps",
    "traces.num_processes",
    "tracking",
    "evaluation",
    *(
        f"{server}.{key}"
        for server in ("teacher.endpoint", "rollout.endpoint")
        for key in ("base_url", "api_key_env", "concurrency", "timeout_seconds", "max_retries")
    ),
)
"""Keys, or whole parts, that may change while a run goes on: no weight depends on them."""


def effective(config: RunConfig) -> RunConfig:
    """The same run with each key that changes nothing at its default; equal runs become equal."""
    supervision, loss = config.supervision, config.loss
    if not supervision.mask_fraction:
        supervision = supervision.model_copy(update={"mask_seed": 0})
    teacher, teachers = config.teacher, config.teachers
    if loss.kd_ratio == 0:
        loss, teacher, teachers = LossConfig(kd_ratio=0), None, ()
    else:
        read, _ = DIVERGENCE_PARAMETER.get(loss.divergence, (None, None))
        unread = {key for key, _ in DIVERGENCE_PARAMETER.values()} - {read}
        loss = loss.model_copy(update={key: getattr(LossConfig(), key) for key in unread})
    return config.model_copy(
        update={
            "truncation": config.truncation.effective(),
            "supervision": supervision,
            "loss": loss,
            "teacher": teacher,
            "teachers": teachers,
        }
    )


def result_keys(config: RunConfig) -> dict[str, Any]:
    """What the trained weights depend on, as plain data: the effective config without SPEED_KEYS."""
    content = effective(config).model_dump(mode="json")
    for key in SPEED_KEYS:
        *parts, name = key.split(".")
        inner: Any = content
        for part in parts:
            inner = inner and inner[part]
        if inner:
            del inner[name]
    return content


def digest(content: str | bytes) -> str:
    """Fingerprint of a text or of bytes."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """Fingerprint of a file's whole content; read again only where size or time changed.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        about = path.stat()
        return _file_digest(str(path), about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


@lru_cache(maxsize=1024)
def _file_digest(path: str, _changed: int, _size: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def code_digest() -> str:
    """Fingerprint of this package's own code."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return digest("".join(file_digest(file) for file in files))


def vocabulary_fingerprint(tokenizer: Any, vocab_size: int | None = None) -> str:
    """Fingerprint of the token-to-id mapping, or of its first `vocab_size` ids."""
    items = tokenizer.get_vocab().items()
    kept = sorted(item for item in items if vocab_size is None or item[1] < vocab_size)
    return digest(json.dumps(kept, ensure_ascii=False))


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Fingerprint of a fast tokenizer's whole state, chat template aside."""
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return digest(tokenizer.backend_tokenizer.to_str() + special)


def sequences_fingerprint(sequences: Iterable[Sequence | Example]) -> str:
    """Fingerprint of token sequences: their ids, tokens, spans and given labels, in order."""
    state = hashlib.blake2b(digest_size=8)
    for given in sequences:
        sequence = given.sequence if isinstance(given, Example) else given
        ends = [sequence.prompt.end, sequence.cot.end, sequence.answer.end]
        state.update(f"{sequence.trace_id}\0{ends}{sequence.closed}".encode("utf-8", "replace"))
        state.update(np.ascontiguousarray(sequence.input_ids_T, dtype="<i4").tobytes())
        if isinstance(given, Example):
            state.update(given.supervised_T.tobytes())
    return state.hexdigest()


def model_fingerprint(path: str, revision: str | None = None) -> str | None:
    """Fingerprint of a model's config and weights, or None where they are not on this machine."""
    folder = model_folder(path, revision)
    if folder is None:
        return None
    files = sorted(file for glob in WEIGHT_FILES for file in folder.glob(glob))
    if not files:
        return None
    parts = [_config_digest(folder / "config.json")]
    return digest("".join([*parts, *(f"{file.name} {file_digest(file)}" for file in files)]))


def loaded_model_fingerprint(model: Any) -> str:
    """Fingerprint of a model in memory: its config, and each weight and buffer by name."""
    import torch

    config = {k: v for k, v in model.config.to_dict().items() if k not in NOT_OF_THE_MODEL}
    state = hashlib.blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def _config_digest(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    kept = {key: value for key, value in content.items() if key not in NOT_OF_THE_MODEL}
    return digest(json.dumps(kept, sort_keys=True))


def model_folder(path: str, revision: str | None = None) -> Path | None:
    """Where a model's files lie on this machine: the folder itself, or the hub's snapshot of it."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def resolved_revision(path: str, revision: str | None = None) -> str | None:
    """The commit behind a hub id where it is known, else `revision` as asked."""
    folder = model_folder(path, revision)
    if folder is not None and folder.parent.name == "snapshots":
        return folder.name
    return revision
