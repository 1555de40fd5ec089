"""What a chat message says: its text, its reasoning, its tool calls. The one reader of message content.

Traces, benchmarks and server answers come through here. What cannot be represented as text raises
`Unusable` with the reason that is counted. Knows JSON-like values; nothing about files, data sets,
templates or servers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = {
    "human": "user",
    **dict.fromkeys(("gpt", "model", "bot", "ai", "chatgpt"), "assistant"),
    **dict.fromkeys(("observation", "function", "tool_response", "ipython"), "tool"),
}
CALL_ROLES = frozenset(["function_call", "tool_call"])
"""The value of such a message is a tool call of the assistant, as JSON."""
REASONING_ROLES = frozenset(["reasoning", "thinking"])
CONTENT_KEYS = ("content", "value")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
KEPT_FIELDS = ("tool_call_id", "name")
NO_TOOLS = frozenset(["", "all", "assistant", "user"])
"""Recipients of a message that are no tools."""
TEXT_PARTS = frozenset(["text", "input_text", "output_text", "refusal"])
REASONING_PARTS = frozenset(
    ["thinking", "reasoning", "reasoning_text", "reasoning.text", "reasoning_content"]
)
WORDS_OF_A_PART = ("text", "content", "thinking", "reasoning", "reasoning_content", "refusal")
"""Where a part keeps its words; the first that is there counts."""
MEDIA = {"image": "has_image", "audio": "has_audio", "video": "has_video"}
FILES = frozenset(["file", "input_file", "document"])
MOST_NESTED = 6
"""Lists of parts within parts."""

SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half a character, which no encoding and no tokenizer takes."""
_PLAIN_NAME = re.compile(r"[\w.-]{1,40}")
_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|\[\|[a-z_]{1,40}\|\]"
    r"|</s>|<(?:eos|EOS|eot|EOT|end_of_turn|end_of_utterance|turn\||seed:eos)>|\[EOS\]"
)
"""Control tokens by their shape: the tokenizer of the model that wrote a text need not be here."""
_CLOSERS = re.compile(
    r"<\|(?:end_of_(?:thought|solution|box)|END_(?:THINKING|RESPONSE|ACTION)|call|message)\|>"
)
"""They end a part of the text, not the text."""
_LONGEST_CONTROL = 44


class Unusable(Exception):  # noqa: N818 - control flow within the package
    """Something that cannot become text; the message is the reason that is counted."""


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """One message, read."""

    role: str
    text: str
    reasoning: str = ""
    """Reasoning that stands beside the text: a field, or parts of their own."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other keys that a chat template may read: tool_calls, tool_call_id, name."""
    is_reasoning: bool = False
    """The whole message is reasoning of the assistant message behind it."""
    notes: tuple[str, ...] = ()
    """What was passed over, for the counts."""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The assistant's calls, as chat templates take them."""
        calls: list[dict[str, Any]] = self.fields.get("tool_calls", [])
        return calls


@dataclass(slots=True)
class _Parts:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_message(message: Any, role: str | None = None) -> ReadMessage:
    """Read one message of any of the usual shapes.

    Args:
        message: OpenAI (`role`, `content`), ShareGPT (`from`, `value`) or harmony (`channel`).
        role: The role where the message does not say one.

    Raises:
        Unusable: It is no message, or holds what is not text.
    """
    if not isinstance(message, Mapping):
        raise Unusable("not_a_message")
    named = role or _role(message)
    content = next((message[key] for key in CONTENT_KEYS if message.get(key) is not None), None)
    if named in CALL_ROLES:
        called = [_call(call) for call in _listed(_parsed(content))]
        return ReadMessage("assistant", "", fields={"tool_calls": called})
    parts = _Parts()
    _read_into(content, parts.text, parts, "content", 0)
    name, reasoning = _reasoning_field(message)
    calls = _calls(message, parts.text)
    refusal = message.get("refusal")
    if content is None and isinstance(refusal, str):
        parts.text.append(refusal)
    elif content is None and not (reasoning or calls or named == "tool"):
        raise Unusable("missing:content")
    fields: dict[str, Any] = {"tool_calls": calls} if calls else {}
    fields |= {key: message[key] for key in KEPT_FIELDS if isinstance(message.get(key), str)}
    beside = "".join(parts.reasoning)
    if reasoning and beside.strip() not in ("", reasoning.strip()):
        raise Unusable("two_reasonings")
    if not reasoning and beside.strip():
        name, reasoning = "reasoning_content", beside
    if reasoning:
        fields[name] = reasoning
    is_reasoning = named in REASONING_ROLES or message.get("channel") == "analysis"
    return ReadMessage(
        "assistant" if is_reasoning else named,
        "".join(parts.text),
        reasoning,
        fields,
        is_reasoning,
        tuple(parts.notes),
    )


def read_tools(value: Any, name: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Schemas of tools as chat templates take them, from a list or its JSON.

    Raises:
        Unusable: It is something else.
    """
    if value is None or value == "":
        return ()
    value = _parsed(value)
    if not isinstance(value, list):
        raise Unusable(f"not_a_list:{name}")
    return tuple(_tool(tool, name) for tool in value)


def _tool(tool: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(tool, Mapping) or not tool:
        raise Unusable(f"not_an_object:{name}")
    if "function" in tool or "name" not in tool:
        return tool
    function = {key: value for key, value in tool.items() if key != "type"}
    return {"type": "function", "function": function}


def without_end_tokens(text: str) -> str:
    """`text` without the end tokens, and the white space before them, that stand at its end."""
    kept = end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        place = max(text.rfind(opener, max(0, end - _LONGEST_CONTROL), end) for opener in "<[")
        token = text[place:end] if place >= 0 else ""
        if not _CONTROL.fullmatch(token) or _CLOSERS.fullmatch(token):
            return text[:kept]
        end = place
        while end and text[end - 1].isspace():
            end -= 1
        kept = end


def _role(message: Mapping[str, Any]) -> str:
    for key in ("role", "from"):
        value = message.get(key)
        if isinstance(value, str):
            plain = value.strip().lower()
            return ROLES.get(plain, plain)
        if value is not None:
            raise Unusable(f"not_text:{key}")
    raise Unusable("missing:role")


def _read_into(value: Any, into: list[str], parts: _Parts, name: str, depth: int) -> None:
    """Append what `value` says to `into`; reasoning parts to the reasoning."""
    if isinstance(value, str):
        into.append(value)
    elif value is None:
        if depth:
            parts.notes.append("null_part")
    elif depth > MOST_NESTED:
        raise Unusable("too_deep")
    elif isinstance(value, list):
        for entry in value:
            _read_into(entry, into, parts, name, depth + 1)
    elif isinstance(value, Mapping) and depth:
        if _kind(value) == "reasoning":
            if "".join(parts.text).strip() and into is parts.text:
                raise Unusable("text_before_marker")
            into = parts.reasoning
        _read_into(_words(value), into, parts, name, depth + 1)
    else:
        raise Unusable(f"not_text:{name}")


def _kind(part: Mapping[str, Any]) -> str:
    """`text` or `reasoning`.

    Raises:
        Unusable: It is a picture, a file, a tool call, or nothing known.
    """
    kind = part.get("type")
    if kind is None:  # parts without a type are told by the key that holds something
        kind = next((key for key, value in part.items() if value is not None), None)
    if not isinstance(kind, str):
        raise Unusable("unknown_part")
    if kind in TEXT_PARTS:
        return "text"
    if kind in REASONING_PARTS:
        return "reasoning"
    if kind in FILES:
        raise Unusable("has_file")
    for medium, reason in MEDIA.items():
        if medium in kind:
            raise Unusable(reason)
    raise Unusable(f"unknown_part:{kind}" if _PLAIN_NAME.fullmatch(kind) else "unknown_part")


def _words(part: Mapping[str, Any]) -> Any:
    there = [key for key in WORDS_OF_A_PART if key in part]
    if not there:
        raise Unusable("part_without_text")
    return next((part[key] for key in there if part[key] is not None), None)


def _reasoning_field(message: Mapping[str, Any]) -> tuple[str, str]:
    """The name and text of the first reasoning field that says something."""
    for name in REASONING_FIELDS:
        parts = _Parts()
        _read_into(message.get(name), parts.reasoning, parts, name, 0)
        text = "".join((*parts.reasoning, *parts.text))
        if text.strip():
            return name, text
    return "", ""


def _calls(message: Mapping[str, Any], text: list[str]) -> list[dict[str, Any]]:
    """The tool calls of a message: OpenAI's, its older `function_call`, or harmony's recipient.

    The text of a message to a recipient is what it is called with.
    """
    recipient = message.get("recipient")
    if isinstance(recipient, str) and recipient not in NO_TOOLS:
        called = {"name": recipient.removeprefix("functions."), "arguments": "".join(text)}
        text.clear()
        return [_call(called)]
    listed = _listed(_parsed(message.get("tool_calls")))
    return [_call(call) for call in listed or _listed(_parsed(message.get("function_call")))]


def _listed(value: Any) -> list[Any]:
    if value is None or value == "" or value == {}:
        return []
    return value if isinstance(value, list) else [value]


def _call(call: Any) -> dict[str, Any]:
    """A tool call as chat templates take it, its arguments as an object where they are one."""
    if not isinstance(call, Mapping):
        raise Unusable("unreadable_tool_call")
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    name = function.get("name")
    arguments = _parsed(function.get("arguments", function.get("parameters")))
    if not isinstance(name, str) or not isinstance(arguments, Mapping | str | None):
        raise Unusable("unreadable_tool_call")
    identity = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    called = {"name": name, "arguments": {} if arguments is None else arguments}
    return {"type": "function", **identity, "function": called}


def _parsed(value: Any) -> Any:
    """JSON text as what it says; other text and other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
