"""Find where a trace first derives its gold answer, as opposed to merely mentioning the value.

The CoT is read first, and the answer section where the CoT has no result. A mention counts as a
derivation when it stands where a result stands (after `=`, "is", "gives",
"total of", in a box ...), is no operand or label, and is not at once used up as an intermediate
value. Pure and fast: regular expressions over short windows. Knows nothing about tokens or files.
`docs/derivation.md` has the rules in words and how well they agree with readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Literal

from leadspan.analysis import context
from leadspan.analysis.context import Place
from leadspan.analysis.mentions import (
    Mention,
    find_mentions,
    iter_mentions,
    numbers_in,
    question_of,
    sentence_index,
    words_of,
)
from leadspan.analysis.values import Gold, kind_asked, kind_named, read_accepted
from leadspan.records import Trace

Status = Literal["derived", "not_found", "gold_in_prompt", "no_gold"]
Evidence = Literal["boxed", "answer", "computed", "stated", "mention"]

CONFIDENCE: dict[Evidence, float] = {
    "computed": 0.95,
    "boxed": 0.9,
    "stated": 0.9,
    "answer": 0.7,
    "mention": 0.3,
}
"""About the share of labelled traces with this kind of evidence on which the rules agree with the
reader within 5 % of the CoT; `boxed` and `mention` are too rare there and were set by hand."""
IN_PROMPT = {"computed": 0.75}
IN_PROMPT_OTHERWISE = 0.35
"""The same where the prompt holds the gold: a mention is little evidence there."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """Where one trace first derives its gold."""

    status: Status
    """`gold_in_prompt` is counted apart even where a position was found."""
    start: int | None = None
    """First character of the derived answer in the CoT; None where the CoT has none."""
    end: int | None = None
    """Character after the derived answer in the CoT: what a cut must keep."""
    answer_end: int | None = None
    """The same in the answer section, where the result stands there only."""
    sentence: int | None = None
    """Index of the sentence of its section that derives it."""
    evidence: Evidence | None = None
    confidence: float = 0.0
    """0 to 1; see CONFIDENCE."""

    @property
    def found(self) -> bool:
        """True where there is a position."""
        return self.end is not None or self.answer_end is not None

    def fraction(self, cot: str) -> float | None:
        """The end as a share of the CoT's characters; 1 where the result stands in the answer only."""
        if self.answer_end is not None:
            return 1.0
        return None if self.end is None or not cot else self.end / len(cot)


def find_derivation(trace: Trace) -> Derivation:
    """Locate the first derivation of any of `trace.golds` in the CoT, else in the answer."""
    golds = read_accepted(trace.golds)
    if not golds:
        return Derivation("no_gold")
    in_prompt = any(_is_given(trace.prompt, gold) for gold in golds)
    status: Status = "gold_in_prompt" if in_prompt else "derived"
    for text in (trace.cot, trace.answer):
        found = [
            result
            for gold in golds
            if (result := _first_derivation(_problem(trace, text, gold, in_prompt))) is not None
        ]
        if found:
            best = min(found, key=lambda one: (one.score < ENOUGH, one.mention.start))
            return _derivation(status, text, best, in_answer=text is not trace.cot)
    return Derivation("gold_in_prompt" if in_prompt else "not_found")


def _is_given(prompt: str, gold: Gold) -> bool:
    return any(not mention.in_words for mention in iter_mentions(prompt, gold))


def _derivation(status: Status, text: str, found: _Found, in_answer: bool) -> Derivation:
    """What was found, as the rest of the house takes it."""
    sure = CONFIDENCE[found.evidence]
    if status == "gold_in_prompt":
        sure = IN_PROMPT.get(found.evidence, IN_PROMPT_OTHERWISE)
    return Derivation(
        status=status,
        start=None if in_answer else found.mention.start,
        end=None if in_answer else found.mention.end,
        answer_end=found.mention.end if in_answer else None,
        sentence=sentence_index(text, found.mention.start),
        evidence=found.evidence,
        confidence=sure,
    )


ENOUGH = 0.6
"""Score from which the first mention is taken; below it, the best one."""
ECHO = 0.4
"""Share of the question's content words from which a sentence is taken to answer it."""
OTHER_QUANTITY = 0.35
"""Doubt about "2 miles" where hours are asked for."""
LEAST_SCORE = 0.15
"""Score that the best mention needs where none is enough; a guess has less."""
SIMPLIFYING_CHARACTERS = 60
"""How far apart two equal values of one chain, `8/18, which simplifies to 4/9`, may stand."""
RECENT_CHARACTERS = 200
"""A computation that arrives at a number seen this recently checks it."""
MAX_MENTIONS = 1_000
"""Mentions that are weighed: real traces decide within a few dozen."""
MAX_LATER = 30
"""Mentions after one that may show it to be spent."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A mention that is taken for the derivation."""

    mention: Mention
    evidence: Evidence
    score: float


@dataclass(frozen=True, slots=True)
class _Problem:
    """What the rules need to know about one trace besides a mention's own place."""

    text: str
    """The section that is read."""
    mentions: list[Mention]
    gold: Gold
    in_prompt: bool
    given: frozenset[float]
    """Numbers of the prompt."""
    asked: frozenset[str]
    """Content words of the question."""
    wants_percent: bool
    kind_asked: str | None
    """Kind of quantity that the question asks for."""

    @property
    def is_named(self) -> bool:
        """The gold is a name or an option, not a value."""
        return self.gold.kind in ("word", "choice")

    @property
    def is_recall(self) -> bool:
        """The prompt holds no number, so that there is nothing to compute with."""
        return not self.given and not self.in_prompt


def _problem(trace: Trace, text: str, gold: Gold, in_prompt: bool) -> _Problem:
    question = question_of(trace.prompt)
    mentions = list(islice(iter_mentions(text, gold), MAX_MENTIONS))
    return _Problem(
        text=text,
        mentions=mentions,
        gold=gold,
        in_prompt=in_prompt,
        given=frozenset(numbers_in(trace.prompt)),
        asked=words_of(question),
        kind_asked=kind_asked(question),
        wants_percent="%" in question + gold.text
        or "percent" in question.lower()
        or (gold.kind == "number" and mentions != [] and _ends_in_percent(trace.answer, gold)),
    )


def _ends_in_percent(answer: str, gold: Gold) -> bool:
    """Whether the trace itself answers in per cent."""
    if not context.says_percent(answer):
        return False
    mentions = find_mentions(answer, gold)
    return bool(mentions) and context.is_percent_at(answer, mentions[-1].end)


def _first_derivation(problem: _Problem) -> _Found | None:
    """The first mention that scores enough, or the best of the others."""
    best: _Found | None = None
    for index, mention in enumerate(problem.mentions):
        evidence, score = _weigh(problem, mention)
        if score >= ENOUGH and evidence in ("computed", "stated"):
            spent = _spent(problem, index)
            score -= min(spent, 0.3) if _echo(problem, mention) >= ECHO else spent
        if score >= ENOUGH:
            return _Found(_simplified(problem, index), evidence, score)
        if score >= LEAST_SCORE and (best is None or score > best.score):
            best = _Found(mention, evidence, score)
    return best


def _weigh(problem: _Problem, mention: Mention) -> tuple[Evidence, float]:
    """Kind of evidence and score, 0 to 1, of a mention by its own place alone."""
    place = context.read_place(problem.text, mention.start, mention.end)
    is_part = place.is_operand or place.is_listed or place.is_label
    if place.is_guess and not problem.is_recall:
        return "mention", 0.05
    if is_part:
        return "mention", 0.0
    if place.boxed:
        return "boxed", 1.0
    if place.answers and not place.is_hypothesis:
        return "answer", 1.0
    if place.is_percent and not problem.wants_percent:
        return "mention", 0.0
    doubt = 0.3 * place.is_hypothesis + 0.35 * mention.in_words
    doubt += OTHER_QUANTITY * _is_other_quantity(problem, mention)
    if problem.is_named or problem.in_prompt:
        return _weigh_known(problem, mention, place, doubt)
    if place.after_mark:
        return "computed", 1.0 - doubt
    if place.after_verb and place.computes:
        return "computed", 0.9 - doubt
    if place.after_verb:
        return "stated", 0.7 + 0.1 * place.concludes - doubt
    if place.concludes or problem.is_recall:
        return "stated", ENOUGH - doubt
    return "mention", 0.2 - doubt / 2


def _is_other_quantity(problem: _Problem, mention: Mention) -> bool:
    if problem.kind_asked is None or problem.gold.kind != "number":
        return False
    left = problem.text[max(0, mention.start - 3) : mention.start]
    named = kind_named(left, problem.text[mention.end : mention.end + 24])
    return named is not None and named != problem.kind_asked


def _weigh_known(
    problem: _Problem, mention: Mention, place: Place, doubt: float
) -> tuple[Evidence, float]:
    """As `_weigh`, where the prompt already says the value, or the gold is a name."""
    if problem.is_named:
        told_about = context.is_subject(problem.text, mention.end)
        if problem.in_prompt and told_about:
            return "mention", 0.0
        stands = place.after_verb or place.after_mark
        stands = stands or context.is_named_at(problem.text, mention.start)
        if stands or (told_about and not problem.in_prompt):
            return "stated", 0.65 + 0.1 * place.concludes - doubt
        return "mention", 0.2 - doubt / 2
    if place.operates and (place.after_mark or place.after_verb):
        return "computed", 0.95 - doubt
    if place.after_mark or place.after_verb:
        return "stated", 0.4 + 0.1 * place.concludes - doubt
    return "mention", 0.1 - doubt / 4


def _spent(problem: _Problem, index: int) -> float:
    """How much the lines after a mention speak for an intermediate value, 0 to 0.6.

    A computation that arrives at a number of the prompt, or at one just seen, is a check.
    """
    text, end = problem.text, problem.mentions[index].end
    turn = context.verification_after(text, end)
    own = None if problem.gold.value is None else abs(problem.gold.value.real)
    recent = frozenset(numbers_in(text[max(0, end - RECENT_CHARACTERS) : end]))
    for later in problem.mentions[index + 1 : index + 1 + MAX_LATER]:
        if later.start >= turn:
            break
        if context.is_operand_at(text, later.start, later.end):
            results = context.other_results(text, later.end, later.end + 60)
            if not (results and (results[0] in problem.given or results[0] in recent)):
                return 0.6
    others = context.other_results(text, end, turn) if problem.gold.kind == "number" else []
    return 0.3 if any(other != own and other not in problem.given for other in others) else 0.0


def _echo(problem: _Problem, mention: Mention) -> float:
    """Share of the question's content words that stand in the mention's sentence."""
    said = words_of(context.sentence_at(problem.text, mention.start))
    return len(said & problem.asked) / len(problem.asked) if problem.asked else 0.0


def _simplified(problem: _Problem, index: int) -> Mention:
    r"""The last of a chain of equal expressions: `\sqrt{72} = \sqrt{36*2} = 6\sqrt{2}`."""
    chosen = problem.mentions[index]
    if problem.gold.kind != "expression":
        return chosen
    for later in problem.mentions[index + 1 : index + 1 + MAX_LATER]:
        gap = problem.text[chosen.end : min(later.start, chosen.end + SIMPLIFYING_CHARACTERS + 1)]
        if len(gap) > SIMPLIFYING_CHARACTERS or "\n\n" in gap or ". " in gap:
            break
        chosen = later
    return chosen
