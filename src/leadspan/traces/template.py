"""What stands around CoT and answer: chat template, think markers, end of turn.

How a template writes a think block is read off its own output, else off its text. Knows templates and
special tokens; knows nothing about traces or spans.
"""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from leadspan.chat import (
    ChatMessage,
    ChatTemplate,
    assistant_messages,
    choose_template,
    special_tokens,
)
from leadspan.config import RenderConfig
from leadspan.errors import DataError, LeadspanError
from leadspan.models import end_of_turn_id
from leadspan.traces.sections import FAMILIES, THINK

QUESTION, COT, ANSWER = "leadspanquestion", "leadspanthought", "leadspananswer"
ASKED: ChatMessage = {"role": "user", "content": QUESTION}
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
    prompt = chat.render([ASKED], generation_prompt=True)
    return _from_turns(chat, prompt) or _from_text(chat, prompt)


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


def _rendered(chat: ChatTemplate, message: ChatMessage) -> str:
    try:
        return chat.render([ASKED, message], generation_prompt=False)
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
    return closes(chat.render([ASKED], generation_prompt=True).rpartition(QUESTION)[2])


@dataclass(frozen=True, slots=True)
class Layout:
    """The fixed texts and ids around the parts of a trace."""

    chat: ChatTemplate | None
    """None renders prompts plainly, for base models without a template."""
    block: ThinkBlock
    """The think markers; the open one is left out behind a prompt that ends in it."""
    ending_ids: tuple[int, ...] = ()
    """What follows the answer: the end-of-turn token, and more only with `paper_compat`."""
    bos_ids: tuple[int, ...] = ()
    """Stands before a plain prompt, where the tokenizer adds a bos of its own."""

    @property
    def template(self) -> str | None:
        """The Jinja text."""
        return self.chat.text if self.chat else None

    @property
    def identity(self) -> list[Any]:
        """Everything that the text of a sequence depends on, as JSON."""
        chat, block = self.chat, self.block
        frame = [block.open, block.close, list(self.ending_ids)]
        return [*([chat.text, dict(chat.variables), chat.date] if chat else []), *frame]

    def open_before(self, cot: str) -> str:
        """The text between prompt and CoT, without newlines that the CoT brings itself."""
        return without_overlap(self.block.open, cot)

    def close_between(self, cot: str, answer: str) -> str:
        """The text between CoT and answer, without newlines that either brings itself."""
        core = self.block.close.lstrip()
        before = self.block.close[: len(self.block.close) - len(core)]
        shared = max(k for k in range(len(before) + 1) if cot.endswith(before[:k]))
        return before[shared:] + without_overlap(core, answer)


def without_overlap(glue: str, text: str) -> str:
    """`glue` without the white space at its end with which `text` already starts."""
    most = len(glue) - len(glue.rstrip())
    shared = max(k for k in range(most + 1) if text.startswith(glue[len(glue) - k :]))
    return glue[: len(glue) - shared]


def build_layout(tokenizer: Any, config: RenderConfig) -> Layout:
    """Find out how this tokenizer and template frame a completion.

    Raises:
        DataError: The template cannot be read or fails, closes the think block before the model can
            think, or there is no end-of-turn token.
    """
    text = choose_template(tokenizer, config)
    chat = None
    if text is not None:
        variables = {**special_tokens(tokenizer), **SWITCHES, **config.template_variables}
        chat = ChatTemplate(text, variables, str(config.dated().date))
    try:
        chat = chat and switched_on(chat)
        if chat and closes_think(chat):
            raise DataError(
                "chat template: its generation prompt must leave the think block open; got one that "
                "closes it. Switch thinking on with render.template_variables."
            )
        block = _own_markers(find_block(chat), config)
        ending = _ending(tokenizer, chat, config.paper_compat)
    except LeadspanError:
        raise
    except Exception as error:  # Jinja's own, and whatever a template raises
        raise DataError(
            f"chat template: must render a user and an assistant turn; {error}."
        ) from None
    return Layout(chat, block, ending, _own_bos(tokenizer) if chat is None else ())


def _own_markers(block: ThinkBlock, config: RenderConfig) -> ThinkBlock:
    if config.think_open is not None:
        block = replace(block, open=config.think_open, source="run.yaml")
    if config.think_close is not None:
        block = replace(block, close=config.think_close, source="run.yaml")
    for name, text in (("think_open", block.open), ("think_close", block.close)):
        if not text.strip():
            raise DataError(f"render.{name}: must hold a marker; got {text!r}.")
    return block


def _own_bos(tokenizer: Any) -> tuple[int, ...]:
    bos_id = tokenizer.bos_token_id
    first = tokenizer(QUESTION)["input_ids"][:1]
    return (bos_id,) if bos_id is not None and first == [bos_id] else ()


def _ending(tokenizer: Any, chat: ChatTemplate | None, paper_compat: bool) -> tuple[int, ...]:
    framed = copy.copy(tokenizer)
    framed.chat_template = chat and chat.text
    if not paper_compat or chat is None:
        return (end_of_turn_id(framed),)
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": QUESTION}]
    text = chat.render(turns, generation_prompt=True).rpartition(QUESTION)[2]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
