"""Whether a rendered prompt says everything that its conversation says.

Templates drop roles, tools and contents that they do not know without a word. Knows text only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leadspan.chat import ChatTemplate, Message
from leadspan.traces.sections import FAMILIES

DROPS_TOOLS = "template_drops_tools"
PLACED_ANYWHERE = ("system", "developer")
"""Templates move these before or into another turn."""
_LEFT_OUT = re.compile(r"\s+|/no_think\b|/think\b")
"""White space, and the switches that some templates take out of a text once they have read them."""
PROBE = "leadspanturn{}end"


def find_loss(
    text: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
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


def find_dropped(
    chat: ChatTemplate, messages: Sequence[Message], variables: Mapping[str, Any]
) -> str | None:
    """`find_loss` of the same turns with made-up contents, that nothing else can be mistaken for."""
    probes = [_probe(message, number) for number, message in enumerate(messages)]
    try:
        text = chat.render(probes, generation_prompt=True, variables=variables)
    except Exception:  # what the template makes of the real contents says more
        return None
    return find_loss(text, probes)[0]


def kinds(messages: Sequence[Message]) -> tuple[Any, ...]:
    """What of the messages decides how `find_dropped` answers."""
    return tuple(
        (m["role"], type(m.get("content")), bool(m.get("content")), len(m.get("tool_calls") or ()))
        for m in messages
    )


def _probe(message: Message, number: int) -> Message:
    probe = dict(message)
    words = PROBE.format(number)
    if isinstance(message.get("content"), str):
        probe["content"] = words if message["content"].strip() else ""
    elif message.get("content"):
        probe["content"] = [{"type": "text", "text": words}]
    if message.get("tool_calls"):
        calls = [{**call, "function": dict(_function(call))} for call in message["tool_calls"]]
        for place, call in enumerate(calls):
            call["function"]["name"] = f"{words}call{place}"
        probe["tool_calls"] = calls
    return probe


def _printed_as_data(text: str, parts: list[Any]) -> bool:
    """Whether a list of parts stands in a prompt as a program writes it, not as its words."""
    return any(written(part) in text for part in parts for written in (repr, _as_json))


def _as_json(part: Any) -> str:
    return json.dumps(part, ensure_ascii=False)


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (part["text"] for part in content if isinstance(part.get("text"), str))


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function: Mapping[str, Any] = call.get("function") or call
    return function


def _called(message: Message) -> Iterator[str]:
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
