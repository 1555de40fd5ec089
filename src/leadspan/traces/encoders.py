"""Tokenizers as the parts of a sequence need them. Knows the tokenizer's insides, no traces.

Two things must not happen to a text that continues another one: a dummy space before its first
word, and a word such as `<|im_end|>` in it becoming a control token.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from leadspan.errors import DataError


class ContinuationEncoder:
    """Encodes and decodes texts in the middle of a sequence, without special tokens of its own.

    Args:
        tokenizer: A fast one.
        written: Texts that a run writes around those of its traces: the chat template and the think
            markers. A token that stands in one of them is a control token, like every special one.
    """

    def __init__(self, tokenizer: Any, written: Iterable[str] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(
                f"tokenizer {tokenizer.name_or_path}: must be a fast one; got "
                f"{type(tokenizer).__name__}. Save it with a tokenizer.json."
            )
        texts = list(written)
        added = backend.get_added_tokens_decoder()
        controls = {
            token_id: token
            for token_id, token in added.items()
            if token.special or (token.content.strip() and any(token.content in t for t in texts))
        }
        for token in controls.values():
            token.special = True
        known = sorted(controls.values(), key=lambda token: -len(token.content))
        self._start = _prepared(copy.deepcopy(backend), known)
        continued = _without_dummy_space(backend)
        self._core = _prepared(continued, known) if continued else self._start
        self._ids = {token.content: token_id for token_id, token in controls.items()}
        self._spelled = re.compile("|".join(re.escape(token.content) for token in known))
        self._written = re.compile("|".join(map(_pattern, known)))

    def control(self, text: str) -> list[int]:
        """Ids of a marker; special tokens in it are matched."""
        self._core.encode_special_tokens = False
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids if text else []
        return ids

    def texts(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts in which special tokens are words like any other."""
        return _ids_of_words(self._core, texts)

    def starts(self, texts: list[str]) -> list[list[int]]:
        """The same of texts that start a sequence."""
        return _ids_of_words(self._start, texts)

    def has_control(self, text: str) -> bool:
        """Whether a control token is spelled out in a text."""
        return bool(self._ids) and self._spelled.search(text) is not None

    def mark(self, value: Any, marks: str) -> Any:
        """`value`, strings within strings, with `marks` around each control token it spells out."""
        if isinstance(value, str):
            return self._spelled.sub(lambda found: f"{marks[0]}{found[0]}{marks[1]}", value)
        if isinstance(value, Mapping):
            return {self.mark(key, marks): self.mark(inner, marks) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(inner, marks) for inner in value]
        return value

    def marked(self, text: str, marks: str) -> list[int]:
        """Ids of a text that starts a sequence, in which what stands between `marks` is words."""
        ids: list[int] = []
        words = ""
        for number, piece in enumerate(re.split(f"[{marks}]", text)):
            at = 0
            for found in self._written.finditer(piece) if number % 2 == 0 else ():
                ids += self._words(words + piece[at : found.start()], not ids)
                ids.append(self._ids[found[0].strip()])
                words, at = "", found.end()
            words += piece[at:]
        return ids + self._words(words, not ids)

    def _words(self, text: str, starts: bool) -> list[int]:
        if not text:
            return []
        return (self.starts if starts else self.texts)([text])[0]

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

    def normalize(self, text: str) -> str:
        """The text as the tokenizer's own normaliser leaves it, such as NFC."""
        normalizer = self._core.normalizer
        return normalizer.normalize_str(text) if normalizer is not None else text


def _ids_of_words(core: Any, texts: list[str]) -> list[list[int]]:
    core.encode_special_tokens = True
    return [encoding.ids for encoding in core.encode_batch_fast(texts, add_special_tokens=False)]


def _pattern(token: Any) -> str:
    """What a tokenizer matches as this token, with the white space that it takes away beside it."""
    before, after = (r"\s*" if strips else "" for strips in (token.lstrip, token.rstrip))
    return f"{before}{re.escape(token.content)}{after}"


def _prepared(core: Any, controls: list[Any]) -> Any:
    """The tokenizer without the truncation and padding of its last caller, its control tokens known."""
    core.no_truncation()
    core.no_padding()
    core.add_special_tokens(controls)
    return core


def _without_dummy_space(backend: Any) -> Any:
    """A tokenizer that puts no space before a text; None where this one does not either."""
    parts = (backend.normalizer, backend.pre_tokenizer, backend.decoder)
    states = [part.__getstate__().decode() for part in parts if part is not None]
    if not any(name in state for state in states for name in _PREFIXING):
        return None
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
