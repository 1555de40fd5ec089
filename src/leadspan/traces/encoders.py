"""Tokenizers as the parts of a sequence need them. Knows the tokenizer's insides, no traces.

Two things must not happen to a text that continues another one: a dummy space before its first
word, and a word such as `<|im_end|>` in it becoming a control token.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from leadspan.errors import DataError


class ContinuationEncoder:
    """Encodes and decodes texts in the middle of a sequence, without special tokens of its own."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(
                f"tokenizer {tokenizer.name_or_path}: must be a fast one; got "
                f"{type(tokenizer).__name__}. Save it with a tokenizer.json."
            )
        self._core = _without_dummy_space(backend)
        # A tokenizer keeps the truncation and padding of its last caller.
        self._core.no_truncation()
        self._core.no_padding()

    def control(self, text: str) -> list[int]:
        """Ids of a marker; special tokens in it are matched."""
        self._core.encode_special_tokens = False
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids if text else []
        return ids

    def texts(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts in which special tokens are words like any other."""
        self._core.encode_special_tokens = True
        encoded = self._core.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def counts_before(self, texts: list[str], offsets: list[int]) -> list[int]:
        """How many tokens of each text begin before a character of it."""
        self._core.encode_special_tokens = True
        encoded = self._core.encode_batch(texts, add_special_tokens=False)
        return [
            sum(1 for start, _ in encoding.offsets if start < offset)
            for encoding, offset in zip(encoded, offsets, strict=True)
        ]

    def decode(self, ids_of_texts: list[list[int]]) -> list[str]:
        """The texts of ids, to the last space."""
        decoded: list[str] = self._core.decode_batch(ids_of_texts, skip_special_tokens=False)
        return decoded

    def normalise(self, text: str) -> str:
        """The text as the tokenizer's own normaliser leaves it, such as NFC."""
        normalizer = self._core.normalizer
        return normalizer.normalize_str(text) if normalizer is not None else text


def _without_dummy_space(backend: Any) -> Any:
    parts = (backend.normalizer, backend.pre_tokenizer, backend.decoder)
    states = [part.__getstate__().decode() for part in parts if part is not None]
    if not any(name in state for state in states for name in _PREFIXING):
        return copy.deepcopy(backend)
    spec = json.loads(backend.to_str())
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        spec[name] = _continued(spec[name])
    return type(backend).from_str(json.dumps(spec))


_PREFIXING = ('"Metaspace"', '"Prepend"', '"add_prefix_space":true')


def _continued(part: Any) -> Any:
    """A component of tokenizer.json that neither adds nor strips a dummy space."""
    if part is None or part["type"] in ("Prepend", "Strip"):
        return None
    if part["type"] == "Sequence":
        name = next(key for key in part if key != "type")
        inner = [kept for one in part[name] if (kept := _continued(one)) is not None]
        return {**part, name: inner} if inner else None
    changes = {"prepend_scheme": "never", "add_prefix_space": False}
    return {**part, **{key: value for key, value in changes.items() if key in part}}
