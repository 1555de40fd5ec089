"""From conversations to prompts: what generation feeds, checked row by row.

A template may drop a turn, or open, close or omit the think block by what a row says. What its own
words mend is mended; the rest is refused with a reason. Knows nothing about CoTs or files.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from leadspan.chat import ChatTemplate, Message, with_parts
from leadspan.records import Trace, Turn
from leadspan.traces.encoders import ContinuationEncoder
from leadspan.traces.layout import Layout
from leadspan.traces.sections import Refusal
from leadspan.traces.survival import DROPS_TOOLS, find_dropped, find_loss, kinds, parsed
from leadspan.traces.think_block import SWITCHES, closes, thinking_switches

REJECTS = "template_rejects_prompt"
CLOSES = "template_closes_think"
RESERVED = ("messages", "tools", "documents", "add_generation_prompt")
ROLE_NAMES = {
    "developer": ("system",),
    "tool": ("observation", "ipython", "environment", "function"),
    "observation": ("tool",),
    "ipython": ("tool",),
    "environment": ("tool",),
    "function": ("tool",),
}
"""What other templates call a role."""
MARKS = [chr(first) + chr(first + 1) for first in range(0xFDD0, 0xFDF0, 2)]
"""Pairs of characters that Unicode keeps out of all text."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is asked, and what the row itself wants of the template."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Trace) -> Conversation:
        """The prompt side of a trace."""
        return cls(trace.turns, trace.tools, trace.template_variables)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from."""

    text: str
    ids: list[int]
    opened: bool
    """The text ends in the opening think marker."""
    messages: list[Message] = field(default_factory=list)
    """The conversation as the template took it."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the template was given beside them."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A prompt before it is tokenised."""

    text: str
    opened: bool = False
    messages: list[Message] = field(default_factory=list)
    variables: Mapping[str, Any] = field(default_factory=dict)
    marks: str = ""
    """Stand in `marked` around what is words and not a control token."""
    marked: str = ""


class PromptRenderer:
    """Renders conversations with one layout."""

    def __init__(self, tokenizer: Any, layout: Layout, encoder: ContinuationEncoder) -> None:
        self._tokenizer, self._layout, self._encoder = tokenizer, layout, encoder
        self._drops: dict[Any, str | None] = {}

    def render(self, conversations: Sequence[Conversation]) -> list[Prompt | Refusal]:
        """One prompt a conversation, in order, or the reason why there is none."""
        drafts = [self._draft(conversation) for conversation in conversations]
        ids = iter(self._encode([draft for draft in drafts if isinstance(draft, _Draft)]))
        return [
            draft
            if isinstance(draft, Refusal)
            else Prompt(draft.text, next(ids), draft.opened, draft.messages, draft.variables)
            for draft in drafts
        ]

    def _encode(self, drafts: list[_Draft]) -> list[list[int]]:
        if self._layout.chat is None:
            bos = list(self._layout.bos_ids)
            return [bos + ids for ids in self._encoder.starts([draft.text for draft in drafts])]
        plain = [draft.text for draft in drafts if not draft.marked]
        encoded = iter(
            self._tokenizer(
                plain, add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            if plain
            else ()
        )
        return [
            self._encoder.marked(draft.marked, draft.marks) if draft.marked else next(encoded)
            for draft in drafts
        ]

    def _draft(self, conversation: Conversation) -> _Draft | Refusal:
        chat = self._layout.chat
        ignored = _ignored(conversation.variables, chat)
        if ignored is not None:
            return Refusal(f"template_ignores:{ignored}")
        if chat is None:
            called = any(turn.fields.get("tool_calls") for turn in conversation.turns)
            if conversation.tools or called:
                return Refusal(DROPS_TOOLS)
            return _Draft("".join(f"{turn.content}\n" for turn in conversation.turns))
        reasons = []
        for messages in _versions(conversation.turns, chat):
            made = self._try(chat, conversation, messages)
            if isinstance(made, _Draft):
                return made
            if made == CLOSES:  # all is there; no other version would say it otherwise
                return Refusal(CLOSES)
            reasons.append(made)
        return Refusal(next((reason for reason in reasons if reason != REJECTS), REJECTS))

    def _try(
        self, chat: ChatTemplate, conversation: Conversation, messages: list[Message]
    ) -> _Draft | str:
        """The prompt of these messages, or what is wrong with it."""
        tools = conversation.tools
        if tools and "tools" not in chat.names:
            return DROPS_TOOLS
        try:
            for switch in thinking_switches(chat):
                variables = {**switch, **conversation.variables}
                text = chat.render(
                    messages, generation_prompt=True, tools=tools, variables=variables
                )
                loss, end = find_loss(text, messages, tools)
                loss = loss or self._dropped(chat, messages, variables)
                if loss is not None:
                    return loss
                if not closes(text[end:]):
                    return self._marked(chat, messages, tools, variables, text, end)
        except Exception:  # Jinja's own, and whatever a template raises
            return REJECTS
        return CLOSES

    def _marked(
        self,
        chat: ChatTemplate,
        messages: list[Message],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        text: str,
        end: int,
    ) -> _Draft | str:
        """The draft; where a row spells out control tokens, also its text with these marked."""
        opened = self._layout.block.open.strip() in text[end:]
        draft = _Draft(text, opened, messages, variables)
        row = [messages, tools, variables]
        dump = json.dumps(row, ensure_ascii=False, default=str)
        if not self._encoder.has_control(dump):
            return draft
        marks = next((pair for pair in MARKS if not set(pair) & set(dump)), MARKS[0])
        messages, tools, variables = self._encoder.mark(row, marks)
        marked = chat.render(messages, generation_prompt=True, tools=tools, variables=variables)
        if re.sub(f"[{marks}]", "", marked) != text:
            return "control_token_in_prompt"
        return replace(draft, marks=marks, marked=marked)

    def _dropped(
        self, chat: ChatTemplate, messages: list[Message], variables: Mapping[str, Any]
    ) -> str | None:
        key = (kinds(messages), json.dumps(variables, sort_keys=True, default=str))
        if key not in self._drops:
            self._drops[key] = find_dropped(chat, messages, variables)
        return self._drops[key]


def _ignored(variables: Mapping[str, Any], chat: ChatTemplate | None) -> str | None:
    """The first variable of a row that its template does not read.

    A switch that turns thinking on is no wish left open: the trace thinks whatever the template says.
    """
    names = chat.names if chat else frozenset()
    for name, value in variables.items():
        is_on = name in SWITCHES and value is True
        if name in RESERVED or not (name in names or is_on):
            return name
    return None


def _versions(turns: Sequence[Turn], chat: ChatTemplate) -> Iterator[list[Message]]:
    """The conversation as it stands, then as this template may want it, least changed first."""
    messages: list[Message] = [
        {"role": turn.role, "content": turn.content, **turn.fields} for turn in turns
    ]
    seen: list[list[Message]] = []
    changes: tuple[Callable[[Message], Message], ...] = (
        partial(_renamed, chat=chat),
        _with_text_arguments,
        with_parts,
    )
    for number in range(len(changes) + 1):
        for chosen in itertools.combinations(changes, number):
            version = [_parsed_arguments(message) for message in messages]
            for change in chosen:
                version = [change(message) for message in version]
            if version not in seen:
                seen.append(version)
                yield version


def _renamed(message: Message, chat: ChatTemplate) -> Message:
    """The message under the name that the template has for its role."""
    for name in ROLE_NAMES.get(message["role"], ()):
        if f"'{name}'" in chat.text or f'"{name}"' in chat.text:
            return {**message, "role": name}
    return message


def _map_calls(message: Message, change: Callable[[Any], Any]) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    changed = []
    for call in calls:
        function = dict(call.get("function") or call)
        function["arguments"] = change(function.get("arguments"))
        changed.append({**call, "function": function} if call.get("function") else function)
    return {**message, "tool_calls": changed}


def _parsed_arguments(message: Message) -> Message:
    return _map_calls(message, parsed)


def _with_text_arguments(message: Message) -> Message:
    return _map_calls(message, lambda value: value if isinstance(value, str) else json.dumps(value))
