r"""Read a set of real numbers, however it is written, as intervals with computed ends.

`x > 5`, `(5, \infty)`, `\{x \mid x > 5\}` and `\mathbb{R} \setminus (-\infty, 5]` are one region. A
boundary is a pair (value, 0 just before it or 1 just after it), so that open and closed ends sort
and merge alike. Knows nothing about tuples: `(1, 2)` is an interval to it.
"""

from __future__ import annotations

import re
from typing import Any

import mpmath

from leadspan.grading.expression import UnreadableError
from leadspan.grading.notation import outer, sides, split
from leadspan.grading.values import DIGITS, real_value, to_mp

Boundary = tuple[Any, int]
Region = tuple[tuple[Boundary, Boundary], ...]

INFINITY = mpmath.inf
EVERYTHING: Region = (((-INFINITY, 1), (INFINITY, 0)),)
KEPT_DIGITS = 30
REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\Re\b|\\mathbf\s*\{R\}|\\R\b")
REAL_WORDS = re.compile(
    r"\\text\s*\{\s*(?:all )?real(?: number)?s?\s*\}|(?:all )?real(?: number)?s?", re.IGNORECASE
)
EXPLICIT = re.compile(
    r"\\(?:cup|cap|infty|setminus|mathbb|le|ge|ne)(?![A-Za-z])|[<>]|\\(?:mid|in)(?![A-Za-z])"
)
BUILDER = re.compile(r"\\mid(?![A-Za-z])|\||:")
SET_SIGN = re.compile(r"\\(?:cup|cap|setminus)(?![A-Za-z])")
JOINED_BY_AND = re.compile(r"\\text\s*\{\s*,?\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z])")
NAME = re.compile(
    r"\s*(?:-?\s*[A-Za-z]\w{0,3}(?:_\{?\w+\}?)?(?:\s*\([A-Za-z]\))?|-?\s*\\[a-zA-Z]+)\s*"
)
CONSTANTS = ("e", "\\infty", "\\pi")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}


def is_explicit(text: str) -> bool:
    """Whether a text can only mean a region: it holds a relation, a union or an infinity."""
    kind, _ = outer(text)
    return kind in ("[)", "(]") or EXPLICIT.search(text) is not None


def read_region(text: str) -> Region | None:
    """The region that canonical text describes; None where it is not one."""
    try:
        with mpmath.workdps(DIGITS):
            return _read(text.strip(), 0)
    except UnreadableError:
        return None


def _read(text: str, depth: int) -> Region:
    if depth > 6 or not text:
        raise UnreadableError
    if REALS.fullmatch(text) or REAL_WORDS.fullmatch(text):
        return EVERYTHING
    half = re.fullmatch(rf"(?:{REALS.pattern})\s*[_^]\s*\{{?\s*(\+|-|>\s*0|<\s*0)\s*\}}?", text)
    if half is not None:
        return _half_line("<" if half[1][0] in "-<" else ">", mpmath.mpf(0))
    if text == "\\varnothing":
        return ()
    parts, signs = sides(text, SET_SIGN)
    if signs:
        region = _read(_member_of(parts[0]), depth + 1)
        for sign, part in zip(signs, parts[1:], strict=True):
            other = _read(_member_of(part), depth + 1)
            other = complement(other) if sign == "\\setminus" else other
            region = union(region, other) if sign == "\\cup" else intersect(region, other)
        return region
    membership = _member_of(text)
    if membership != text:
        return _read(membership, depth + 1)
    kind, inner = outer(text)
    if kind == "{}":
        return _read_braces(inner, depth)
    if kind:
        return _interval(kind, inner)
    return _conditions(text, depth)


def _member_of(text: str) -> str:
    r"""The set in `x \in ...`, `x = ...`."""
    operands, signs = sides(text)
    named = (
        len(signs) == 1
        and signs[0] in ("\\in", "=")
        and (NAME.fullmatch(operands[0]) or not operands[0])
    )
    is_set = named and (
        signs[0] == "\\in"
        or outer(operands[1])[0] in ("[)", "(]", "[]", "{}")
        or "\\cup" in operands[1]
    )
    return operands[1] if is_set else text


def _read_braces(inner: str, depth: int) -> Region:
    bar = BUILDER.search(inner)
    if bar is not None and NAME.fullmatch(sides(inner[: bar.start()])[0][0]):
        region = _read(inner[bar.end() :].strip(), depth + 1)
        within = sides(inner[: bar.start()])[0][1:]
        return intersect(region, _read(within[0], depth + 1)) if within else region
    return tuple(((value, 0), (value, 1)) for value in sorted({*map(_number, split(inner))}))


def _interval(kind: str, inner: str) -> Region:
    ends = split(inner)
    if len(ends) != 2:
        raise UnreadableError
    low, high = (_number(end) for end in ends)
    if low > high:
        raise UnreadableError
    start = (low, 0 if kind[0] == "[" and mpmath.isfinite(low) else 1)
    end = (high, 1 if kind[1] == "]" and mpmath.isfinite(high) else 0)
    return ((start, end),) if start < end else ()


def _number(text: str) -> Any:
    """A real number, rounded so that equal ends are equal."""
    bare = text.strip().removeprefix("+").strip()
    if bare.lstrip("- ") in ("\\infty", "\\infinity"):
        return -INFINITY if bare.startswith("-") else INFINITY
    value = real_value(bare)
    if value is None:
        raise UnreadableError
    return mpmath.mpf(mpmath.nstr(to_mp(value), KEPT_DIGITS))


def _conditions(text: str, depth: int) -> Region:
    """Relations joined by `or` (union), by `and` or commas (intersection)."""
    pieces = JOINED_BY_AND.split(text)
    if len(pieces) > 1 and all(pieces):
        region = EVERYTHING
        for piece in pieces:
            region = intersect(region, _read(piece.strip(), depth + 1))
        return region
    parts = split(text)
    if len(parts) > 1:
        if "\\ne" in parts[0]:  # x \\ne 1, 2
            name = parts[0].partition("\\ne")[0] + "\\ne "
            parts = [part if sides(part)[1] else name + part for part in parts]
        regions = [_read(part, depth + 1) for part in parts]
        narrowing = "," in text and not re.search(r"(?<![A-Za-z])or(?![A-Za-z])", text)
        result = regions[0]
        for region in regions[1:]:
            result = intersect(result, region) if narrowing else union(result, region)
        return result
    return _relation(text)


def _relation(text: str) -> Region:
    operands, signs = sides(text)
    if not signs or set(signs) - FLIPPED.keys() or set(signs) == {"="}:
        raise UnreadableError
    unknown = [place for place, operand in enumerate(operands) if _is_unknown(operand)]
    if len(unknown) != 1:
        raise UnreadableError
    place = unknown[0]
    region = EVERYTHING
    if place:
        region = _half_line(FLIPPED[signs[place - 1]], _number(operands[place - 1]))
    if place < len(signs):
        region = intersect(region, _half_line(signs[place], _number(operands[place + 1])))
    if len(operands) > 3 or (len(operands) == 3 and place != 1):
        raise UnreadableError
    name = operands[place]
    if name.startswith("|"):
        region = intersect(region, (((mpmath.mpf(0), 0), (INFINITY, 0)),))
        region = union(region, mirror(region))
    return mirror(region) if name.lstrip().startswith("-") else region


def _is_unknown(operand: str) -> bool:
    bare = operand[1:-1] if operand.startswith("|") and operand.endswith("|") else operand
    return NAME.fullmatch(bare) is not None and bare.strip().lstrip("-") not in CONSTANTS


def _half_line(sign: str, value: Any) -> Region:
    point: Region = (((value, 0), (value, 1)),)
    if sign in ("=", "\\ne"):
        return point if sign == "=" else complement(point)
    if sign in ("<", "\\le"):
        return (((-INFINITY, 1), (value, 1 if sign == "\\le" and mpmath.isfinite(value) else 0)),)
    return (((value, 0 if sign == "\\ge" and mpmath.isfinite(value) else 1), (INFINITY, 0)),)


def union(left: Region, right: Region) -> Region:
    """Both together, overlapping intervals merged."""
    merged: list[tuple[Boundary, Boundary]] = []
    for start, end in sorted([*left, *right]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def complement(region: Region) -> Region:
    """All other real numbers."""
    edges = [(-INFINITY, 1), *(edge for interval in region for edge in interval), (INFINITY, 0)]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((start, end) for start, end in pairs if start < end)


def intersect(left: Region, right: Region) -> Region:
    """What is in both."""
    return complement(union(complement(left), complement(right)))


def mirror(region: Region) -> Region:
    """The region of -x."""
    return tuple(
        sorted(((-end[0], 1 - end[1]), (-start[0], 1 - start[1])) for start, end in region)
    )
