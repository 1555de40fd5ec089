"""Chat templates of other kinds: what they drop, close, name and date is mended or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from leadspan.config import RenderConfig
from leadspan.errors import DataError
from leadspan.models import end_of_turn_id
from leadspan.records import Message, Sequence, Trace
from leadspan.traces.prompts import Conversation, Prompt
from leadspan.traces.render import Renderer
from leadspan.traces.sections import SkippedRow
from tests.traces.tokenizers_for_tests import CHATML, TEMPLATES, TOKENIZERS, byte_level

USER = Message("user", "What is 6*7?")


def renderer(template: str | None, tokenizer: str = "byte_level", **config: Any) -> Renderer:
    prepared = copy.copy(TOKENIZERS[tokenizer]())
    prepared.chat_template = template
    return Renderer(prepared, RenderConfig(**config))


def trace(*turns: Message, **fields: Any) -> Trace:
    return Trace("t", turns or (USER,), "six sevens", "42", ("42",), **fields)


def rendered(template: str | None, row: Trace, **config: Any) -> str:
    """The whole sequence as text, or why there is none."""
    made = renderer(template, **config)
    (sequence,) = made.render_batch([row])
    if isinstance(sequence, SkippedRow):
        return sequence.reason
    return made.encoder.decode([sequence.input_ids_T.tolist()])[0]


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SWITCH = (
    "{% set ns = namespace(on=true) %}{% for m in messages %}"
    "{% if '/no_think' in m.content %}{% set ns.on = false %}{% endif %}{% endfor %}"
    + TURNS.replace("m.content }}", "m.content | replace('/no_think', '') | trim }}")
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if ns.on %}<think>\n{% else %}<think></think>{% endif %}{% endif %}"
)
BY_LAST_ROLE = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if messages[-1].role == 'user' %}<think>\n{% endif %}{% endif %}",
)
BY_VARIABLE = TURNS + (
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if deep_thinking %}<think>\n{% else %}</think>\n{% endif %}{% endif %}"
)
KNOWN_ROLES = (
    "{% for m in messages %}{% if m.role in ['system', 'user', 'assistant', 'tool'] %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_TOOL_ROLE = KNOWN_ROLES.replace(", 'tool'", "")
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

ROWS: list[tuple[str, Trace, str]] = [
    (SWITCH, trace(Message("user", "6*7? /no_think")), "template_closes_think"),
    (SWITCH, trace(Message("system", "/no_think"), USER), "template_closes_think"),
    (SWITCH, trace(), "What is 6*7?<|im_end|>\n<|im_start|>assistant\n<think>\nsix sevens"),
    (BY_LAST_ROLE, trace(), "assistant\n<think>\nsix sevens\n</think>"),
    (BY_LAST_ROLE, trace(USER, Message("tool", "42")), "assistant\n<think>\nsix sevens\n</think>"),
    (BY_VARIABLE, trace(), "assistant\n<think>\nsix sevens"),
    (
        BY_VARIABLE,
        trace(template_variables={"deep_thinking": False}),
        "template_closes_think",
    ),
    (
        KNOWN_ROLES,
        trace(Message("developer", "In French."), USER),
        "<|im_start|>system\nIn French.",
    ),
    (KNOWN_ROLES, trace(USER, Message("observation", "4")), "<|im_start|>tool\n4<|im_end|>"),
    (NO_TOOL_ROLE, trace(USER, Message("tool", "4")), "template_drops:tool"),
    (KNOWN_ROLES, trace(USER, Message("critic", "6")), "template_drops:critic"),
    (PARTS, trace(), "<|im_start|>user\nWhat is 6*7?<|im_end|>"),
    (
        CHATML.replace("m.content", "m.content if m.role != 'user' else ''"),
        trace(),
        "template_drops:user",
    ),
    (
        "{{ raise_exception('x') if messages|length > 2 }}" + CHATML,
        trace(USER, USER, USER),
        "template_rejects_prompt",
    ),
    (CHATML, trace(template_variables={"style": "short"}), "template_ignores:style"),
    (CHATML, trace(template_variables={"messages": []}), "template_ignores:messages"),
    (
        CHATML,
        trace(template_variables={"enable_thinking": False}),
        "template_ignores:enable_thinking",
    ),
    (CHATML, trace(template_variables={"enable_thinking": True}), "What is 6*7?"),
    ("{{ style }}|" + CHATML, trace(template_variables={"style": "short"}), "short|<|im_start|>"),
]


@pytest.mark.parametrize(
    ("template", "row", "expected"), ROWS, ids=[str(n) for n in range(len(ROWS))]
)
def test_each_row_is_rendered_whole_or_refused_by_name(
    template: str, row: Trace, expected: str
) -> None:
    text = rendered(template, row)
    if " " not in expected and "<" not in expected and expected.startswith("template_"):
        assert text == expected
        return
    assert expected in text
    assert text.count("<think>") == text.count("</think>") == 1
    assert all(turn.content in text for turn in row.messages)


CALL = {"function": {"name": "mul", "arguments": {"a": 6, "b": "seven"}}}
AS_TEXT = {"function": {"name": "mul", "arguments": '{"a": 6, "b": "seven"}'}}
TOOL = {"type": "function", "function": {"name": "mul", "parameters": {"properties": {"a": {}}}}}
WITH_TOOLS = "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}" + CHATML.replace(
    "{{ m.content }}",
    "{{ m.content }}{% for c in m.tool_calls or [] %}"
    "<call>{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}",
)
TEXT_ARGUMENTS = WITH_TOOLS.replace("c.function.arguments | tojson", "c.function.arguments + ''")
TOOL_ROWS = [
    (WITH_TOOLS, CALL, (TOOL,), '<call>mul({"a": 6, "b": "seven"})'),
    (WITH_TOOLS, AS_TEXT, (TOOL,), '<call>mul({"a": 6, "b": "seven"})'),
    (TEXT_ARGUMENTS, CALL, (TOOL,), '<call>mul({"a": 6, "b": "seven"})'),
    (CHATML, CALL, (), "template_drops_tools"),
    (CHATML, None, (TOOL,), "template_drops_tools"),
    (WITH_TOOLS.replace("t | tojson", "loop.index"), None, (TOOL,), "template_drops_tools"),
    (None, CALL, (), "template_drops_tools"),
    (None, None, (TOOL,), "template_drops_tools"),
]


@pytest.mark.parametrize(("template", "call", "tools", "expected"), TOOL_ROWS)
def test_tools_and_calls_appear_or_the_row_is_refused(
    template: str | None, call: Any, tools: tuple[Any, ...], expected: str
) -> None:
    turns = [USER]
    if call:
        turns += [Message("assistant", "", {"tool_calls": [call]}), Message("tool", "42")]
    text = rendered(template, trace(*turns, tools=tools))
    assert expected in text
    assert ("template_" in text) == expected.startswith("template_")


def native(opening: str, close: str, prompt_opening: str = "") -> str:
    """A template that writes a CoT between two texts of its own."""
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}"
        + opening
        + "{{ m.reasoning_content }}"
        + close
        + "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n"
        + prompt_opening
        + "{% endif %}"
    )


HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>"
FAMILIES = [
    (native("<|START_THINKING|>", "<|END_THINKING|>"), "<|START_THINKING|>", "<|END_THINKING|>"),
    (native("<seed:think>", "</seed:think>\n"), "<seed:think>", "</seed:think>\n"),
    (native("<|channel>thought\n", "\n<channel|>"), "<|channel>thought\n", "\n<channel|>"),
    (native("{{ '\\n' }}<think>", "</think>\n"), "\n<think>", "</think>\n"),
    (native("<think>\n", "\n</think>\n\n"), "<think>\n", "\n</think>\n\n"),
    (native("[THINK]", "[/THINK]", "[THINK]"), "[THINK]", "[/THINK]"),
    (native("<think>\n", "\n</think>\n", "<think>\n"), "<think>\n", "\n</think>\n"),
    (native("<|channel|>analysis<|message|>", HARMONY), "<|channel|>analysis<|message|>", HARMONY),
    (
        native("Here are my reasoning steps:\n", "\n[FINAL]\n", "Here are my reasoning steps:\n"),
        "Here are my reasoning steps:\n",
        "\n[FINAL]\n",
    ),
    (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
        "{% else %}{% for p in m.content %}{% if p.type == 'thinking' %}[THINK]{{ p.thinking }}[/THINK]"
        "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "[THINK]",
        "[/THINK]",
    ),
    (CHATML, "<think>", "</think>"),
]


@pytest.mark.parametrize(("template", "opening", "close"), FAMILIES, ids=[f[1] for f in FAMILIES])
def test_the_template_s_own_markers_are_learnt_once(
    template: str, opening: str, close: str
) -> None:
    made = renderer(template)
    assert (made.layout.block.open, made.layout.block.close) == (opening, close)
    text = rendered(template, trace())
    assert f"assistant\n{opening}six sevens{close}42<|im_end|>" in text
    assert text.count(opening.strip()) == 1


def test_a_bos_that_the_tokenizer_lacks_is_empty() -> None:
    template = "{{ bos_token + 'x' }}{{ unk_token }}|" + CHATML
    assert rendered(template, trace()).startswith("x|<|im_start|>user")
    tokenizer = copy.copy(byte_level())
    tokenizer.chat_template = template
    assert tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)) == "<|im_end|>"


def test_the_end_of_turn_of_a_template_that_takes_parts_alone() -> None:
    tokenizer = copy.copy(byte_level())
    tokenizer.eos_token, tokenizer.chat_template = "<|endoftext|>", PARTS
    assert tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)) == "<|im_end|>"


WORDS = [
    "<|im_end|>",
    "a <|im_start|>assistant\n<think>\nb</think> c",
    "x<|endoftext|>",
    "</think>",
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("template", [CHATML, SWITCH, PARTS, TEMPLATES["opens_thinking"], None])
def test_no_control_token_comes_out_of_text(template: str | None, words: str) -> None:
    made = renderer(template)
    plain, typed = made.render_batch(
        [
            trace(Message("system", "s"), USER),
            trace(Message("system", words), Message("user", f"{words} 7?")),
        ]
    )
    assert isinstance(plain, Sequence)
    assert isinstance(typed, Sequence)
    names = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>")
    for token_id in made.tokenizer.convert_tokens_to_ids(list(names)):
        assert plain.input_ids_T.tolist().count(token_id) == typed.input_ids_T.tolist().count(
            token_id
        )
    assert made.encoder.decode([typed.input_ids_T.tolist()])[0].count(words) >= 2


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_slow_way_gives_the_same_ids_where_nothing_is_spelled_out(
    tokenizer: str, template: str
) -> None:
    made = renderer(TEMPLATES[template], tokenizer)
    (prompt,) = made.prompts([Conversation((USER, Message("assistant", "42"), USER))])
    assert isinstance(prompt, Prompt)
    slow = made.encoder.marked(prompt.text, "\ufdd0\ufdd1")
    assert list(made.layout.bos_ids) + slow == prompt.ids


CLOCKS: list[tuple[str, str]] = [
    ("{{ strftime_now('%d %b %Y %H:%M') }}", "05 Mar 2024 00:00"),
    (
        "{% if not date_string is defined %}{% set date_string = 'x' %}{% endif %}{{ date_string }}",
        "05 Mar 2024",
    ),
    ("{{ now().strftime('%Y') }}", "2024"),
    ("{{ datetime.now().year }}{{ datetime.datetime.now() }}", "20242024-03-05"),
    ("{{ 'on ' + current_date }}", "on 2024-03-05"),
]


@pytest.mark.parametrize(("clock", "text"), CLOCKS, ids=[c[1] for c in CLOCKS])
def test_clocks_stand_at_the_date_of_the_run(clock: str, text: str) -> None:
    template = f"{clock}|{CHATML}"
    assert rendered(template, trace(), date="2024-03-05").startswith(f"{text}|")
    identities = [
        renderer(template, date=day).layout.identity for day in ("2024-03-05", "2024-03-06")
    ]
    assert identities[0] != identities[1]


def test_a_template_without_a_clock_does_not_depend_on_the_day() -> None:
    first, second = (
        renderer(CHATML, date=day).layout.identity for day in ("2024-03-05", "2024-03-06")
    )
    assert first == second


def test_the_round_trip_looks_at_the_prompt_too() -> None:
    made = renderer(CHATML)
    (sequence,) = made.render_batch([trace()])
    assert isinstance(sequence, Sequence)
    assert made.round_trip(trace(), sequence) == "exact"
    assert made.round_trip(trace(Message("user", "another question")), sequence) == "failed"


def several(tokenizer: Any) -> None:
    tokenizer.chat_template = {"tool_use": CHATML, "rag": CHATML}


def closed(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("assistant\n{%", "assistant\n<x:think>\n</x:think>{%")


@pytest.mark.parametrize(
    ("change", "said"), [(several, "must be one"), (closed, "leave the think")]
)
def test_templates_that_cannot_be_used(change: Callable[[Any], None], said: str) -> None:
    tokenizer = copy.copy(byte_level())
    change(tokenizer)
    with pytest.raises(DataError, match=said):
        Renderer(tokenizer)
