"""Bad rows, as they stand in a file, and the documented result of each.

A result is the reason it is refused for, or the CoT it becomes. docs/data.md explains the reasons.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leadspan.records import Trace
from leadspan.traces.dataset import iter_sequences
from leadspan.traces.render import Renderer
from leadspan.traces.sections import SkippedRow
from leadspan.traces.sources import LoadedTraces, load_traces
from tests.traces.tokenizers_for_tests import byte_level


class Kept(str):
    """The CoT of a row that is used after all."""


def js(**row: Any) -> bytes:
    return json.dumps(row).encode()


def chat(content: Any, **message: Any) -> bytes:
    reply = {"role": "assistant", "content": content, **message}
    return js(messages=[{"role": "user", "content": "q"}, reply])


G = {"prompt": "q", "cot": "c", "answer": "a"}
BAD: list[tuple[str, bytes, str]] = [
    # not rows at all
    ("broken json", b'{"prompt": "q", "cot": ', "broken_json"),
    ("two objects on a line", b'{"prompt": "q"} {"cot": "c"}', "broken_json"),
    ("python literal", b"{'prompt': 'q', 'cot': 'c'}", "broken_json"),
    ("plain text", b"Once upon a time", "broken_json"),
    ("html", b"<html><body>404</body></html>", "broken_json"),
    ("too deep", b"[" * 100_000, "broken_json"),
    ("raw control character", b'{"prompt": "q\x01", "cot": "c"}', "broken_json"),
    ("invalid utf-8", b'{"prompt": "q\xff", "cot": "c"}', "invalid_utf8"),
    ("utf-16", '{"prompt": "q"}'.encode("utf-16"), "invalid_utf8"),
    ("latin-1", '{"prompt": "é", "cot": "c"}'.encode("latin-1"), "invalid_utf8"),
    ("a list", b'["q", "c", "a"]', "not_an_object"),
    ("a string", b'"q"', "not_an_object"),
    ("a number", b"42", "not_an_object"),
    ("null", b"null", "not_an_object"),
    ("empty object", b"{}", "unknown_format"),
    ("foreign columns", js(text="q", label=1), "unknown_format"),
    ("prompt and answer only", js(prompt="q", answer="a"), "unknown_format"),
    (
        "limo's columns among others",
        js(question="q", solution="s", answer="a", level=5),
        "unknown_format",
    ),
    # fields of the wrong type, missing or empty
    ("null prompt", js(**{**G, "prompt": None}), "missing:prompt"),
    ("null cot", js(**{**G, "cot": None}), "missing:cot"),
    ("empty cot", js(**{**G, "cot": ""}), "empty_cot"),
    ("blank cot", js(**{**G, "cot": " \n\t "}), "empty_cot"),
    ("empty prompt", js(**{**G, "prompt": ""}), "empty_prompt"),
    ("blank prompt", js(**{**G, "prompt": "\n"}), "empty_prompt"),
    ("number for a cot", js(**{**G, "cot": 42}), "not_text:cot"),
    ("list for a cot", js(**{**G, "cot": ["c"]}), "not_text:cot"),
    ("object for a prompt", js(**{**G, "prompt": {"text": "q"}}), "not_text:prompt"),
    ("number for an answer", js(**{**G, "answer": 4}), "not_text:answer"),
    ("list of golds", js(**G, gold=["1", "2"]), Kept("c")),
    ("object for a gold", js(**G, gold={"value": 1}), Kept("c")),
    ("an unreadable gold", js(**G, gold={"n": 1}), Kept("c")),
    ("not a number for a gold", b'{"prompt": "q", "cot": "c", "gold": NaN}', Kept("c")),
    (
        "lone surrogate in the gold",
        b'{"prompt": "q", "cot": "c", "gold": "\\ud800"}',
        "lone_surrogate",
    ),
    ("lone surrogate in the id", b'{"prompt": "q", "cot": "c", "id": "\\ud800"}', Kept("c")),
    ("an object for an id", js(**G, id={"a": 1}), Kept("c")),
    ("nested too deep", js(**G, x=json.loads("[" * 80 + "]" * 80)), "too_deep"),
    ("too long", js(**{**G, "cot": "c " * 600_000}), "too_long"),
    (
        "too many messages",
        js(messages=[{"role": "user", "content": ""}] * 10_001),
        "too_many_messages",
    ),
    ("a picture in a column", js(**G, images=["a.png"]), "has_image"),
    ("sound in a column", js(**G, audio={"path": "a.wav"}), "has_audio"),
    ("no picture in a column", js(**G, images=[], video=None), Kept("c")),
    # formats that are not told by their columns
    ("input and output say nothing", js(input="q", output="<think>c</think>a"), "unknown_format"),
    (
        "two formats fit",
        js(prompt="q", cot="c", completion="<think>c</think>a"),
        "ambiguous_format:sections,prompt_completion",
    ),
    (
        "two conversations",
        js(messages=[], conversations=[]),
        "ambiguous_format:openthoughts,messages",
    ),
    # prompts
    ("rendered", js(prompt="<|im_start|>user\nq<|im_end|>\n", cot="c"), "prerendered_prompt"),
    (
        "rendered by DeepSeek's template",
        js(prompt="<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>\n", cot="c"),
        "prerendered_prompt",
    ),
    ("rendered by Llama's", js(prompt="<s>[INST] q [/INST]", cot="c"), "prerendered_prompt"),
    ("only its end is rendered", js(prompt="q\n<think>\n", cot="c"), "prerendered_prompt"),
    ("end tokens as words", js(prompt="What is <|im_end|>?", cot="c"), Kept("c")),
    ("html that looks like a bos", js(prompt="<s>q</s>", cot="c"), Kept("c")),
    (
        "an assistant's start",
        js(
            prompt=[{"role": "user", "content": "q"}, {"role": "assistant", "content": "Let me"}],
            completion="<think>c</think>a",
        ),
        "prompt_ends_in_assistant",
    ),
    # content that is not text
    ("a picture", chat([{"type": "image_url", "image_url": {"url": "x"}}]), "has_image"),
    ("a picture without a type", chat([{"image": "x"}]), "has_image"),
    ("sound", chat([{"type": "input_audio", "input_audio": {}}]), "has_audio"),
    ("a film", chat([{"type": "video"}]), "has_video"),
    ("a file", chat([{"type": "file", "file": {}}]), "has_file"),
    ("an unknown part", chat([{"type": "tool_use", "name": "f"}]), "unknown_part:tool_use"),
    ("a part with an odd type", chat([{"type": "\x1b[31m"}]), "unknown_part"),
    ("a text part without text", chat([{"type": "text"}]), "part_without_text"),
    ("a number in a part", chat([{"type": "text", "text": 4}]), "not_text:content"),
    ("a null part", chat([None, {"type": "text", "text": "<think>c</think>a"}]), Kept("c")),
    (
        "nested thinking parts",
        chat([{"type": "thinking", "thinking": [{"type": "text", "text": "c"}]}, "a"]),
        Kept("c"),
    ),
    (
        "ends in a tool call",
        chat("", tool_calls=[{"function": {"name": "f"}}]),
        "ends_in_tool_call",
    ),
    (
        "ends in an older function call",
        chat(None, function_call={"name": "f", "arguments": "{}"}),
        "ends_in_tool_call",
    ),
    (
        "ends in a call as text",
        chat("<think>c</think><tool_call>{}</tool_call>"),
        "ends_in_tool_call",
    ),
    ("an unreadable call", chat("a", tool_calls=["f"]), "unreadable_tool_call"),
    ("tools that are none", js(**G, tools=["f"]), "not_an_object:tools"),
    ("tools as text", js(**G, tools="f"), "not_a_list:tools"),
    ("tools as json", js(**G, tools='[{"name": "f"}]'), Kept("c")),
    (
        "template variables as a list",
        js(**G, chat_template_kwargs=[1]),
        "not_an_object:chat_template_kwargs",
    ),
    (
        "broken template variables",
        js(**G, chat_template_kwargs="{"),
        "broken_json:chat_template_kwargs",
    ),
    # reasoning beside the text
    (
        "blank reasoning beside a block",
        chat("<think>c</think>a", reasoning_content="\n"),
        Kept("c"),
    ),
    (
        "reasoning within another family's markers",
        chat("a", thinking="[THINK]c[/THINK]"),
        Kept("c"),
    ),
    (
        "a reasoning message of parts",
        js(
            messages=[
                {"role": "user", "content": "q"},
                {"role": "reasoning", "content": [{"type": "thinking", "thinking": "c"}]},
                {"role": "assistant", "content": "a"},
            ]
        ),
        Kept("c"),
    ),
    ("reasoning that opens itself", chat("a", reasoning_content="<think>\nc"), Kept("c")),
    ("reasoning twice", chat("<think>c</think>a", reasoning_content="c"), Kept("c")),
    (
        "a blank thinking part beside a block",
        chat([{"type": "thinking", "thinking": "\n"}, "<think>c</think>a"]),
        Kept("c"),
    ),
    (
        "text before a thinking part",
        chat(["Sure.", {"type": "thinking", "thinking": "c"}, "a"]),
        "text_before_marker",
    ),
    (
        "a field and parts that differ",
        chat([{"type": "thinking", "thinking": "d"}, "a"], reasoning="c"),
        "two_reasonings",
    ),
    ("two reasonings", chat("<think>d</think>a", reasoning_content="c"), "marker_in_section"),
    ("object for a system prompt", js(**G, system={"a": 1}), "not_text:system"),
    ("gold of one in a list", js(**G, gold=["1"]), Kept("c")),
    ("number for a gold", js(**G, gold=27.0), Kept("c")),
    ("meta of the wrong type", js(**G, meta="x"), Kept("c")),
    ("closed but no answer", js(prompt="q", cot="c"), Kept("c")),
    # characters
    ("lone surrogate in the cot", b'{"prompt": "q", "cot": "c\\ud800"}', "lone_surrogate"),
    ("lone surrogate in the prompt", b'{"prompt": "\\udfff q", "cot": "c"}', "lone_surrogate"),
    ("surrogate pair", b'{"prompt": "q", "cot": "\\ud83d\\ude00"}', Kept("\U0001f600")),
    ("nul byte", b'{"prompt": "q", "cot": "c\\u0000d"}', Kept("c\0d")),
    ("terminal escape", b'{"prompt": "q", "cot": "\\u001b[31mred"}', Kept("\x1b[31mred")),
    ("script", js(**{**G, "cot": "<script>alert(1)</script>"}), Kept("<script>alert(1)</script>")),
    ("byte order mark inside", js(**{**G, "cot": "\ufeffc"}), Kept("\ufeffc")),
    ("right-to-left override", js(**{**G, "cot": "\u202ec"}), Kept("\u202ec")),
    ("combining accent first", js(**{**G, "cot": "\u0301c"}), Kept("\u0301c")),
    ("control words", js(**{**G, "cot": "say <|im_end|>"}), Kept("say <|im_end|>")),
    # markers in columns of their own
    ("closing marker inside a cot", js(**{**G, "cot": "c</think>d"}), "marker_in_section"),
    ("closing marker in the answer", js(**{**G, "answer": "a</think>b"}), "marker_in_section"),
    ("opening marker in the answer", js(**{**G, "answer": "<think>b"}), "marker_in_section"),
    ("opening marker mentioned", js(**{**G, "cot": "the <think> tag"}), Kept("the <think> tag")),
    ("both markers around the cot", js(**{**G, "cot": "<think>\nc\n</think>"}), Kept("c")),
    ("only the closing one", js(**{**G, "cot": "c\n</think>\n"}), Kept("c")),
    ("cot of nothing but markers", js(**{**G, "cot": "<think></think>"}), "empty_cot"),
    # markers in text
    ("no marker", chat("It is 4."), "no_marker"),
    ("tag names as words", chat("I think thinking is reasoning."), "no_marker"),
    ("tag in a code block only", chat("Use\n```\n<think>\n```\nin HTML"), "text_before_marker"),
    ("an end in a code block", chat("<think>`</think>` ends</think>a"), "repeated_marker"),
    ("text before the marker", chat("Sure: <think>c</think>a"), "text_before_marker"),
    ("nested", chat("<think>a<think>b</think>c</think>d"), "repeated_marker"),
    ("two blocks", chat("<think>a</think>b<think>c</think>d"), "repeated_marker"),
    ("two closing markers", chat("a</think>b</think>c"), "repeated_marker"),
    ("empty block", chat("<think>\n\n</think>\n\na"), "empty_cot"),
    ("mixed families", chat("<think>c</thinking>a"), Kept("c</thinking>a")),
    ("another family's end inside", chat("[THINK]c</think>d[/THINK]a"), "marker_in_section"),
    ("unclosed", chat("<think>c"), Kept("c")),
    # conversations
    ("no messages", js(messages=[]), "no_assistant_turn"),
    ("null messages", js(messages=None), "missing:messages"),
    ("messages as broken json", js(messages="[{"), "broken_json:messages"),
    ("messages as text", js(messages='"hello"'), "not_a_list:messages"),
    ("messages as a number", js(messages=3), "not_a_list:messages"),
    ("a message that is text", js(messages=["hello"]), "not_a_message"),
    ("no role", js(messages=[{"content": "q"}]), "missing:role"),
    ("null content", chat(None), "missing:content"),
    ("number for content", chat(4), "not_text:content"),
    (
        "no user",
        js(messages=[{"role": "assistant", "content": "<think>c</think>a"}]),
        "empty_prompt",
    ),
    ("only a user", js(messages=[{"role": "user", "content": "q"}]), "no_assistant_turn"),
    ("reasoning as a list", chat("a", reasoning_content=["c"]), Kept("c")),
    ("reasoning as a number", chat("a", reasoning_content=3), "not_text:reasoning_content"),
    ("content parts without thinking", chat([{"type": "text", "text": "a"}]), "no_marker"),
    ("null content beside reasoning", chat(None, reasoning="c"), Kept("c")),
    ("completion of the wrong type", js(prompt="q", completion=4), "not_text:completion"),
    ("generations as text", js(problem="q", generations="x"), "broken_json:generations"),
    ("no generation", js(problem="q", generations=[]), "no_correct_generation"),
]


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(BAD) >= 60
    assert len({name for name, _, _ in BAD}) == len(BAD)


@pytest.mark.parametrize(("line", "expected"), [r[1:] for r in BAD], ids=[r[0] for r in BAD])
def test_each_gives_its_documented_result(tmp_path: Path, line: bytes, expected: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(line + b"\n" + js(prompt="good", cot="row", answer="after") + b"\n")
    loaded = load_traces(file)
    assert loaded.traces[-1].cot == "row"  # the rows behind it are read
    if isinstance(expected, Kept):
        assert [trace.cot for trace in loaded] == [expected, "row"]
        assert not loaded.refused
    else:
        assert dict(loaded.refused) == {expected: 1}
        assert loaded.places[expected] == f"{file}:1"


def test_all_together_in_one_file_are_counted_and_rendered(tmp_path: Path) -> None:
    """Mixed formats and mixed faults: nothing raises, and rows = usable + refused."""
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(b"\n".join(line for _, line, _ in BAD) + b"\n")
    counts = LoadedTraces()
    from leadspan.config import TracesConfig

    config = TracesConfig(path=str(file), drop_duplicates=False)
    renderer = Renderer(byte_level())
    pairs = list(iter_sequences(config, renderer, counts))
    # Without a chat template, tools cannot be shown to the student.
    assert counts.refused["template_drops_tools"] == 1
    assert len(pairs) == sum(isinstance(expected, Kept) for _, _, expected in BAD) - 1
    assert len(pairs) + counts.refused.total() == len(BAD)
    assert all(renderer.round_trip(*pair) != "failed" for pair in pairs)
    assert len({trace.trace_id for trace, _ in pairs}) == len(pairs)


def test_a_duplicated_id_is_made_unique(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join(js(**{**G, "cot": c}, id=7) + b"\n" for c in "abb"))
    loaded = load_traces(file)
    ids = [trace.trace_id for trace in loaded]
    assert ids[0] == "7"
    assert ids[1].startswith("7~")
    assert loaded.refused == {"duplicate": 1}


def test_results_are_of_two_kinds() -> None:
    """`Trace | SkippedRow`, never None and never an exception."""
    assert {Trace, SkippedRow} == {type(trace) for trace in _all_results()}


def _all_results() -> list[Trace | SkippedRow]:
    from leadspan.traces.formats import Reading, iter_traces_of

    rows: list[dict[str, Any]] = [{}, dict(G), {"messages": {}}, {"prompt": [], "completion": []}]
    return [result for row in rows for result in iter_traces_of(row, None, Reading())]
