"""Messages of every shape: what they say, or the reason why that cannot be said."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from leadspan.messages import Unusable, read_message, read_tools, without_end_tokens

CALL = {"type": "function", "function": {"name": "mul", "arguments": {"a": 6}}}
READ: list[tuple[str, Any, tuple[str, str, str, dict[str, Any]]]] = [
    ("text", {"role": "user", "content": "q"}, ("user", "q", "", {})),
    ("sharegpt", {"from": "human", "value": "q"}, ("user", "q", "", {})),
    ("roles in capitals", {"role": " User ", "content": "q"}, ("user", "q", "", {})),
    ("a developer", {"role": "developer", "content": "q"}, ("developer", "q", "", {})),
    ("an observation", {"from": "observation", "value": "42"}, ("tool", "42", "", {})),
    (
        "parts",
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        ("user", "ab", "", {}),
    ),
    ("bare parts", {"role": "user", "content": ["a", "b"]}, ("user", "ab", "", {})),
    ("parts without a type", {"role": "user", "content": [{"text": "a"}]}, ("user", "a", "", {})),
    (
        "a part with the nulls of a table",
        {"role": "user", "content": [{"type": "text", "text": "a", "image_url": None}]},
        ("user", "a", "", {}),
    ),
    (
        "the words under another key",
        {"role": "user", "content": [{"type": "text", "content": "a"}]},
        ("user", "a", "", {}),
    ),
    (
        "nested thinking",
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": t} for t in "cd"]},
                {"type": "text", "text": "a"},
            ],
        },
        ("assistant", "a", "cd", {"reasoning_content": "cd"}),
    ),
    (
        "a reasoning item with a summary beside output text",
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "text": "c"}, {"type": "output_text", "text": "a"}],
        },
        ("assistant", "a", "c", {"reasoning_content": "c"}),
    ),
    (
        "a refusal",
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ("assistant", "No.", "", {}),
    ),
    (
        "a refusal beside null",
        {"role": "assistant", "content": None, "refusal": "No."},
        ("assistant", "No.", "", {}),
    ),
    (
        "a reasoning field",
        {"role": "assistant", "content": "a", "reasoning": "c", "thinking": None},
        ("assistant", "a", "c", {"reasoning": "c"}),
    ),
    (
        "a blank reasoning field before one that speaks",
        {"role": "assistant", "content": "a", "reasoning_content": " \n", "thinking": "c"},
        ("assistant", "a", "c", {"thinking": "c"}),
    ),
    (
        "reasoning details",
        {"role": "assistant", "content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "c"}]},
        ("assistant", "a", "c", {"reasoning_details": "c"}),
    ),
    (
        "a call",
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **CALL}]},
        ("assistant", "", "", {"tool_calls": [{"id": "1", **CALL}]}),
    ),
    (
        "arguments as text",
        {"role": "assistant", "tool_calls": [{"function": {"name": "mul", "arguments": '{"a": 6}'}}]},
        ("assistant", "", "", {"tool_calls": [CALL]}),
    ),
    (
        "a function call of the older kind",
        {"role": "assistant", "content": None, "function_call": {"name": "mul", "arguments": '{"a": 6}'}},
        ("assistant", "", "", {"tool_calls": [CALL]}),
    ),
    (
        "a function call of ShareGPT",
        {"from": "function_call", "value": '{"name": "mul", "arguments": {"a": 6}}'},
        ("assistant", "", "", {"tool_calls": [CALL]}),
    ),
    (
        "a call through a channel",
        {"role": "assistant", "channel": "commentary", "recipient": "functions.mul", "content": '{"a": 6}'},
        ("assistant", "", "", {"tool_calls": [CALL]}),
    ),
    (
        "code to an interpreter",
        {"role": "assistant", "recipient": "python", "content": "6*7"},
        (
            "assistant",
            "",
            "",
            {"tool_calls": [{"type": "function", "function": {"name": "python", "arguments": "6*7"}}]},
        ),
    ),
    (
        "a message to all",
        {"role": "assistant", "recipient": "all", "content": "a"},
        ("assistant", "a", "", {}),
    ),
    (
        "a result",
        {"role": "tool", "tool_call_id": "1", "name": "mul", "content": "42"},
        ("tool", "42", "", {"tool_call_id": "1", "name": "mul"}),
    ),
    ("an empty result", {"role": "tool", "content": None}, ("tool", "", "", {})),
]  # fmt: skip


@pytest.mark.parametrize(("message", "said"), [r[1:] for r in READ], ids=[r[0] for r in READ])
def test_what_a_message_says(message: Any, said: tuple[str, str, str, dict[str, Any]]) -> None:
    read = read_message(message)
    assert (read.role, read.text, read.reasoning, dict(read.fields)) == said


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


REFUSED: list[tuple[Any, str]] = [
    ("hello", "not_a_message"),
    ({"content": "q"}, "missing:role"),
    ({"role": 4, "content": "q"}, "not_text:role"),
    (user(None), "missing:content"),
    (user(4), "not_text:content"),
    (user({"type": "text", "text": "q"}), "not_text:content"),
    (user([{"type": "text", "text": 4}]), "not_text:content"),
    (user([{"type": "text"}]), "part_without_text"),
    (user([{"type": "image"}]), "has_image"),
    (user([{"type": "input_image", "image_url": "x"}]), "has_image"),
    (user([{"type": "text", "text": "q"}, {"type": "audio_url"}]), "has_audio"),
    (user([{"type": "video_url"}]), "has_video"),
    (user([{"type": "document"}]), "has_file"),
    (user([{"type": "tool_result", "content": "42"}]), "unknown_part:tool_result"),
    (user([{"type": "redacted_thinking", "data": "x"}]), "unknown_part:redacted_thinking"),
    (user([{"type": ["text"]}]), "unknown_part"),
    (user([{}]), "unknown_part"),
    (user([[[[[[[["q"]]]]]]]]), "too_deep"),
    ({"from": "function_call", "value": "mul(6)"}, "unreadable_tool_call"),
    ({"role": "assistant", "tool_calls": [{"function": {"name": 3}}]}, "unreadable_tool_call"),
    ({"role": "assistant", "content": "a", "thinking": True}, "not_text:thinking"),
]


@pytest.mark.parametrize(("message", "reason"), REFUSED, ids=[repr(r[0])[:60] for r in REFUSED])
def test_what_is_no_text_has_a_reason(message: Any, reason: str) -> None:
    with pytest.raises(Unusable) as raised:
        read_message(message)
    assert str(raised.value) == reason


def test_null_parts_are_noted() -> None:
    assert (
        read_message(user(["q", None, {"type": "text", "text": None}])).notes == ("null_part",) * 2
    )


def test_tools_become_what_templates_take() -> None:
    bare = {"name": "mul", "parameters": {}}
    wrapped = {"type": "function", "function": bare}
    for given in ([bare], json.dumps([bare]), [wrapped]):
        assert read_tools(given) == (wrapped,)
    assert read_tools(None) == read_tools("") == read_tools([]) == ()
    with pytest.raises(Unusable, match="not_an_object:tools"):
        read_tools(["mul"])


def test_end_tokens_are_taken_off_in_linear_time() -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        for text in ("<|im_end|>" * count, " " * count + "<|im_end|>", "<" * count, "[|" * count):
            without_end_tokens(text)
        return time.process_time() - started

    seconds(1000)
    assert seconds(160_000) < 30 * seconds(20_000) + 0.2
