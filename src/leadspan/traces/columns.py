"""Which of a row's columns may be which, for the line that a user is told to write.

Nothing that is guessed here is used: an unknown format stays refused. Knows no files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from leadspan.traces.sections import Segmented, split_completion

MOST_COLUMNS = 20
LOOKED_AT_CHARACTERS = 100_000
PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input", "user", "task")
COMPLETIONS = ("completion", "response", "output", "generation", "solution", "answer", "text")
COTS = ("cot", "reasoning", "thinking", "thought", "rationale", "chain_of_thought")
_PLAIN = re.compile(r"[A-Za-z][\w.-]{0,59}", re.ASCII)
ANSWERS = ("answer", "response", "output", "final")


def suggest_columns(row: Mapping[str, Any]) -> str:
    """The columns of a row and the `traces.columns` line that would have it read."""
    texts = {name: value for name, value in row.items() if isinstance(value, str) and value.strip()}
    chats = [name for name, value in row.items() if _is_chat(value)]
    marked = [name for name, text in texts.items() if _is_completion(text)]
    if chats:
        wanted = {"messages": chats[0]}
    elif not marked and (cot := _named(texts, COTS)):
        answer = _named(texts.keys() - {cot}, ANSWERS)
        prompt = _named(texts.keys() - {cot, answer}, PROMPTS)
        wanted = {"prompt": prompt, "cot": cot, "answer": answer}
    else:
        completion = marked[0] if marked else _named(texts, COMPLETIONS)
        prompt = _named(texts.keys() - {completion}, PROMPTS)
        wanted = {"prompt": prompt, "completion": completion}
    pairs = ", ".join(
        f"{ours}: {_written(theirs or 'YOUR_COLUMN')}" for ours, theirs in wanted.items()
    )
    shown = [_written(name) for name in list(row)[:MOST_COLUMNS]]
    more = f" and {len(row) - len(shown)} more" if len(row) > len(shown) else ""
    return f"Its columns are {', '.join(shown) or 'none'}{more}. Write traces.columns: {{{pairs}}}"


def _written(name: str) -> str:
    """A name as YAML takes it, control characters and all, within reason."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name[:60])


def _is_chat(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and bool({"role", "from"} & first.keys())


def _is_completion(text: str) -> bool:
    return isinstance(split_completion(text[:LOOKED_AT_CHARACTERS]), Segmented)


def _named(columns: Iterable[str], words: Iterable[str]) -> str:
    """The column that bears one of these words, the earlier word first; empty for none."""
    names = sorted(columns)
    exact = [name for word in words for name in names if name.lower() == word]
    return next(iter(exact + [n for word in words for n in names if word in n.lower()]), "")
