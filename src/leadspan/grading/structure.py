r"""Take an answer apart: members of tuples, sets and lists, cells of matrices, sides of equations.

Text in canonical spelling in, text out; linear in the text. Knows nothing about values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPEN, CLOSE = "([{", ")]}"
JOINT = re.compile(
    r"\\text\s*\{\s*,?\s*(?:and|or|y|et|und|oder)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\(?:qquad|quad)"
)
ENVIRONMENT = re.compile(
    r"\\begin\s*\{([A-Za-z]+\*?)\}(?:\s*\{[lcr|@ ]*\})?|\\end\s*\{([A-Za-z]+\*?)\}"
)
MATRICES = frozenset(["matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"])
LISTS = frozenset(
    [
        "cases",
        "aligned",
        "gathered",
        "align",
        "align*",
        "gather",
        "gather*",
        "rcases",
        "dcases",
        "split",
    ]
)
ROW_END = re.compile(r"\\\\(?:\s*\[[^\]]{0,20}\])?")
RELATION = re.compile(r"\\(?:le|ge|ne|approx|equiv|in|subset(?:eq)?|sim|cong)(?![A-Za-z])|[<>=]")
NAME_PART = r"(?:\\text\s*\{[^{}]*\}|\\[A-Za-z]++|[A-Za-z])(?:\s*_\s*(?:\{[^{}]*\}|\w))?'*"
LABEL = re.compile(
    rf"\s*(?:\\(?:angle|overline|triangle|vec|operatorname|overrightarrow|measuredangle|bar|hat|mathbf)\b)?\s*\{{?(?:{NAME_PART}\s*)+\}}?\s*(?:\([^()]*\))?\s*"
)
COMMAND = re.compile(r"\\[A-Za-z]++")
SUM_LABEL = re.compile(rf"\s*{NAME_PART}(?:\s*[+-]\s*{NAME_PART})+\s*")
SYMBOL = re.compile(rf"\s*{NAME_PART}\s*")


@dataclass(frozen=True, slots=True)
class Group:
    """Members and what holds them together."""

    kind: str
    """The outer brackets, `()`, `[)` and so on; `{}` for a set; empty for a bare list; `matrix`."""
    members: tuple[str, ...]


def depths(text: str) -> list[int]:
    r"""Bracket depth in front of each character; `\{` counts as a bracket."""
    depth, found = 0, []
    for mark in text:
        if mark in CLOSE:
            depth -= 1
        found.append(depth)
        if mark in OPEN:
            depth += 1
    return found


def outer(text: str) -> tuple[str, str]:
    r"""The brackets around the whole text and what is inside; no brackets leave the text alone."""
    text = text.strip()
    for start, end, kind in (("\\{", "\\}", "{}"), ("\\langle", "\\rangle", "()")):
        if text.startswith(start) and text.endswith(end) and _holds_all(text[len(start) - 1 :]):
            return kind, text[len(start) : -len(end)].strip()
    if (
        len(text) > 1
        and text[0] in OPEN
        and text[-1] in CLOSE
        and text[-2] != "\\"
        and _holds_all(text)
    ):
        kind = text[0] + text[-1]
        return ("" if kind == "{}" else kind), text[1:-1].strip()
    return "", text


def _holds_all(text: str) -> bool:
    depth = depths(text)
    return min(depth[1:-1], default=1) >= 1 if len(text) > 1 and text[0] in OPEN else True


CONTINUED = re.compile(r"\\\\(?:\s*\[[^\]]{0,20}\])?\s*&?\s*(?==)")
"""A row end in front of `=`: the row goes on with the chain of the one before it."""


def unwrap(text: str) -> str:
    """Without brackets that only group, `(5)` and `{5}` are 5, and with the rows of a chain joined."""
    if "\\\\" in text and CONTINUED.search(text):
        text = CONTINUED.sub(" ", ENVIRONMENT.sub(" ", text)).replace("&", " ").strip()
    for _ in range(5):
        kind, inner = outer(text)
        plain_braces = kind == "" and inner != text
        if not (plain_braces or kind == "()") or (kind == "()" and len(split(inner)) > 1):
            break
        text = inner
    return text.strip()


def split(text: str, marks: str = ",;") -> list[str]:
    r"""Parts between commas, semicolons, `and`, `or` that stand outside any bracket."""
    depth = depths(text)
    cuts = [
        (place, place + 1) for place, mark in enumerate(text) if depth[place] == 0 and mark in marks
    ]
    cuts += [match.span() for match in JOINT.finditer(text) if depth[match.start()] == 0]
    parts, start = [], 0
    for first, last in sorted(cuts):
        if first >= start:
            parts.append(text[start:first])
            start = last
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip(" ,;")]


def read_group(text: str) -> Group | None:
    """The members of a tuple, set, interval, matrix or list; None for a single value."""
    matrix = read_matrix(text)
    if matrix is not None:
        return matrix
    kind, inner = outer(text)
    members = tuple(split(inner))
    if kind == "()" and len(members) == 1 and inner != text:
        return read_group(inner)
    if kind == "{}" or (kind and len(members) > 1):
        return Group(kind, members)
    if len(members) > 1:
        return Group("", members)
    return None


def read_matrix(text: str) -> Group | None:
    r"""Rows of a whole `\begin{pmatrix}...\end{pmatrix}` as members, cells joined by `&`.

    `cases` and `aligned` are lists.
    """
    text = outer(text)[1] if outer(text)[0] == "()" else text
    marks = list(ENVIRONMENT.finditer(text))
    if (
        len(marks) != 2
        or marks[0][1] is None
        or marks[0].start()
        or marks[1].end() != len(text.strip())
    ):
        return None
    name, inner = marks[0][1], text[marks[0].end() : marks[1].start()]
    rows = tuple(row.strip() for row in ROW_END.split(inner) if row.strip())
    if name in MATRICES:
        return Group("matrix", rows)
    if name in LISTS:
        return Group("", tuple(row.replace("&", " ").strip(" ,;") for row in rows))
    return None


def sides(text: str) -> tuple[list[str], list[str]]:
    """Operands and relation signs at the top level: `a < b = c` has three and two."""
    depth = depths(text)
    operands, signs, start = [], [], 0
    for match in RELATION.finditer(text):
        if depth[match.start()] == 0:
            operands.append(text[start : match.start()].strip())
            signs.append(match[0])
            start = match.end()
    return [*operands, text[start:].strip()], signs


def is_label(text: str, sums: bool = False) -> bool:
    r"""Whether the left side of `=` only names the value: `x`, `f(2)`, `\angle ABC`, `S_{10}`.

    `2x` and `a + 3z` do not; with `sums`, `m+n` does.
    """
    if len(text) > 120:
        return False
    bare = text.strip().strip("|").strip()
    if sums and SUM_LABEL.fullmatch(bare):
        return True
    if LABEL.fullmatch(bare):
        return True
    for mark in (":", "/"):
        if mark in bare:
            return all(LABEL.fullmatch(part) for part in bare.split(mark))
    fraction = re.fullmatch(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", bare)
    if fraction is not None:
        return all(LABEL.fullmatch(part) for part in fraction.groups())
    kind, inner = outer(bare)
    return kind in ("()", "[]") and all(LABEL.fullmatch(part) for part in split(inner))


def assignment(text: str, sums: bool = False) -> tuple[str, str] | None:
    r"""Name and value of `x = 5`, `(x, y) = (1, 2)`, `f(x) = x = 3`, `x = 1/3 \approx 0.33`.

    Of a chain the last exact value counts: what stands behind `\approx` is left out.
    """
    operands, signs = sides(text)
    if (
        not signs
        or text.lstrip().startswith("\\begin")
        or set(signs) - {"=", "\\approx", "\\equiv", "\\sim", "\\cong"}
    ):
        return None
    if "\\approx" in signs and not (signs[0] == "\\approx" and SYMBOL.fullmatch(operands[0])):
        operands = operands[: signs.index("\\approx") + 1]
    if len(operands) == 1:
        return "", operands[0]
    name = operands[0]
    if (
        len(operands) > 2
        or not name
        or is_label(name, sums)
        or not re.search("[A-Za-z]", COMMAND.sub("", name))
    ):
        return name, operands[-1]
    return None
