"""How records show themselves: one short line in a shell, a small block in a notebook.

All text of a trace is hostile here: it may hold markup, scripts or a million characters. Whatever goes
into HTML goes through `block`, which escapes it and puts it into `<code>` and `<pre>`, where notebooks
typeset no formulas either. Knows nothing about the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

MOST_CHARACTERS = 4000
"""Of one text in a block: a notebook stores what it shows."""
MOST_NAME_CHARACTERS = 40


def short(name: str) -> str:
    """A name between quotes, its middle left out where it is long."""
    return repr(_without_middle(name, MOST_NAME_CHARACTERS))


def counted(number: int, noun: str) -> str:
    """`1 token`, `1,234 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def line(record: object, name: str | None, *facts: str) -> str:
    """`Trace('sum-1': 1 message, ...)`; without a name, `Trace(...)`."""
    head = "" if name is None else f"{short(name)}: "
    return f"{type(record).__name__}({head}{', '.join(facts)})"


def block(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    texts: Iterable[tuple[str, str]] = (),
) -> str:
    """A title, a table and texts that unfold, as HTML without script or style sheet.

    Args:
        title: Plain text.
        columns: Plain text, one a column.
        rows: Plain text, as many cells a row.
        texts: Heading and text, in order; a long text loses its middle, and says how much.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td><code>{escape(cell)}</code></td>' for cell in row)}</tr>"
        for row in rows
    )
    unfolding = "".join(
        f"<details><summary>{escape(heading)}</summary>"
        f'<pre style="white-space: pre-wrap">{escape(_without_middle(text, MOST_CHARACTERS))}</pre>'
        "</details>"
        for heading, text in texts
    )
    return (
        f"<div><p><code>{escape(title)}</code></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{unfolding}</div>"
    )


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"
