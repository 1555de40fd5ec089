"""Short hashes that tell one teacher and one tokenizer from another.

Knows nothing about caches.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

WEIGHT_FILES = ("*.safetensors", "*.bin")
NUM_SAMPLES = 64
SAMPLE_BYTES = 4096


def vocabulary_fingerprint(tokenizer: Any, vocab_size: int | None = None) -> str:
    """16 hex digits of the token-to-id mapping, or of its first `vocab_size` ids."""
    items = tokenizer.get_vocab().items()
    kept = sorted(item for item in items if vocab_size is None or item[1] < vocab_size)
    text = json.dumps(kept, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def weights_fingerprint(path: str, revision: str | None = None) -> str | None:
    """16 hex digits of a model's weights, or None where they are not on this machine.

    Of each file its size, its head and 64 evenly spaced blocks count: an optimiser step changes
    nearly every byte, so a sample finds it without reading a large model whole.
    """
    folder = model_folder(path, revision)
    if folder is None:
        return None
    files = sorted(file for glob in WEIGHT_FILES for file in folder.glob(glob))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for place in range(NUM_SAMPLES):
                stream.seek(max(0, size - SAMPLE_BYTES) * place // (NUM_SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


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
