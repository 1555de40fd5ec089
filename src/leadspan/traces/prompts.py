"""From conversations to prompts: what generation feeds, checked row by row.

Templates drop roles, tools and contents that they do not know without a word, and open, close or omit
the think block by what a row says. What a template's own words mend is mended; the rest is refused with
a reason. Knows nothing about CoTs or files.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from leadspan.chat import ChatMessage, ChatTemplate, with_parts
from leadspan.records import Message, Trace
from leadspan.traces.encoders import ContinuationEncoder
from leadspan.traces.sections import FAMILIES, SkippedRow
from leadspan.traces.template import SWITCHES, Layout, closes, thinking_switches

DROPS_TOOLS = "template_drops_tools"
PLACED_ANYWHERE = ("system", "developer")
"""Templates move these before or into another turn."""
_LEFT_OUT = re.compile(r"\s+|/no_think\b|/think\b")
"""White space, and the switches that some templates take out of a text once they have read them."""
PROBE = "leadspanturn{}end"


def find_loss(
    text: str, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[str | None, int]:
    """The first thing that a rendered prompt lacks, and where what was found last ends.

    Returns:
        `template_drops:ROLE`, `template_drops_tools` or None; a place in `text`.
    """
    end = 0
    for message in messages:
        start = 0 if message["role"] in PLACED_ANYWHERE else end
        content = message.get("content")
        if isinstance(content, list) and _printed_as_data(text, content):
            return f"template_drops:{message['role']}", end
        for piece in _texts(content):
            found = _find(text, piece, start)
            if found < 0:
                return f"template_drops:{message['role']}", end
            end = max(end, found)
        places = [_find(text, piece, start) for piece in _called(message)]
        if -1 in places:
            return DROPS_TOOLS, end
        end = max(end, *places) if places else end
    if any(_find(text, name, 0) < 0 for name in _named(tools)):
        return DROPS_TOOLS, end
    return None, end


def _probe(message: ChatMessage, number: int) -> ChatMessage:
    probe = dict(message)
    words = PROBE.format(number)
    if isinstance(message.get("content"), str):
        probe["content"] = words if message["content"].strip() else ""
    elif message.get("content"):
        probe["content"] = [{"type": "text", "text": words}]
    names = (f"{words}call{place}" for place in itertools.count())
    return _map_calls(probe, lambda function: {**function, "name": next(names)})


def _printed_as_data(text: str, parts: list[Any]) -> bool:
    """Whether a list of parts stands in a prompt as a program writes it, not as its words."""
    return any(repr(p) in text or json.dumps(p, ensure_ascii=False) in text for p in parts)


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (part["text"] for part in content if isinstance(part.get("text"), str))


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function: Mapping[str, Any] = call.get("function") or call
    return function


def _called(message: ChatMessage) -> Iterator[str]:
    """Name and argument values of each tool call."""
    for call in message.get("tool_calls") or ():
        function = _function(call)
        yield str(function.get("name", ""))
        yield from _leaves(parsed(function.get("arguments")))


def parsed(arguments: Any) -> Any:
    """The arguments of a tool call as data; some rows hold them as JSON text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _named(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Name and parameter names of each tool."""
    for tool in tools:
        function = _function(tool)
        yield str(function.get("name", ""))
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        yield from (str(name) for name in properties or ())


def _find(text: str, piece: str, start: int) -> int:
    """Where a text that templates may trim, quote or shorten ends; -1 where it is not there."""
    for form in _forms(piece):
        place = text.find(form, start)
        if place >= 0:
            return place + len(form)
    squeezed = _LEFT_OUT.sub("", piece)
    return start if squeezed in _LEFT_OUT.sub("", text[start:]) else -1


def _forms(piece: str) -> Iterator[str]:
    bare = piece.strip()
    yield bare
    for ascii_only in (False, True):
        yield json.dumps(bare, ensure_ascii=ascii_only)[1:-1]
    for family in FAMILIES:  # templates leave the CoT of earlier turns out
        _, closed, rest = bare.rpartition(family.close)
        if closed and rest.strip():
            yield rest.strip()


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

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Trace) -> Conversation:
        """The prompt side of a trace."""
        return cls(trace.messages, trace.tools, trace.template_variables)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from."""

    text: str
    ids: list[int] = field(default_factory=list)
    opened: bool = False
    """The text ends in the opening think marker."""
    messages: list[ChatMessage] = field(default_factory=list)
    """The conversation as the template took it."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the template was given beside them."""


class PromptRenderer:
    """Renders conversations with one layout."""

    def __init__(self, tokenizer: Any, layout: Layout, encoder: ContinuationEncoder) -> None:
        self._tokenizer, self._layout, self._encoder = tokenizer, layout, encoder
        self._drops: dict[str, str | None] = {}

    def render(self, conversations: Sequence[Conversation]) -> list[Prompt | SkippedRow]:
        """One prompt a conversation, in order, or the reason why there is none."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        waiting = [p for p in prompts if isinstance(p, Prompt) and not p.ids]
        ids = iter(self._encode([prompt.text for prompt in waiting]))
        return [
            replace(p, ids=next(ids)) if isinstance(p, Prompt) and not p.ids else p for p in prompts
        ]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._layout.chat is None:
            bos = list(self._layout.bos_ids)
            return [bos + ids for ids in self._encoder.starts(texts)]
        if not texts:
            return []
        encoded = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _prompt(self, conversation: Conversation) -> Prompt | SkippedRow:
        """A prompt whose ids may still be missing."""
        chat = self._layout.chat
        ignored = _ignored(conversation.variables, chat)
        if ignored is not None:
            return SkippedRow(f"template_ignores:{ignored}")
        if chat is None:
            called = any(turn.fields.get("tool_calls") for turn in conversation.messages)
            if conversation.tools or called:
                return SkippedRow(DROPS_TOOLS)
            return Prompt("".join(f"{turn.content}\n" for turn in conversation.messages))
        reasons = []
        for messages in _versions(conversation.messages, chat):
            made = self._try(chat, conversation, messages)
            if isinstance(made, Prompt):
                return made
            if made == CLOSES:  # all is there; no other version would say it otherwise
                return SkippedRow(CLOSES)
            reasons.append(made)
        return SkippedRow(next((reason for reason in reasons if reason != REJECTS), REJECTS))

    def _try(
        self, chat: ChatTemplate, conversation: Conversation, messages: list[ChatMessage]
    ) -> Prompt | str:
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
        messages: list[ChatMessage],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        text: str,
        end: int,
    ) -> Prompt | str:
        """The prompt; where a row spells out control tokens, with the ids of them as words."""
        opened = self._layout.block.open.strip() in text[end:]
        prompt = Prompt(text, [], opened, messages, variables)
        row = [messages, tools, variables]
        dump = json.dumps(row, ensure_ascii=False, default=str)
        if not self._encoder.has_control(dump):
            return prompt
        marks = next((pair for pair in MARKS if not set(pair) & set(dump)), MARKS[0])
        messages, tools, variables = self._encoder.mark(row, marks)
        marked = chat.render(messages, generation_prompt=True, tools=tools, variables=variables)
        if re.sub(f"[{marks}]", "", marked) != text:
            return "control_token_in_prompt"
        return replace(prompt, ids=self._encoder.marked(marked, marks))

    def _dropped(
        self, chat: ChatTemplate, messages: list[ChatMessage], variables: Mapping[str, Any]
    ) -> str | None:
        """`find_loss` of the same turns with made-up contents, that nothing else can be mistaken for."""
        kinds = [(m["role"], type(m.get("content")), bool(m.get("content"))) for m in messages]
        calls = [len(m.get("tool_calls") or ()) for m in messages]
        key = json.dumps([kinds, calls, variables], sort_keys=True, default=str)
        if key not in self._drops:
            self._drops[key] = None  # what the template makes of the real contents says more
            probes = [_probe(message, number) for number, message in enumerate(messages)]
            with suppress(Exception):
                text = chat.render(probes, generation_prompt=True, variables=variables)
                self._drops[key] = find_loss(text, probes)[0]
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


def _versions(turns: Sequence[Message], chat: ChatTemplate) -> Iterator[list[ChatMessage]]:
    """The conversation as it stands, then as this template may want it, least changed first."""
    messages: list[ChatMessage] = [
        {"role": turn.role, "content": turn.content, **turn.fields} for turn in turns
    ]
    seen: list[list[ChatMessage]] = []
    changes: tuple[Callable[[ChatMessage], ChatMessage], ...] = (
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


def _renamed(message: ChatMessage, chat: ChatTemplate) -> ChatMessage:
    """The message under the name that the template has for its role."""
    for name in ROLE_NAMES.get(message["role"], ()):
        if f"'{name}'" in chat.text or f'"{name}"' in chat.text:
            return {**message, "role": name}
    return message


def _map_calls(message: ChatMessage, change: Callable[[Any], Any]) -> ChatMessage:
    """The message with the function of each tool call changed."""
    changed = []
    for call in message.get("tool_calls") or ():
        function = change(_function(call))
        changed.append({**call, "function": function} if call.get("function") else function)
    return {**message, "tool_calls": changed} if changed else message


def _parsed_arguments(message: ChatMessage) -> ChatMessage:
    return _map_calls(message, lambda f: {**f, "arguments": parsed(f.get("arguments"))})


def _with_text_arguments(message: ChatMessage) -> ChatMessage:
    def as_text(function: Mapping[str, Any]) -> Mapping[str, Any]:
        value = function.get("arguments")
        return {**function, "arguments": value if isinstance(value, str) else json.dumps(value)}

    return _map_calls(message, as_text)
