r"""One spelling for mathematical text: Unicode signs, LaTeX variants and layout become plain LaTeX.

Text in, text out; every rule is linear in the text. Knows nothing about what the text means.
"""

from __future__ import annotations

import re

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
VULGAR = [
    "½12",
    "⅓13",
    "⅔23",
    "¼14",
    "¾34",
    "⅕15",
    "⅖25",
    "⅗35",
    "⅘45",
    "⅙16",
    "⅚56",
    "⅛18",
    "⅜38",
    "⅝58",
    "⅞78",
]
FULL_WIDTH = {chr(0xFF01 + offset): chr(0x21 + offset) for offset in range(94)}
UNICODE = str.maketrans(
    FULL_WIDTH
    | {sign: plain for plain, signs in SIGNS.items() for sign in signs}
    | {entry[0]: rf"\frac{{{entry[1]}}}{{{entry[2]}}}" for entry in VULGAR}
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
    text = (
        text.replace("{,}", ",")
        .replace("\\$", "")
        .replace("$", "")
        .replace("\\%", "%")
        .replace("\\#", "")
    )
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
