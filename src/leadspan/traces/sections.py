"""Split a completion at its think markers. Knows nothing about files, rows or tokenizers.

The rules, in order:

1. The family of markers that occurs first is the one that counts.
2. The CoT starts after the opening marker, which may only be preceded by white space; a
   completion that holds only a closing marker starts in the CoT (its template opened the block).
   Opening markers in a row count as one.
3. The CoT ends at the first closing marker, as inference servers read it, be it in a code block or
   not. No closing marker after an opening one: the CoT is unclosed and there is no answer.
4. Newlines that touch a marker belong to the format and are dropped; everything else is kept.
5. Families of ordinary words count only where the completion starts with them.
6. An end token behind the completion is no part of it; harmony channels have rules of their own
   (`harmony`).
7. What would need a guess is refused: no marker at all, text before the opening marker, a marker
   of the family behind the first closing one, text around a marked answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from leadspan.messages import without_end_tokens

ANALYSIS = "<|channel|>analysis"
FINAL = "<|start|>assistant<|channel|>final"
_HEADER = re.compile(
    r"(?:<\|start\|>(?P<role>[^<]{0,80}))?<\|channel\|>(?P<channel>[^<]{1,80})"
    r"(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
)
_END = re.compile(r"<\|(?:end|return|call|endoftext)\|>")
_TO = re.compile(r"to=(\S+)")


@dataclass(frozen=True, slots=True)
class HarmonyMessage:
    """One message of a completion."""

    channel: str
    text: str
    recipient: str
    """The tool that it calls; empty for none."""
    ended: bool
    """Whether its end token is there."""


def messages_of(text: str) -> list[HarmonyMessage] | None:
    """The messages of a completion; None where text stands outside of any.

    A completion whose prompt had opened the analysis starts within it.
    """
    headers = list(_HEADER.finditer(text))
    starts = [0, *(header.end() for header in headers)]
    ends = [*(header.start() for header in headers), len(text)]
    found = []
    for header, start, stop in zip([None, *headers], starts, ends, strict=True):
        end = _END.search(text, start, stop)
        body = text[start : end.start() if end else stop]
        if end and _END.sub("", text[end.end() : stop]).strip():
            return None
        if header is not None:
            to = _TO.search(f"{header['role'] or ''} {header['channel']}")
            channel = (header["channel"].split() or [""])[0]
            found.append(HarmonyMessage(channel, body, to[1] if to else "", end is not None))
        elif end:
            found.append(HarmonyMessage("analysis", body, "", True))
        elif body.strip():
            return None
    return found or None


@dataclass(frozen=True, slots=True)
class Markers:
    """One family of think markers."""

    name: str
    open: str
    close: str
    answer_open: str = ""
    """Opens the answer, where the family marks it too."""
    answer_close: str = ""
    """Ends the answer."""
    open_optional: bool = True
    """Whether the closing marker alone is a split."""
    is_words: bool = False
    """Opens in ordinary words, which are markers only at the start of a completion."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """A completion as its two sections."""

    cot: str
    answer: str
    closed: bool
    notes: tuple[str, ...] = ()
    """What was taken off, for the counts."""


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """Why a row or a completion is not used, and where it stood."""

    reason: str
    where: str = ""
    hint: str = ""
    """What the user can do about it, where that depends on the row."""


THINK = Markers("think", "<think>", "</think>")
FAMILIES = (
    THINK,
    Markers("thinking", "<thinking>", "</thinking>"),
    Markers("reasoning", "<reasoning>", "</reasoning>"),
    Markers(
        "thought",
        "<|begin_of_thought|>",
        "<|end_of_thought|>",
        "<|begin_of_solution|>",
        "<|end_of_solution|>",
    ),
    Markers("bracket", "[THINK]", "[/THINK]"),
    Markers("kimi", "◁think▷", "◁/think▷"),
    Markers("seed", "<seed:think>", "</seed:think>"),
    Markers("exaone", "<thought>", "</thought>"),
    Markers("gemma", "<|channel>thought", "<channel|>"),
    Markers(
        "cohere", "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"
    ),
    Markers(
        "apriel",
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        answer_close="[END FINAL RESPONSE]",
        is_words=True,
    ),
    Markers(
        "granite",
        "Here is my thought process:",
        "Here is my response:",
        open_optional=False,
        is_words=True,
    ),
    Markers(
        "granite",
        "Here's my thought process:",
        "Here's my response:",
        open_optional=False,
        is_words=True,
    ),
    Markers("channels", ANALYSIS, FINAL),
)
WORDS = "s1"
"""Name of the family that is written as plain words, `think\\n...\\nanswer\\n`."""

_WORDS_OPEN = re.compile(r"\s*(?:<\|im_start\|>)?think\n")
_WORDS_CLOSE = re.compile(r"\n(?:<\|im_start\|>)?answer\n")
ANSWER_TAGS = ("answer", "response")
_CALL = re.compile(
    r"\[TOOL_CALLS\]|<[|｜][^<>|｜\s]{0,30}(?:tool|python_tag|ACTION|function)[^<>|｜\s]{0,30}[|｜]?>"
)
"""Control text of a tool call."""
_CALL_END = re.compile(r"</(?:[\w.-]{1,20}:)?(?:tool_calls?|function_calls?|function|invoke)>\s*\Z")
_LONGEST_CALL_END = 60


def family_names() -> tuple[str, ...]:
    """The names that `traces.markers` may hold besides `auto`."""
    return tuple(dict.fromkeys((*(family.name for family in FAMILIES), WORDS)))


def split_completion(
    text: str, markers: tuple[Markers, ...] = FAMILIES, words: bool = True
) -> Segmented | SkippedRow:
    """Split `text` at its think markers.

    Args:
        text: The whole completion.
        markers: The families that are looked for.
        words: Also take s1's `think`, `answer` lines, where none of those families occurs, the text
            starts with the one and holds the other.

    Returns:
        The sections, or why there are none: `no_marker`, `text_before_marker`, `repeated_marker`,
        `answer_marker_in_cot`, `text_around_answer`, `ends_in_tool_call`, `empty_cot`. End tokens
        and tags around the answer are still there; `tidy` takes them off.
    """
    found = [(place, family) for family in markers if (place := _first(text, family)) >= 0]
    if found:
        family = min(found, key=lambda entry: entry[0])[1]
        split = _split_harmony(text) if family.open == ANALYSIS else _split(text, family)
    elif words:
        split = _split_words(text)
    else:
        split = SkippedRow("no_marker")
    if isinstance(split, Segmented) and not split.cot.strip():
        return SkippedRow("empty_cot")
    return split


def tidy(split: Segmented) -> Segmented | SkippedRow:
    """Take control text off the end: end tokens, and tags around the whole answer.

    Refused are answers that call a tool: what the student would learn is not an answer.
    """
    notes = list(split.notes)
    cot, answer = split.cot, split.answer
    last = without_end_tokens(answer if split.closed else cot)
    if last != (answer if split.closed else cot):
        notes.append("end_token_stripped")
        cot, answer = (cot, last) if split.closed else (last, answer)
    bare = answer.strip()
    if _CALL.search(split.answer) or _CALL_END.search(bare[-_LONGEST_CALL_END:]):
        return SkippedRow("ends_in_tool_call")
    for tag in ANSWER_TAGS:
        head, tail = f"<{tag}>", f"</{tag}>"
        inner = bare.removeprefix(head).removesuffix(tail)
        if len(bare) == len(inner) + len(head) + len(tail) and head not in inner:
            notes.append("answer_tags_stripped")
            answer = inner.strip("\n")
    return Segmented(cot, answer, split.closed, tuple(notes))


def _first(text: str, family: Markers) -> int:
    """Where the first marker that can start a split stands; -1 for nowhere."""
    place = text.find(family.open)
    if family.is_words and place > 0 and text[:place].strip():
        place = -1
    close = text.find(family.close) if family.open_optional else -1
    return min((found for found in (place, close) if found >= 0), default=-1)


def _split(text: str, family: Markers) -> Segmented | SkippedRow:
    head, opened, body = text.partition(family.open)
    if opened and (family.close not in head or not family.open_optional):
        if head.strip():
            return SkippedRow("text_before_marker")
        again = re.match(rf"(?:\s*{re.escape(family.open)})*+", body)
        body = body[again.end() :] if again else body
    else:
        body = text
    cot, closed, rest = body.partition(family.close)
    if family.open in rest or family.close in rest:
        return SkippedRow("repeated_marker")
    if family.answer_open and family.answer_open in cot:
        return SkippedRow("answer_marker_in_cot")
    answer = _answer(rest, family)
    if isinstance(answer, SkippedRow):
        return answer
    return Segmented(cot.strip("\n"), answer, bool(closed))


def _answer(rest: str, family: Markers) -> str | SkippedRow:
    """The answer in what follows the closing marker; without answer markers it is all of that."""
    if not family.answer_open and not family.answer_close:
        return rest.lstrip("\n")
    start = rest.find(family.answer_open)
    if start < 0:
        return rest.strip("\n")
    if rest[:start].strip():
        return SkippedRow("text_around_answer")
    answer = rest[start + len(family.answer_open) :]
    end = answer.find(family.answer_close) if family.answer_close else -1
    if end < 0:
        return answer.strip("\n")
    after = answer[end + len(family.answer_close) :]
    ending = without_end_tokens(after)
    if ending.strip():
        return SkippedRow("text_around_answer")
    # An end token stays, for `tidy` to take off and count.
    return answer[:end].strip("\n") + after.strip()


def _split_harmony(text: str) -> Segmented | SkippedRow:
    """One analysis message and one final message; anything between or behind is refused."""
    found = messages_of(text)
    if found is None:
        return SkippedRow("text_before_marker")
    thoughts = [message for message in found if message.channel == "analysis"]
    answers = [message for message in found if message.channel == "final"]
    if found[-1].recipient:
        return SkippedRow("ends_in_tool_call")
    if len(thoughts) > 1 or len(answers) > 1:
        return SkippedRow("repeated_marker")
    if len(found) > len(thoughts) + len(answers) or any(m.recipient for m in found):
        return SkippedRow("text_around_answer")
    if not thoughts:
        return SkippedRow("no_marker")
    if found[0] is not thoughts[0]:
        return SkippedRow("text_before_marker")
    answer = answers[0].text if answers else ""
    return Segmented(
        thoughts[0].text.strip("\n"), answer.strip("\n"), bool(answers) or thoughts[0].ended
    )


def _split_words(text: str) -> Segmented | SkippedRow:
    opened = _WORDS_OPEN.match(text)
    closes = list(_WORDS_CLOSE.finditer(text))
    if not opened or not closes:
        return SkippedRow("no_marker")
    if len(closes) > 1:
        return SkippedRow("repeated_marker")
    cot = text[opened.end() : max(opened.end(), closes[0].start())]
    return Segmented(cot.strip("\n"), text[closes[0].end() :].lstrip("\n"), True)
