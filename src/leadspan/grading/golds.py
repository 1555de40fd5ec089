r"""Read the golds of a row.

A gold may be text, a number, a list of accepted answers, a mapping such as `{"ground_truth": "540"}`,
the same mapping as JSON or Python text, a solution that ends in `#### 540`, or one that ends in
`\boxed{540}`.
"""

from __future__ import annotations

import ast
import json
import math
import numbers
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from leadspan.grading.extract import find_box

KEYS = (
    "ground_truth", "reference_answer", "final_answer", "expected_answer", "correct_answer", "gold", "golds",
    "answer", "answers", "gt", "target", "label", "solution", "value", "text",
)  # fmt: skip
"""Where a mapping holds its gold, the most telling first."""
MAX_MAPPING_CHARS = 20_000
"""A longer text is not read as a mapping."""
MAX_DEPTH = 6
ABSENT = frozenset(["nan", "null"])
"""What tables write for no value."""
QUOTED_START = re.compile(r"""\s*(?:\{\s*["']|\[\s*(?:["']|\{\s*["']))""")
"""A list of bare numbers is an interval or a vector, and `{1, 2}` a set: both stay as text."""
ESCAPED = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\v": r"\v"}
PLAIN_NUMBER = re.compile(r"(-?)([1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.(\d+))?")


def read_golds(value: Any, literal: bool = False) -> tuple[str, ...]:
    r"""The accepted answers that a row's value holds; none where it says that there is none.

    Linear in the text. `025` and `27.0` become `25` and `27`; other text stays as it is written.

    Args:
        value: Text, number, bool, list, mapping, or None.
        literal: Take text as it stands, for gradings in which `043` is not 43 and a box or a
            mapping is part of the answer.

    Raises:
        ValueError: It is something else, or a mapping without a known key; the message is a short
            reason such as `a mapping without a gold (keys: a, b)`.
    """
    return tuple(dict.fromkeys(_read(value, literal, MAX_DEPTH)))


def _read(value: Any, literal: bool, depth: int) -> list[str]:
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return _read_text(value.strip(), literal, depth)
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value)]
    if isinstance(value, numbers.Number):
        return _read_number(value, literal)
    if isinstance(value, Mapping):
        return _read_mapping(value, literal, depth)
    if hasattr(value, "tolist"):  # numpy arrays and scalars of Parquet rows
        return _read(value.tolist(), literal, depth - 1)
    if isinstance(value, list | tuple):
        return [gold for entry in value for gold in _read(entry, literal, depth - 1)]
    raise ValueError(f"neither text, number, list nor mapping but {type(value).__name__}")


def _read_number(value: Any, literal: bool) -> list[str]:
    if isinstance(value, numbers.Real | Decimal):
        if math.isnan(value):
            return []
        if math.isinf(value):
            raise ValueError("an infinite number")
    return [str(value) if literal else plain_number(str(value))]


def _read_mapping(value: Mapping[Any, Any], literal: bool, depth: int) -> list[str]:
    """The gold under the first key that holds one, else of the first inner mapping that does."""
    there = [key for key in KEYS if key in value]
    for key in there:
        golds = _read(value[key], literal, depth - 1)
        if golds:
            return golds
    for inner in value.values():
        if isinstance(inner, Mapping) and not there:
            return _read_mapping(inner, literal, depth - 1) if depth > 1 else []
    if there or not value:
        return []
    raise ValueError(f"a mapping without a gold (keys: {', '.join(map(str, list(value)[:6]))})")


def _read_text(text: str, literal: bool, depth: int) -> list[str]:
    if not text or text.casefold() in ABSENT:
        return []
    if literal:
        return [text]
    if QUOTED_START.match(text) and len(text) <= MAX_MAPPING_CHARS:
        return _read(_parse(text), literal, depth - 1)
    _, mark, tail = text.rpartition("####")
    if mark and tail.strip() and "\n" not in tail.strip():
        text = tail.strip()
    box = find_box(text)
    text = text if box is None else box.strip()
    return [plain_number(text)] if text else []


def _parse(text: str) -> Any:
    """A mapping or list written as JSON or as Python literals; no code is run."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return _with_backslashes(parse(text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise ValueError("starts as a mapping or list but is not one")


def _with_backslashes(value: Any) -> Any:
    r"""Undo escapes that were meant as LaTeX: `"\frac"` in JSON is a form feed and `rac`."""
    if isinstance(value, str):
        return "".join(ESCAPED.get(mark, mark) for mark in value)
    if isinstance(value, dict):
        return {key: _with_backslashes(entry) for key, entry in value.items()}
    return [_with_backslashes(entry) for entry in value] if isinstance(value, list) else value


def plain_number(text: str) -> str:
    """`1,234` as 1234, `025` as 25, `27.0` as 27; anything else unchanged."""
    match = PLAIN_NUMBER.fullmatch(text)
    if match is None:
        return text
    whole = match[2].replace(",", "").lstrip("0") or "0"
    part = (match[3] or "").rstrip("0")
    return match[1] + whole + ("." + part if part else "")
