"""What a CoT does, sentence by sentence: restate, plan, derive, verify; where it turns back on itself.

By rule: sentences that say the prompt again are restatement, sentences that say what will be done are
plans, what computes or concludes up to the first derivation derives, and what comes after it verifies.
Reflection is counted by a lexicon of our own (that of arXiv 2512.21002 is not at hand); entailment by
the share of numbers and content words of one text that stand in another. Knows nothing about tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from leadspan.analysis.mentions import numbers_in, sentence_spans, words_of

SegmentKind = Literal["restate", "plan", "derive", "verify"]
SEGMENT_KINDS: tuple[SegmentKind, ...] = ("restate", "plan", "derive", "verify")

RESTATES_FROM = 0.6
"""Share of a sentence's content words that stand in the prompt, from which it is restatement."""

_PLANS = re.compile(
    r"\b(?:i need to|we need to|i have to|i should|let me (?:start|see|think|break|figure|try|parse|"
    r"first|write|list|note|recall|denote)|let's (?:see|start|break|figure|try|think|denote|define)|"
    r"first,? (?:i|let|we)|step by step|the (?:question|problem) (?:is|asks|says)|i'll|i will|"
    r"(?:maybe|perhaps) (?:i|we) (?:can|should|could)|so (?:the )?(?:question|goal) is|"
    r"how (?:do|can|should) (?:i|we)|approach|i remember|i recall)\b",
    re.IGNORECASE,
)
_DERIVES = re.compile(
    r"[=≈⇒→]|\b(?:equals?|is \$?\d|gives?|therefore|thus|hence|which is|that's \$?\d|adding|"
    r"subtract\w*|multipl\w+|divid\w+|plus|minus|times|total of|results? in)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of sentences that do one thing, `[start, end)` in characters of the CoT."""

    kind: SegmentKind
    start: int
    end: int


def find_segments(cot: str, prompt: str, derivation_end: int | None) -> list[Segment]:
    """Segments that cover the CoT, in order.

    Args:
        cot: The chain of thought.
        prompt: What was asked.
        derivation_end: Character after the first derivation; None where there is none, and then
            nothing counts as verification.
    """
    asked, given = words_of(prompt), frozenset(numbers_in(prompt))
    labelled = [
        (_kind(cot[start:end], asked, given, _is_after(start, derivation_end)), start, end)
        for start, end in sentence_spans(cot)
        if end > start
    ]
    segments = []
    for kind, members in groupby(labelled, key=lambda row: row[0]):
        rows = list(members)
        segments.append(Segment(kind, rows[0][1], rows[-1][2]))
    return segments


def shares(segments: list[Segment]) -> dict[SegmentKind, float]:
    """Share of the CoT's characters by kind; all zero for an empty CoT."""
    total = sum(segment.end - segment.start for segment in segments)
    sums = {
        kind: sum(s.end - s.start for s in segments if s.kind == kind) for kind in SEGMENT_KINDS
    }
    return {kind: size / total if total else 0.0 for kind, size in sums.items()}


def _is_after(start: int, derivation_end: int | None) -> bool:
    return derivation_end is not None and start >= derivation_end


def _kind(
    sentence: str, asked: frozenset[str], given: frozenset[float], after: bool
) -> SegmentKind:
    if after:
        return "verify"
    said = words_of(sentence)
    overlap = len(said & asked) / len(said) if said else 0.0
    computes = _DERIVES.search(sentence) is not None and _NUMBER.search(sentence) is not None
    news = [number for number in numbers_in(sentence) if number not in given]
    if computes and news:
        return "derive"
    if overlap >= RESTATES_FROM and not news:
        return "restate"
    if _PLANS.search(sentence):
        return "plan"
    return "derive" if computes else "restate" if overlap >= RESTATES_FROM / 2 else "plan"


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


ENTAILED_FROM = 0.7
"""Coverage from which a text counts as entailed; the same for prompt and answer."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a text's numbers and content words another text holds, 0 to 1 each."""

    numbers: float
    words: float

    @property
    def score(self) -> float:
        """The mean of both."""
        return (self.numbers + self.words) / 2

    @property
    def entailed(self) -> bool:
        """`score` is at least ENTAILED_FROM."""
        return self.score >= ENTAILED_FROM


def measure_coverage(text: str, by: str) -> Coverage:
    """How much of `text` stands in `by`; a text without numbers or words has nothing missing."""
    return Coverage(
        numbers=_share(frozenset(numbers_in(text)), frozenset(numbers_in(by))),
        words=_share(words_of(text), words_of(by)),
    )


def _share(wanted: frozenset[float] | frozenset[str], there: frozenset[object]) -> float:
    return len(wanted & there) / len(wanted) if wanted else 1.0
