"""What the words and marks round a mention say about it: result, operand, label, hypothesis.

English and arithmetic notation; pure functions over a text and two offsets. Knows nothing about
golds, traces or tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from leadspan.analysis.mentions import SENTENCE_END, last_sentence_start

LEFT_CHARACTERS = 160
RIGHT_CHARACTERS = 60
LOOKAHEAD_CHARACTERS = 800
SHORT_SENTENCE = 30
"""A lead no longer than this ("That gives 30") is the result of the sentence before it."""

_OPERATOR_WORDS = (
    r"times(?=\s+(?:[\\$\d(]|the\b|that\b|as\b|[A-Za-z]\b|$)|$)|"
    r"multiplied|divided|plus|minus|squared|cubed"
)
_RESULT_VERBS = (
    r"is|are|was|were|be|been|equals?|equal|equaling|equalling|gives?|giving|gave|given|makes?|"
    r"making|becomes?|get|gets|getting|got|obtain|obtains|yields?|leaves?|leaving|have|has|had|"
    r"means|totals?|totaling|totalling|that's|that’s|it's|it’s|there's|that'd|hence|thus|so|"
    r"therefore|only|finds?|found|leads|results?"
)
_NOUNS_OF_RESULT = (
    r"total|sum|cost|answer|result|value|difference|profit|average|mean|product|remainder|"
    r"maximum|minimum|number|amount|change|price|revenue|distance|time|age|volume|area|length"
)
# Between a result mark and its number: "is then about $", "= \\boxed{\\text{", "be **".
_FILLER = (
    r"(?:\s|\$|\\\$|\\?[£€]|\*|_|\\\(|\\\[|\\,|~|≈|[.…]{2,}+|\\text\{|\\mathbf\{|\\mathrm\{|\{|"
    r"\b(?:about|approximately|actually|just|only|exactly|all|indeed|also|now|still|simply|around|"
    r"roughly|again|then|back|therefore|definitely|basically|really|obviously|the|a|an|USD)\b)"
)
# Word by word up to the fillers at the very end, in one pass: a search for them that begins at every
# place again takes exponential time on a row of dots.
_BEFORE_FILLERS = re.compile(
    rf"(?:{_FILLER}++(?!\Z)|(?!{_FILLER})(?:[^\W_]++|.))*+", re.IGNORECASE | re.DOTALL
)
_BOXED = re.compile(r"\\boxed\s*\{[^{}]{0,20}$")
_MARK = re.compile(r"(?:=|≈|→|⇒|=>|->|⟹|\\approx|\\implies|\\Rightarrow)\s*$")
_ANSWER_COLON = re.compile(r"\banswer\W{0,4}:\W*$", re.IGNORECASE)
_PRONOUNS = r"(?:\s+(?:it|us|me|him|her|them|you|he|she))?"
_VERB = re.compile(rf"(?<![\w'’])(?:{_RESULT_VERBS}){_PRONOUNS}[,:]?\s*$", re.IGNORECASE)
_PHRASE = re.compile(
    rf"(?:(?:{_NOUNS_OF_RESULT})s?\s+(?:\w+\s+){{0,3}}of|left\s+with|up\s+(?:to|with)|"
    r"(?:equal|comes?|amounts?|adds|simplif(?:y|ies)|reduces?|rounds?|down|leads?|brings?\s+\w+)"
    r"\s+(?:out\s+)?to|turns\s+out\s+to\s+be)\s*$",
    re.IGNORECASE,
)
_LEFT_OPERATOR = re.compile(
    r"(?:[-+*/×÷·−^(]|\\times|\\cdot|\\div|\\frac\{)\s*+(?:\\?\$)?+\s*+$|"
    rf"(?:\b(?:{_OPERATOR_WORDS}|(?:divid|multipl)\w+\s+by|add|adding|subtract|subtracting|"
    r"multiply|multiplying|divide|dividing)\s+(?:\\?\$)?)$",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"\b(?:than|from|another|every|per|between|remaining|extra|and|or|first|those|these|last|"
    r"initial|original)\s+(?:\\?\$)?$",
    re.IGNORECASE,
)
_RIGHT_OPERATOR = re.compile(
    r"\s*+(?:[A-Za-z]++\s++){0,2}(?:[*/×÷·]|\\times|\\cdot|\\div)|"
    r"\s*+\)?\s*+(?:[A-Za-z]++\s)?[-+−]\s?[\d$(\\]|\s*+\)?\s*+[-+−]\s?[A-Za-z](?![A-Za-z])|"
    rf"\s++(?:{_OPERATOR_WORDS})\b|\s*+\^|²|³|"
    r"\s++[A-Za-z]++\s++(?:times|multiplied\s+by|divided\s+by|plus|minus)\s+"
    r"(?:\\?\$?\d|[A-Za-z]\b|the\b|that\b)",
    re.IGNORECASE,
)
_RIGHT_EQUATION = re.compile(
    r"\s*+\)?\s*+(?:\w++\s)?(?:=|is|equals?|makes?|gives?)\s*\\?\$?[\d(]", re.IGNORECASE
)
_RIGHT_VARIABLE = re.compile(r"[A-Za-z](?![A-Za-z'’])")
_MORE_AFTER_VARIABLE = re.compile(
    r"\s?[A-Za-z](?:\s*[-+*/=(]|\s+(?:plus|minus|times|equals)\b|\s[a-z]\s*=)"
)
_BARE_SIDE = re.compile(r"(?:^|[\s,;(])[A-Za-z]\s*=\s*$")
_END_OF_SIDE = re.compile(r"[A-Za-z]\s*(?:[.,;)?\n]|$)")
_UNITS_OF_ONE_LETTER = frozenset("mgshkKCFLVWJN")
_PERCENT = re.compile(r"\s?\\?%|\s?percent\b")
_IN_BRACKETS = re.compile(r"[A-Za-z]\s?\($")
_LIST_LABEL = re.compile(r"(?:^|\n)\s*(?:\*\*)?\(?$")
_AFTER_LABEL = re.compile(r"[.):]\)?\s")
_HYPOTHESIS = re.compile(
    r"(?:^|[\s(])(?:if|suppose|assume|assuming|say|let's\s+say|when|since|because|whether)\b[^,;:]*$",
    re.IGNORECASE,
)
_HEDGE = re.compile(r"\b(?:maybe|perhaps|possibly|might|guess(?:ing)?)\b", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"^\s*+(?:(?:yes|yep|yeah|okay|ok|right|hmm|and|but),?\s++)*+(?:so|therefore|thus|hence|"
    r"that\s+means|then|that\s+would|that\s+gives|altogether)\b",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\b(?:answer|solution|result)\b[^.?!\n]{0,60}$", re.IGNORECASE)
_OF_ARITHMETIC = re.compile(
    rf"(?P<digit>\d)|(?P<stop>[.?!\n])|[-+*/×÷·−]|\\times|\\cdot|\\frac|\b(?:{_OPERATOR_WORDS}|add|"
    r"subtract|half|twice|of)\b",
    re.IGNORECASE,
)
OPERATOR_WITHIN = 40
"""Characters after a number in which an operator goes with it."""
_OPERATION = re.compile(
    r"\d\)?[^.?!\n\d]{0,15}?(?:[-+*/×÷·−]|\\times|\\cdot|\b(?:times|plus|minus|divided by|"
    r"multiplied by)\b)\s*\\?\$?\(?\d",
    re.IGNORECASE,
)
_VERIFY = re.compile(
    r"(?<=[.?!]\s)But\b|\nBut\b|\b(?:wait|hold on|let me (?:just )?(?:double[- ]?check|check|verify|confirm|"
    r"make sure|see if|think again|re\w+|go (?:through|over)|recap)|"
    r"let's (?:double[- ]?check|check|verify|confirm)|double[- ]?check|"
    r"to (?:verify|confirm|check|make sure|be sure)|make sure|alternatively|"
    r"(?:another|second|other) (?:way|method|approach)|is that (?:right|correct|it)|"
    r"(?:seems|sounds|looks) (?:\w+ )?(?:right|straightforward|correct|good|low|high)|"
    r"that's (?:right|it|correct)|final answer|(?:the|is) answer|answer (?:is|should|would)|just to|"
    r"checks out|hmm|yep|yeah|but maybe)\b",
    re.IGNORECASE,
)
_OTHER_RESULT = re.compile(
    r"(?:=|≈|\bis|\bequals?|\bgives?|\bbe|\bto|\bthat's|\bmakes?)\s*\\?\$?"
    r"(?P<number>\d++(?:,\d++)*+(?:\.\d++)?+)(?!\.*+\s*+(?:[-+*/×÷·]|times|plus|minus|divided|multiplied))",
    re.IGNORECASE,
)
_NAMING = re.compile(
    r"\b(?:like|called|named|namely|(?:think|believe|remember|recall|know)(?:\s+that)?)\s*$", re.I
)
_SUBJECT = re.compile(
    r"(?:'s|’s)\b|\s+(?:is|was|did|does|can|could|must|has|have|finished|would|will|should|cannot|"
    r"can't|isn't|didn't)\b"
)


@dataclass(frozen=True, slots=True)
class Place:
    """How a mention stands in its sentence."""

    boxed: bool
    is_operand: bool
    """It is a factor, a term, a coefficient, or the left side of an equation."""
    is_listed: bool
    """It is one of several, or compared with: "and 5", "another 5", "than 5"."""
    is_label: bool
    """It numbers an item of a list."""
    is_percent: bool
    is_hypothesis: bool
    """It stands in an if-clause or another assumption."""
    is_guess: bool
    """Its sentence says "maybe", "perhaps" ... and computes nothing."""
    after_mark: bool
    """Right after `=` or an arrow."""
    after_verb: bool
    """Right after "is", "gives", "a total of" ..."""
    computes: bool
    """Its sentence shows arithmetic to the left of the result mark."""
    operates: bool
    """It even shows an operator between two numbers."""
    concludes: bool
    """Its sentence opens with "so", "therefore" ..."""
    answers: bool
    """Its sentence says "answer" before it."""


def read_place(text: str, start: int, end: int) -> Place:
    """Classify the mention `text[start:end]`."""
    left = text[max(0, start - LEFT_CHARACTERS) : start]
    right = text[end : end + RIGHT_CHARACTERS]
    begins = last_sentence_start(left)
    sentence = left[begins:]
    shown = left if len(sentence) <= SHORT_SENTENCE else sentence
    near = _without_fillers(left)
    dropped = left[len(near) :]
    clause = re.split(r"[,;:]\s|[.?!]\s|\n", sentence)[-1]
    after_mark = _MARK.search(near) is not None
    computes = _computes(shown)
    after_verb = (
        _VERB.search(near) is not None
        or _VERB.search(left.rstrip(" $\\")) is not None
        or _PHRASE.search(near) is not None
        or _PHRASE.search(near + dropped[: len(dropped) - len(dropped.lstrip(" $\\"))]) is not None
    )
    return Place(
        boxed=_BOXED.search(left) is not None,
        is_operand=_is_operand(left, right, after_mark),
        is_listed=not after_mark and _LISTED.search(left) is not None,
        is_label=_is_label(left, right),
        is_percent=is_percent_at(right, 0),
        is_hypothesis=_HYPOTHESIS.search(clause) is not None,
        is_guess=not computes and _HEDGE.search(sentence) is not None,
        after_mark=after_mark,
        after_verb=after_verb,
        computes=computes,
        operates=_OPERATION.search(shown) is not None,
        concludes=_CONCLUSION.search(sentence) is not None,
        answers=_ANSWER.search(sentence) is not None or _ANSWER_COLON.search(near) is not None,
    )


def _without_fillers(left: str) -> str:
    """The text up to the words and marks at its end that only lead over to a number."""
    match = _BEFORE_FILLERS.match(left)
    return left[: match.end()] if match else left


def _computes(text: str) -> bool:
    """Whether an operator follows closely on a number, in one pass."""
    last: int | None = None
    for match in _OF_ARITHMETIC.finditer(text):
        if match.lastgroup:
            last = match.end() if match["digit"] else None
        elif last is not None and match.start() - last <= OPERATOR_WITHIN:
            return True
    return False


def _is_label(left: str, right: str) -> bool:
    if _LIST_LABEL.search(left) and _AFTER_LABEL.match(right):
        return True
    return right.startswith(")") and _IN_BRACKETS.search(left) is not None


def _is_operand(left: str, right: str, after_mark: bool) -> bool:
    if _RIGHT_OPERATOR.match(right) or (not after_mark and _RIGHT_EQUATION.match(right)):
        return True
    if _MORE_AFTER_VARIABLE.match(right):
        return True
    variable = _RIGHT_VARIABLE.match(right)
    if variable and variable[0] not in _UNITS_OF_ONE_LETTER:
        # `S = 3T.` solves for S in terms of T; any other coefficient is on its way.
        return not (_BARE_SIDE.search(left) and _END_OF_SIDE.match(right))
    return not after_mark and _LEFT_OPERATOR.search(left) is not None


def is_operand_at(text: str, start: int, end: int) -> bool:
    """True where the mention is used in a computation rather than its result."""
    left = text[max(0, start - LEFT_CHARACTERS) : start]
    after_mark = _MARK.search(_without_fillers(left)) is not None
    return _is_operand(left, text[end : end + RIGHT_CHARACTERS], after_mark)


def says_percent(text: str) -> bool:
    """True where some place of the text is one before a percent sign or word."""
    return _PERCENT.search(text) is not None


def is_percent_at(text: str, end: int) -> bool:
    """True before a percent sign or word."""
    return _PERCENT.match(text, end) is not None


def is_named_at(text: str, start: int) -> bool:
    """True after "called", "something like", "I remember that" ..."""
    return _NAMING.search(text[max(0, start - 40) : start]) is not None


def is_subject(text: str, end: int) -> bool:
    """True where the words after `end` go on to say something about the thing named."""
    return _SUBJECT.match(text, end) is not None


def verification_after(text: str, end: int) -> int:
    """Where the trace next turns to checking or answering; the window's end where it does not."""
    stop = min(len(text), end + LOOKAHEAD_CHARACTERS)
    found = _VERIFY.search(text, end, stop)
    return found.start() if found else stop


def other_results(text: str, start: int, end: int) -> list[float]:
    """Numbers in `text[start:end]` that stand where results stand."""
    return [
        float(match["number"].replace(",", ""))
        for match in _OTHER_RESULT.finditer(text, start, end)
    ]


def sentence_at(text: str, offset: int) -> str:
    """The sentence that holds `offset`, as far as the windows round it reach."""
    left = text[max(0, offset - LEFT_CHARACTERS) : offset]
    right = text[offset : offset + RIGHT_CHARACTERS]
    ending = SENTENCE_END.search(right)
    return left[last_sentence_start(left) :] + right[: ending.start() if ending else None]
