"""One spelling for mathematical text, and the parts of an answer in that spelling.

Unicode signs, LaTeX variants and layout become plain LaTeX; tuples, sets, lists, matrices and
equations are taken apart. Text in, text out; every rule is linear in the text. Knows nothing about
what the text means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGNS = {
    "-": "−–‐‑—", "/": "÷⁄∕", ",": "、", ".": "。", "'": "′", "$": "＄", "": "\u2062", r"\times ": "×",
    r"\cdot ": "·⋅∙", r"\pi ": "π", r"\infty ": "∞", r"\le ": "≤⩽", r"\ge ": "≥⩾", r"\ne ": "≠",
    r"\approx ": "≈", r"\equiv ": "≡", r"\cup ": "∪", r"\cap ": "∩", r"\varnothing ": "∅",
    r"\in ": "∈", r"\pm ": "±", r"\mp ": "∓", r"^\circ ": "°", r"\mathbb{R}": "ℝ",
    r"\setminus ": "∖", r"\angle ": "∠", r"\langle ": "⟨", r"\rangle ": "⟩", r"\sqrt ": "√",
    r"\sqrt[3] ": "∛", r"\text{ and }": "∧", r"\text{ or }": "∨", r"\ldots ": "…", r"\mid ": "∣",
    r"\alpha ": "α", r"\beta ": "β", r"\gamma ": "γ", r"\delta ": "δ", r"\epsilon ": "ε",
    r"\theta ": "θ", r"\lambda ": "λ", r"\mu ": "μ", r"\rho ": "ρ", r"\sigma ": "σ", r"\tau ": "τ",
    r"\phi ": "φ", r"\omega ": "ω",
    " ": "\u00a0\u2002\u2003\u2004\u2005\u2007\u2008\u2009\u200a\u202f\u3000",
}  # fmt: skip
"""Plain spelling -> the Unicode signs for it."""
VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
FULL_WIDTH = {chr(0xFF01 + offset): chr(0x21 + offset) for offset in range(94)}
UNICODE = str.maketrans(
    FULL_WIDTH
    | {sign: plain for plain, signs in SIGNS.items() for sign in signs}
    | {sign: rf"\frac{{{plain[0]}}}{{{plain[2]}}}" for sign, plain in VULGAR.items()}
)
MAX_NESTED = 8
"""Delimiters within delimiters."""
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋"
SCRIPTS = str.maketrans(RAISED + LOWERED, "0123456789+-n" + "0123456789+-")
RAISED_RUN, LOWERED_RUN = re.compile(f"[{RAISED}]+"), re.compile(f"[{LOWERED}]+")

NO_SPACE = re.compile(
    r"\\!\s*|\\(?:text|mathrm|mbox)\{\s*\}|\{\}|\\(?:allowbreak|nolimits|limits|displaystyle|textstyle)\b"
)
SPACE = re.compile(
    r"(?<!\\)\\[,;: \n]|\\q?quad(?![a-z]*\{)|~|\\(?:thinspace|hfill|par)\b|\\[hv]space\*?\{[^{}]*\}"
)
SIZED = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?=\s*(?:[\[\](){}|<>/.]|\\[{}|lr]|$))"
)
ESCAPED_AGAIN = re.compile(
    r"\\\\(?=(?:[dtc]?frac|left|right|sqrt|pi|text|times|cdot|leq?|geq?|neq?|boxed|infty|in)\b)"
)
TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|mathrm|mbox|hbox|mathbf|mathit|mathsf|boldsymbol|bm|operatorname\*?|rm|textnormal|emph)"
    r"\s*(?=\{)"
)
RENAMED = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:leq(?:slant|q)?|le)(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\(?:geq(?:slant|q)?|ge)(?![A-Za-z])|>="), r"\\ge "),
    (re.compile(r"\\neq?(?![A-Za-z])|!="), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\(?:emptyset|O(?![A-Za-z]))"), r"\\varnothing"),
    (re.compile(r"\\(?:vert|lvert|rvert)(?![A-Za-z])"), "|"),
    (re.compile(r"\\l(?:brace|\{)(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\r(?:brace|\})(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:simeq|doteq)(?![A-Za-z])"), r"\\approx "),
    (re.compile(r"\\(?:land|wedge)(?![A-Za-z])"), r"\\text{ and }"),
    (re.compile(r"\\(?:lor|vee)(?![A-Za-z])"), r"\\text{ or }"),
    (re.compile(r"\\(?:backslash|smallsetminus)(?![A-Za-z])"), r"\\setminus "),
    (re.compile(r"\\(?:[lc]?dots[cmob]?|dotso)(?![A-Za-z])|\.\.\."), r"\\ldots "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?:s)?(?![A-Za-z])"), r"^\\circ "),
    (re.compile(r"\\[lr]?Vert(?![A-Za-z])"), "|"),
)  # fmt: skip
SHORT_FRACTION = re.compile(r"\\(frac|binom)\s*(\d|[A-Za-z])\s*(\d|[A-Za-z])")
HALF_SHORT = re.compile(r"\\frac\s*(\d|[A-Za-z])\s*\{")
SHORT_LOWER = re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d|[A-Za-z])")
SHORT_ROOT = re.compile(r"\\sqrt\s*(\d+|[A-Za-z])")
SHORT_ROOT_OF_COMMAND = re.compile(r"\\sqrt\s*(\\[A-Za-z]+)(?![A-Za-z{])")
BLANKS = re.compile(r"\s+")


def canonical(text: str) -> str:
    r"""The text in one spelling: `½` and `\dfrac12` as `\frac{1}{2}`, `≤` as `\le`, no layout.

    Text commands all become `\text{...}`; dollar signs and other delimiters are dropped.
    """
    if text.isascii() and text.isdigit():
        return text
    if not text.isascii():
        text = _ascii(text)
    text = strip_delimiters(text)
    text = _latex(text) if "\\" in text else _renamed(text)
    for mark, plain in (("{,}", ","), ("\\$", ""), ("$", ""), ("\\%", "%"), ("\\#", "")):
        text = text.replace(mark, plain)
    return strip_delimiters(BLANKS.sub(" ", text))


def _ascii(text: str) -> str:
    text = RAISED_RUN.sub(lambda run: "^{" + run[0].translate(SCRIPTS) + "}", text)
    text = LOWERED_RUN.sub(lambda run: "_{" + run[0].translate(SCRIPTS) + "}", text)
    return text.translate(UNICODE)


def _latex(text: str) -> str:
    if "\\begin" not in text:
        text = ESCAPED_AGAIN.sub(r"\\", text)
    text = SIZED.sub("", NO_SPACE.sub("", text))
    text = _renamed(SPACE.sub(" ", TEXT_COMMAND.sub(r"\\text", text)))
    text = SHORT_FRACTION.sub(r"\\\1{\2}{\3}", text)
    text = SHORT_LOWER.sub(r"\1{\2}", HALF_SHORT.sub(r"\\frac{\1}{", text))
    return SHORT_ROOT_OF_COMMAND.sub(r"\\sqrt{\1}", SHORT_ROOT.sub(r"\\sqrt{\1}", text))


def _renamed(text: str) -> str:
    for pattern, plain in RENAMED:
        text = pattern.sub(plain, text)
    return text


def strip_delimiters(text: str) -> str:
    r"""Without `$`, `\(`, `\[` and stars around it, and the full stop behind it."""
    text = text.strip()
    for _ in range(MAX_NESTED):
        bare = text
        for start, end in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**")):
            if bare.startswith(start) and bare.endswith(end) and len(bare) >= len(start + end):
                bare = bare[len(start) : len(bare) - len(end)].strip()
        if not bare.endswith(("\\,", "\\;", "...")):
            bare = bare.rstrip(".,; \n")
        if bare == text:
            break
        text = bare
    return text


OPEN, CLOSE = "([{", ")]}"
JOINT = re.compile(
    r"\\text\s*\{\s*,?\s*(?:and|or|y|et|und|oder)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\(?:qquad|quad)"
)
ENVIRONMENT = re.compile(
    r"\\begin\s*\{([A-Za-z]+\*?)\}(?:\s*\{[lcr|@ ]*\})?|\\end\s*\{([A-Za-z]+\*?)\}"
)
MATRICES = frozenset(["matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"])
LISTS = frozenset(
    ["cases", "aligned", "gathered", "align", "align*", "gather", "gather*", "rcases", "dcases", "split"]
)  # fmt: skip
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
        if not plain_braces and (kind != "()" or len(split(inner)) > 1):
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
    if len(marks) != 2 or marks[0].start() or marks[1].end() != len(text.strip()):
        return None
    name, inner = marks[0][1], text[marks[0].end() : marks[1].start()]
    rows = tuple(row.strip() for row in ROW_END.split(inner) if row.strip())
    if name in MATRICES:
        return Group("matrix", rows)
    if name in LISTS:
        return Group("", tuple(row.replace("&", " ").strip(" ,;") for row in rows))
    return None


def sides(text: str, sign: re.Pattern[str] = RELATION) -> tuple[list[str], list[str]]:
    """Operands and signs, of relations or others, at the top level: `a < b = c` has three and two."""
    depth = depths(text)
    operands, signs, start = [], [], 0
    for match in sign.finditer(text):
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
