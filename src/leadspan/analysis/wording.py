"""English as far as the analysis reads it: sentences, content words, numbers, the question.

Pure functions over text. Knows nothing about golds or traces.
"""

from __future__ import annotations

import re
from functools import lru_cache

from leadspan.analysis.mentions import SMALL_NUMBERS

SENTENCE_END = re.compile(r"(?<=[.?!])[\"')\]]*+\s++(?=[A-Z\\$(\"'*\d])|\n++")
_NUMBER = re.compile(r"\d[\d,]*+(?:\.\d++)?+")
_SPELLED: dict[str, float] = {
    **{word: float(value) for value, word in enumerate(SMALL_NUMBERS) if value > 1},
    **{"half": 0.5, "twice": 2.0, "double": 2.0, "triple": 3.0, "thrice": 3.0, "dozen": 12.0},
}
_FUNCTION_WORDS = frozenset(
    word[:5]
    for word in re.findall(
        r"\w+",
        "what which that this these those with from have many much does will would there their they "
        "them then than were been into after before about each every more less when where while "
        "your line form reply find give express answer total final write value",
    )
)


@lru_cache(maxsize=4)
def sentence_starts(text: str) -> tuple[int, ...]:
    """Offsets at which sentences (or lines) begin."""
    return (0, *(match.end() for match in SENTENCE_END.finditer(text)))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Half-open character ranges of the sentences, which cover the text."""
    starts = sentence_starts(text)
    return list(zip(starts, (*starts[1:], len(text)), strict=True))


def sentence_index(text: str, offset: int) -> int:
    """Index of the sentence that holds `offset`."""
    return sum(start <= offset for start in sentence_starts(text)) - 1


def last_sentence_start(text: str) -> int:
    """Where the last sentence of a short text begins."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return ends[-1] if ends else 0


def question_of(prompt: str) -> str:
    """From the sentence that asks to the end: the last with a question mark, else the last."""
    starts = sentence_starts(prompt)
    asked = prompt.rfind("?")
    return prompt[max((start for start in starts if asked < 0 or start <= asked), default=0) :]


def words_of(text: str) -> frozenset[str]:
    """Stems (five letters) of the words that carry content."""
    return frozenset(word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())) - _FUNCTION_WORDS


def numbers_in(text: str) -> list[float]:
    """Every plain number of a text, and the small ones that are spelled out."""
    digits = [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
    spelled = re.findall(r"[a-z]+", text.lower())
    return digits + [_SPELLED[word] for word in spelled if word in _SPELLED]
