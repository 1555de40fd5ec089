"""Self-reflection cues of a trace: where it turns back on itself. A lexicon, counted by position.

The paper counts 1.9 to 5.1 such cues before the first derivation; its lexicon is not at hand, this
one is ours. Knows nothing about golds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LEXICON: dict[str, str] = {
    "wait": r"wait|hold on|hang on",
    "check": r"let(?:'s| me| us)(?: just| also| quickly)? (?:double[- ]?check|re-?check|check|verify|"
    r"confirm|make sure|test|validate)|double[- ]?check(?:ing)?|to be (?:sure|safe|thorough)|"
    r"(?:just )?to (?:verify|confirm|make sure)|sanity check",
    "rethink": r"let(?:'s| me)(?: just)? (?:think again|rethink|reconsider|re-?read|re-?examine|"
    r"re-?evaluate|start over|try again|go back|backtrack|retrace)|on second thought|thinking again",
    "doubt": r"hmm|is that (?:right|correct|possible)|that(?:'s| is| does) ?n[o']t (?:seem |look )?"
    r"(?:right|correct|possible)|that can(?:'t|not) be|does that make sense|i(?:'m| am) not sure|"
    r"did i (?:miss|make|misread)|am i missing|maybe i (?:made|missed|misread|should|need)|"
    r"something(?:'s| is) (?:wrong|off)",
    "alternative": r"alternatively|another (?:way|approach|method)|(?:a )?different (?:way|approach)|"
    r"or maybe|what if|unless",
    "correction": r"no, (?:wait|that)|actually, no|oops|my mistake|i made a mistake|scratch that",
}
"""Kind of cue -> what counts as one, whole words, any case."""

_CUES = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{kind}>{pattern})' for kind, pattern in LEXICON.items())})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cue:
    """One place where a trace turns back on itself."""

    kind: str
    start: int
    """In characters."""


def find_cues(text: str) -> list[Cue]:
    """Every cue in order; overlapping ones count once, under the kind named first in LEXICON."""
    return [Cue(match.lastgroup or "", match.start()) for match in _CUES.finditer(text)]


def count_around(text: str, offset: int) -> tuple[int, int]:
    """Cues before and from `offset` on."""
    cues = find_cues(text)
    before = sum(cue.start < offset for cue in cues)
    return before, len(cues) - before
