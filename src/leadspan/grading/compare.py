r"""Compare two answers as written: text, numbers, expressions, lists, regions, equations.

`same` gives a verdict or None where it cannot read one side; math-verify is asked then. Evaluates
nothing as code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

import mpmath

from leadspan.grading.expression import parse
from leadspan.grading.notation import (
    SYMBOL,
    Group,
    assignment,
    canonical,
    outer,
    read_group,
    sides,
    split,
    unwrap,
)
from leadspan.grading.numbers import (
    TEXT,
    normalize,
    read_number,
    read_unit,
    same_number,
    split_unit,
)
from leadspan.grading.regions import is_explicit, read_region
from leadspan.grading.values import DIGITS, same_expression, same_value, to_mp, values_at_points

MAX_MEMBERS = 60
MAX_DEPTH = 5
SIGN_PAIR = re.compile(r"\\(pm|mp)(?![A-Za-z])")
EMPTY = re.compile(
    r"\\varnothing|\\\{\s*\\\}|\\text\s*\{\s*(?:empty set|no (?:real )?solutions?|none)\s*\}"
    r"|(?:the )?empty set|no (?:real )?solutions?",
    re.IGNORECASE,
)
LABEL_IN_TEXT = re.compile(
    r"\\text\s*\{[^{}]{0,60}?(?:\b(?:is|are|be|equals?)|[:=])\s*\}\s*[:=]?\s*(?=\S)", re.IGNORECASE
)
"""`\\text{The total is } 42`."""
LABEL_WITHIN = re.compile(
    r"(\\text\s*\{)?\s*(?:the )?(?:final )?(?:answers?|ans|result|solutions?)\s*"
    r"(?:(?:is|are)\b|[:=])\s*[:=]?\s*(?=[^}\s])",
    re.IGNORECASE,
)
"""`\\text{Answer: 33}`."""
CHOICE_LABEL = re.compile(
    r"^(?:\\text\s*\{\s*\(?([A-J])\)?[.:)]?\s*\}|\(([A-J])\)|([A-J])[.:)])[\s.:=]*(?=\S)"
)
CHOICE_WITHIN = re.compile(r"^\\text\s*\{\s*\(?([A-J])(?:\)|[.:])\s*([^{}]+)\}(.*)$")
MODULUS = re.compile(
    r"\(?\s*\\(?:p?mod|bmod|pod)\s*(?:\{[^{}]*\}|\w+)\s*\)?$|\(\s*(?:\\text\s*\{)?\s*mod\b[^()]*\)$"
)
BASE = re.compile(r"^([0-9A-F]+)\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\w+)\s*\}?\s*\}|(\d))$")
BASE_WORDS = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
BASES = {word: str(base) for base, word in enumerate(BASE_WORDS, start=2)} | {"sixteen": "16"}
WORDS = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?:[ '’-][^\W\d_]+)*\.?")
INDEXED = re.compile(r"\s*\\?([A-Za-z]+)\s*_\s*\{?\s*\w+\s*\}?\s*")


def same_text(left: str, right: str) -> bool:
    """Equal after `normalize`; empty is equal to nothing."""
    left, right = normalize(left), normalize(right)
    return bool(left) and left == right


def is_words(text: str) -> bool:
    r"""Whether an answer is words rather than algebra: `\text{B}`, `Tuesday`, `no solution`.

    To a computer algebra system `east` is e*a*s*t, the same as `seat`. Up to three bare letters are
    taken for algebra.
    """
    text = canonical(text)
    bare = TEXT.sub(r"\1", text).strip().strip("$.").strip()
    if TEXT.sub("", text).strip(" $.()") == "" and bare and not any(c.isdigit() for c in bare):
        return True
    if WORDS.fullmatch(bare) is None:
        return False
    constant = parse(bare)  # such as `infinity`
    return constant is None or not constant.names <= {"infty"}


def same(answer: str, gold: str) -> bool | None:
    """Whether two answers say the same; None where one of them is not read here.

    Args:
        answer: As extracted.
        gold: One accepted answer, as it is written.
    """
    if same_text(answer, gold):
        return True
    verdicts = [
        _same(a, g, 0) for a in _readings(canonical(answer)) for g in _readings(canonical(gold))
    ]
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _readings(text: str) -> list[str]:
    r"""What a text may stand for: `\textbf{(C)}\ 12` is the letter and the 12."""
    text = LABEL_IN_TEXT.sub("", text, count=1) if LABEL_IN_TEXT.match(text) else text
    label = LABEL_WITHIN.match(text)
    text = text if label is None else (label[1] or "") + text[label.end() :]
    within = CHOICE_WITHIN.match(text)
    if within is not None:
        return [within[1], f"{within[2]}{within[3]}".strip()]
    label = CHOICE_LABEL.match(text)
    if label is not None and label.end() < len(text):
        return [next(group for group in label.groups() if group), text[label.end() :]]
    return [text]


def _same(left: str, right: str, depth: int) -> bool | None:
    """Two canonical texts."""
    if depth > MAX_DEPTH:
        return None
    left, right = unwrap(left), unwrap(right)
    if same_text(left, right):
        return True
    if EMPTY.fullmatch(left) or EMPTY.fullmatch(right):
        return bool(EMPTY.fullmatch(left) and EMPTY.fullmatch(right))
    numbers = _same_numbers(left, right)
    if numbers:
        return True
    for rule in (_same_regions, _same_groups, _same_equations):
        verdict = rule(left, right, depth)
        if verdict is not None:
            return verdict
    return False if numbers is False else _same_leaves(left, right)


def _same_numbers(left: str, right: str) -> bool | None:
    a, b = read_number(left), read_number(right)
    return None if a is None or b is None else same_number(a, b)


def _same_regions(left: str, right: str, depth: int) -> bool | None:
    if not (is_explicit(left) or is_explicit(right)):
        return None
    a, b = read_region(left), read_region(right)
    return None if a is None or b is None else a == b


def _same_groups(left: str, right: str, depth: int) -> bool | None:
    """Lists, tuples, sets and matrices, with or without names."""
    a, b = _group(left), _group(right)
    if a is None and b is None:
        return None
    named = _same_named(left, right, depth)
    if named is not None:
        return named
    a = a or Group("{}", (_value_of(left),))
    b = b or Group("{}", (_value_of(right),))
    if "matrix" in (a.kind, b.kind):
        return _same_matrices(a, b, depth)
    if a.kind in ("", "{}") and b.kind in ("", "{}"):
        return _in_any_order(a.members, b.members, depth)
    brackets = {a.kind, b.kind} - {""}
    if "{}" in brackets or (len(brackets) > 1 and len(a.members) == 2):
        return False
    if a.kind == b.kind == "()" or "" not in (a.kind, b.kind) or len(a.members) == len(b.members):
        return _in_order(a.members, b.members, depth)
    return False


def _same_matrices(left: Group, right: Group, depth: int) -> bool | None:
    """Cell by cell; a row or column against a tuple or a list in its order."""
    rows = [
        [row.split("&") if side.kind == "matrix" else [row] for row in side.members]
        for side in (left, right)
    ]
    if left.kind != right.kind:
        is_vector = all(len(side) == 1 or all(len(row) == 1 for row in side) for side in rows)
        if not is_vector or "{}" in (left.kind, right.kind):
            return None
    elif [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    cells = [[cell for row in side for cell in row] for side in rows]
    return _in_order(cells[0], cells[1], depth)


def _group(text: str) -> Group | None:
    r"""The members, without `x =` or `x \in` in front of all of them, each sign of `\pm` written out."""
    set_of = re.match(r"[^=<>]{1,40}?\\in(?![A-Za-z])\s*(?=\\\{|\{)", text)
    text = text[set_of.end() :] if set_of else text
    whole = assignment(text)
    group = read_group(text)
    if group is None or (whole is not None and len(split(text)) == 1):
        value = whole[1] if whole is not None else text
        group = read_group(value)
        if group is None and SIGN_PAIR.search(value):
            group = Group("", (value,))
    if group is None or group.kind == "matrix":
        return group
    if group.kind == "" and ";" in text and len(split(text, ";")) > 1:
        rows = split(text, ";")
        if all(len(split(row, ",")) > 1 for row in rows):
            return Group("", tuple(f"({', '.join(_values(split(row, ',')))})" for row in rows))
    if group.kind == "()" and any(map(SIGN_PAIR.search, group.members)):
        group = Group("", (f"({', '.join(group.members)})",))
    members = group.members if group.kind not in ("", "{}") else _values(group.members)
    return Group(group.kind, tuple(sign for member in members for sign in _both_signs(member)))


def _values(members: Sequence[str]) -> tuple[str, ...]:
    return tuple(_value_of(member) for member in members)


def _value_of(member: str) -> str:
    """The 5 of `x = 5`; other members stay."""
    found = assignment(member)
    return member if found is None else found[1]


def _both_signs(member: str) -> list[str]:
    if not SIGN_PAIR.search(member) or outer(member)[0] not in ("", "()"):
        return [member]
    plus = SIGN_PAIR.sub(lambda match: "+" if match[1] == "pm" else "-", member)
    minus = SIGN_PAIR.sub(lambda match: "-" if match[1] == "pm" else "+", member)
    return [plus.removeprefix("+"), minus.removeprefix("+")]


def _same_named(left: str, right: str, depth: int) -> bool | None:
    """`x = 3, y = 4` by name, and against `(3, 4)` in its order."""
    a, b = _named(left), _named(right)
    if a is None and b is None:
        return None
    if a is not None and b is not None:
        if a.keys() != b.keys():
            return None
        return _in_order([a[name] for name in a], [b[name] for name in a], depth)
    named, other = (a, right) if a is not None else (b, left)
    assert named is not None
    group = read_group(other)
    if group is None:
        return None
    if len({match[1] for name in named if (match := INDEXED.fullmatch(name))}) == 1:
        return _in_any_order(list(named.values()), group.members, depth)
    if group.kind == "{}":
        return False
    return _in_order(list(named.values()), _values(group.members), depth)


def _named(text: str) -> dict[str, str] | None:
    """Values by name where each member has a name of its own."""
    whole = assignment(text)
    if whole is not None and outer(whole[0])[0] == "()":
        names, values = split(outer(whole[0])[1]), read_group(whole[1])
        if values is None or values.kind != "()" or len(values.members) != len(names):
            return None
        return {normalize(name): value for name, value in zip(names, values.members, strict=True)}
    group = read_group(text)
    if group is None or group.kind not in ("", "()"):
        return None
    pairs = [assignment(member) for member in group.members]
    names = [normalize(pair[0]) for pair in pairs if pair is not None and SYMBOL.fullmatch(pair[0])]
    if len(names) != len(group.members) or len(set(names)) != len(names):
        return None
    return {name: pair[1] for name, pair in zip(names, pairs, strict=True) if pair is not None}


def _in_order(left: Sequence[str], right: Sequence[str], depth: int) -> bool | None:
    if len(left) != len(right):
        return False
    verdicts = [_same(a, b, depth + 1) for a, b in zip(left, right, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _in_any_order(left: Sequence[str], right: Sequence[str], depth: int) -> bool | None:
    if len(left) > MAX_MEMBERS or len(right) > MAX_MEMBERS:
        return None
    table = [[_same(a, b, depth + 1) for b in right] for a in left]
    rows, columns = table, list(zip(*table, strict=True))
    if all(True in row for row in rows) and all(True in column for column in columns):
        return True
    unread = any(True not in line and None in line for line in [*rows, *columns])
    return None if unread else False


def _same_equations(left: str, right: str, depth: int) -> bool | None:
    r"""`x = 5` against `5` or `x = 5`, and equations that say the same of their variables."""
    a, b = sides(left), sides(right)
    if not a[1] and not b[1]:
        return None
    if not b[1] or not a[1]:
        named = assignment(left, sums=True) if a[1] else assignment(right)
        if named is None:
            return False if "=" in (a[1] or b[1]) else None
        rounded = (a if a[1] else b)[0][-1] if "\\approx" in (a[1] or b[1]) else None
        plain = right if a[1] else left
        verdict = _same(named[1], plain, depth + 1)
        decimal = read_number(plain)
        if not verdict and rounded is not None and decimal is not None and decimal.is_decimal:
            return _same(rounded, plain, depth + 1)
        return verdict
    named_left, named_right = assignment(left), assignment(right)
    if named_left is not None and named_right is not None:
        verdict = _same(named_left[1], named_right[1], depth + 1)
        if verdict or normalize(named_left[0]) == normalize(named_right[0]):
            return verdict
    return _same_zeros(a, b)


def _same_zeros(
    left: tuple[list[str], list[str]], right: tuple[list[str], list[str]]
) -> bool | None:
    """Whether lhs - rhs of one equation is a constant multiple of that of the other."""
    if left[1] != ["="] or right[1] != ["="]:
        return None
    first, second = (parse(f"({operands[0]}) - ({operands[1]})") for operands, _ in (left, right))
    if first is None or second is None:
        return None
    with mpmath.workdps(DIGITS):
        ratios = [
            above / below if isinstance(below, Fraction) else to_mp(above) / below
            for above, below in values_at_points(first, second)
            if below != 0
        ]
    if len(ratios) < 3:
        return None
    return all(ratio != 0 and same_value(ratio, ratios[0], None) for ratio in ratios)


def _same_leaves(left: str, right: str) -> bool | None:
    """Two single values: numbers with a base, words, expressions with or without a unit."""
    if is_words(left) or is_words(right):
        return False
    if BASE.match(left) or BASE.match(right):
        return _same_in_base(left, right)
    moduli = [match[0] for text in (left, right) if (match := MODULUS.search(text)) is not None]
    if len(moduli) == 2 and re.findall(r"\w+", moduli[0])[-1] != re.findall(r"\w+", moduli[1])[-1]:
        return False
    (a, unit_a), (b, unit_b) = _without_unit(left), _without_unit(right)
    units = read_unit(unit_a), read_unit(unit_b)
    if units[0] is not None and units[1] is not None and units[0] != units[1]:
        return False
    first, second = parse(a), parse(b)
    if first is None or second is None:
        return None
    return same_expression(first, second)


def _without_unit(text: str) -> tuple[str, str]:
    r"""Without `\pmod{..}`, degrees and a unit."""
    bare, unit = split_unit(MODULUS.sub("", text).strip())
    return bare.removesuffix("%").strip(), unit


def _same_in_base(left: str, right: str) -> bool:
    """`52_8`: the same digits in the same base; a base that one side leaves out is not held against it."""
    parts = []
    for text in (left, right):
        match = BASE.match(text)
        base = (match[2] or match[3]) if match else None
        parts.append((match[1] if match else text.replace(" ", ""), BASES.get(base or "", base)))
    (digits_a, base_a), (digits_b, base_b) = parts
    return digits_a == digits_b and (base_a is None or base_b is None or base_a == base_b)


def same_set(answer: str, gold: str) -> bool:
    """Equal as sets of members, in any order and whatever the brackets."""
    mine, wanted = (split(unwrap(outer(canonical(text))[1])) for text in (answer, gold))
    return bool(mine) and _in_any_order(mine, wanted, 0) is True


def is_readable(text: str) -> bool:
    """Whether `same` could give a verdict on an answer: words, a value, or parts that are."""
    text = unwrap(canonical(text))
    if is_words(text) or EMPTY.fullmatch(text) or read_number(text) is not None:
        return True
    if read_region(text) is not None or BASE.match(text):
        return True
    group = read_group(text)
    if group is not None:
        cells = [cell for member in group.members for cell in member.split("&")]
        return bool(cells) and all(_is_readable_leaf(cell) for cell in cells)
    return all(_is_readable_leaf(side) for side in sides(text)[0])


def _is_readable_leaf(text: str) -> bool:
    text = _value_of(unwrap(text))
    if is_words(text) or read_number(text) is not None:
        return True
    if read_group(text) is not None and outer(text)[0]:
        return all(_is_readable_leaf(member) for member in split(outer(text)[1]))
    return all(parse(_without_unit(signed)[0]) is not None for signed in _both_signs(text))
