"""How a chat template writes a think block: read off its own output, else off its text.

Knows templates; knows nothing about tokenizers or traces.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from leadspan.chat import ChatTemplate, Message, assistant_messages
from leadspan.traces.sections import FAMILIES, THINK

QUESTION, COT, ANSWER = "leadspanquestion", "leadspanthought", "leadspananswer"
SWITCHES = {"enable_thinking": True, "open_thinking": True, "thinking": True}
"""Thinking is on, whatever a template calls it."""

_TAG = re.compile(r"<([^<>\s]*)>\s*$")
_NAMES_THINKING = re.compile(r"think|thought|reason", re.IGNORECASE)
_EMPTY_BLOCK = re.compile(r"<([^<>\s]*think[^<>\s]*)>\s*</\1>", re.IGNORECASE)

Source = Literal["the template's own turns", "the template's text", "run.yaml", "leadspan's own"]


@dataclass(frozen=True, slots=True)
class ThinkBlock:
    """The text on either side of a CoT."""

    open: str
    """Between a prompt that does not open the block and the CoT."""
    close: str
    """Between CoT and answer."""
    source: Source = "leadspan's own"
    shape: int | None = None
    """Which of `assistant_messages` the template renders whole; None where it drops the CoT."""


def find_block(chat: ChatTemplate | None) -> ThinkBlock:
    """The markers that a student of this template learns.

    Raises:
        Exception: Whatever the template raises on a user turn.
    """
    if chat is None:
        return ThinkBlock(THINK.open, THINK.close)
    prompt = chat.render([_question()], generation_prompt=True)
    return _from_turns(chat, prompt) or _from_text(chat, prompt)


def _question() -> Message:
    return {"role": "user", "content": QUESTION}


def _from_turns(chat: ChatTemplate, prompt: str) -> ThinkBlock | None:
    """The text around the CoT of an assistant turn that the template writes itself."""
    for shape, message in enumerate(assistant_messages(COT, ANSWER)):
        whole = _rendered(chat, message)
        before, has_cot, rest = whole.partition(COT)
        close, has_answer, _ = rest.partition(ANSWER)
        printed_as_data = "'type'" in close or '"type"' in close
        if not (has_cot and has_answer and close.strip()) or printed_as_data:
            continue
        opening = _written_after(prompt, before)
        if not opening.strip():
            opening = opening_at_end(chat, prompt) or opening_at_end(chat, before)
        if not opening and before.rstrip() == prompt.rstrip():
            tag = _TAG.search(prompt)
            opening = tag[0] if tag else prompt.split()[-1]
        if opening:
            return ThinkBlock(opening, close, "the template's own turns", shape)
    return None


def _rendered(chat: ChatTemplate, message: Message) -> str:
    try:
        return chat.render([_question(), message], generation_prompt=False)
    except Exception:  # a template may know no such turn
        return ""


def _written_after(prompt: str, before: str) -> str:
    """What an assistant turn holds between the generation prompt and its CoT."""
    if before.startswith(prompt):
        return before[len(prompt) :]
    start = prompt.rstrip()
    return before[len(start) :].lstrip() if before.startswith(start) else ""


def opening_at_end(chat: ChatTemplate, prompt: str) -> str:
    """The opening marker in which a generation prompt ends, white space behind it; empty for none."""
    tail = prompt.rpartition(QUESTION)[2]
    for family in FAMILIES:
        if tail.rstrip().endswith(family.open):
            return tail[tail.rindex(family.open) :]
    tag = _TAG.search(tail)
    if tag and _NAMES_THINKING.search(tag[1]):
        return tag[0]
    plain = _rendered(chat, {"role": "assistant", "content": ANSWER})
    header, answered, _ = plain.partition(ANSWER)
    added = prompt.removeprefix(header) if answered and prompt.startswith(header) else ""
    return added.lstrip() if _NAMES_THINKING.search(added) and not closes(added) else ""


def closes(tail: str) -> bool:
    """Whether a generation prompt closes the block, so that nothing can be thought."""
    return _EMPTY_BLOCK.search(tail) is not None or any(
        tail.rfind(family.close) > tail.rfind(family.open)
        and (family.open_optional or family.open in tail)
        for family in FAMILIES
    )


def _from_text(chat: ChatTemplate, prompt: str) -> ThinkBlock:
    """The family that opens in the generation prompt or stands in the template's text."""
    opening = opening_at_end(chat, prompt)
    family = next((f for f in FAMILIES if opening.rstrip() == f.open), None)
    family = family or next((f for f in FAMILIES if f.open in chat.text), None)
    if family is None:
        tag = _TAG.match(opening)
        close = f"</{tag[1]}>" if tag else THINK.close
        return ThinkBlock(opening or THINK.open, close)
    text = chat.text.replace("\\n", "\n")
    empty = f"{family.open}\n\n{family.close}"
    text = text.replace(empty, f"{family.open}\n \n{family.close}")  # a CoT would stand between
    _, after_open = _line_breaks(text, family.open)
    before, after = _line_breaks(text, family.close)
    if after_open and not before and not after:
        before, after = "\n", "\n\n"
    own = opening or family.open + after_open
    return ThinkBlock(own, before + family.close + after, "the template's text")


def _line_breaks(text: str, marker: str) -> tuple[str, str]:
    """The most line breaks that a template writes before and behind a marker."""
    around = re.compile(r"(\n*)" + re.escape(marker) + r"(\n*)")
    found = [match.groups() for match in around.finditer(text)]
    return (
        max((before for before, _ in found), key=len, default=""),
        max((after for _, after in found), key=len, default=""),
    )


def switched_on(chat: ChatTemplate) -> ChatTemplate:
    """The template with thinking on: by its usual switches, else by another that it names itself.

    Raises:
        Exception: Whatever the template raises on a user turn.
    """
    if not closes_think(chat):
        return chat
    for switch in thinking_switches(chat)[1:]:
        tried = replace(chat, variables={**chat.variables, **switch})
        with suppress(Exception):  # a template may raise on a value that it does not know
            if not closes_think(tried):
                return tried
    return chat


def thinking_switches(chat: ChatTemplate) -> list[dict[str, Any]]:
    """Nothing, then each way to tell a template to think that has not been used yet."""
    asked = sorted(name for name in chat.names if "think" in name or "reason" in name)
    unset = [name for name in asked if name not in chat.variables]
    return [{}, *({name: value} for name in unset for value in (True, "high"))]


def closes_think(chat: ChatTemplate) -> bool:
    """Whether the prompt of a plain question leaves no room to think."""
    return closes(chat.render([_question()], generation_prompt=True).rpartition(QUESTION)[2])
