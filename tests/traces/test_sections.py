"""One row for each arrangement of markers that was ever thought of or met."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadspan.traces.sections import (
    FAMILIES,
    THINK,
    Markers,
    Segmented,
    SkippedRow,
    split_completion,
    tidy,
)

SPLITS = [
    ("<think>c</think>a", "c", "a", True, "bare"),
    ("<think>\nc\n</think>\n\na", "c", "a", True, "newlines belong to the format"),
    ("<think>\n c \n</think>\n\n a \n", " c ", " a \n", True, "spaces belong to the text"),
    ("\n \t<think>c</think>a", "c", "a", True, "white space before the marker"),
    ("c\n</think>\n\na", "c", "a", True, "closing marker only: the template opened"),
    ("<think>\nc goes on", "c goes on", "", False, "never closed"),
    ("<think>c</think>", "c", "", True, "closed, empty answer"),
    ("<think>\n<think>\nc</think>a", "c", "a", True, "template and model both opened"),
    ("<think>use the <think> tag</think>a", "use the <think> tag", "a", True, "a mention inside"),
    ("<think>`<|begin_of_thought|>`</think>a", "`<|begin_of_thought|>`", "a", True, "other family"),
    ("<think>e\u0301</think>a", "e\u0301", "a", True, "combining accent is kept"),
    ("<thinking>c</thinking>a", "c", "a", True, "thinking"),
    ("<reasoning>\nc\n</reasoning>\na", "c", "a", True, "reasoning"),
    ("[THINK]c[/THINK]a", "c", "a", True, "bracket"),
    ("◁think▷c◁/think▷a", "c", "a", True, "kimi"),
    (
        "<|begin_of_thought|>\n\nc\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\na\n\n"
        "<|end_of_solution|>",
        "c",
        "a",
        True,
        "OpenThoughts",
    ),
    (
        "<|begin_of_thought|>\n\nc\n\n<|end_of_thought|>\n\na",
        "c",
        "a",
        True,
        "OpenThoughts without solution tags",
    ),
    (
        "<|begin_of_thought|>c<|end_of_thought|><|begin_of_solution|>a",
        "c",
        "a",
        True,
        "OpenThoughts, end of solution missing",
    ),
    (
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>",
        "c",
        "a",
        True,
        "gpt-oss",
    ),
    (
        "<|start|>assistant<|channel|>analysis<|message|>c<|end|>"
        "<|start|>assistant<|channel|>final<|message|>a",
        "c",
        "a",
        True,
        "gpt-oss with its role header",
    ),
    ("<|channel|>analysis<|message|>c", "c", "", False, "gpt-oss unclosed"),
    ("<|channel|>analysis<|message|>c<|end|>", "c", "", True, "gpt-oss without an answer"),
    (
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>a<|end|>",
        "c",
        "a",
        True,
        "gpt-oss ending in <|end|>",
    ),
    (
        "c<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{}<|return|>",
        "c",
        "{}",
        True,
        "gpt-oss whose prompt had opened the analysis",
    ),
    ("<seed:think>c</seed:think>a", "c", "a", True, "Seed"),
    ("<thought>\nc\n</thought>\n\na", "c", "a", True, "EXAONE Deep"),
    ("<|channel>thought\nc<channel|>a", "c", "a", True, "Gemma 4"),
    (
        "<|START_THINKING|>c<|END_THINKING|><|START_RESPONSE|>a<|END_RESPONSE|>",
        "c",
        "a",
        True,
        "Cohere",
    ),
    ("<|START_THINKING|>c<|END_THINKING|>a", "c", "a", True, "Cohere without response tags"),
    (
        "Here are my reasoning steps:\nc\n[BEGIN FINAL RESPONSE]\na\n[END FINAL RESPONSE]",
        "c",
        "a",
        True,
        "Apriel",
    ),
    ("c\n[BEGIN FINAL RESPONSE]a", "c", "a", True, "Apriel, opened by its template"),
    (
        "Here is my thought process:\n\nc\n\nHere is my response:\n\na",
        "c",
        "a",
        True,
        "Granite 3.2",
    ),
    (
        "<think>He said: Here is my response:</think>a",
        "He said: Here is my response:",
        "a",
        True,
        "words of a family are no markers elsewhere",
    ),
    ("think\nc\nanswer\na", "c", "a", True, "s1 words"),
    ("<|im_start|>think\nc\n<|im_start|>answer\na", "c", "a", True, "s1 with turn tokens"),
]


@pytest.mark.parametrize(
    ("text", "cot", "answer", "closed"), [r[:4] for r in SPLITS], ids=[r[4] for r in SPLITS]
)
def test_split(text: str, cot: str, answer: str, closed: bool) -> None:
    assert split_completion(text) == Segmented(cot, answer, closed)


REFUSALS = [
    ("", "no_marker", "empty"),
    ("The answer is 4.", "no_marker", "no marker"),
    ("I think so, the answer is 4.", "no_marker", "tag name as a word"),
    ("think about it\nanswer later", "no_marker", "s1's words in prose"),
    ("think\nwith no second word", "no_marker", "s1 unclosed could be prose"),
    ("< think >c</ think >a", "no_marker", "not the marker"),
    ("<THINK>c</THINK>a", "no_marker", "case counts"),
    ("<|end|> of the story", "no_marker", "a channel's end alone is no split"),
    ("Sure! <think>c</think>a", "text_before_marker", "preamble"),
    ("<think>c</think>a<think>d</think>b", "repeated_marker", "two blocks"),
    ("<think>c</think>a</think>b", "repeated_marker", "two ends"),
    ("<think>a<think>b</think>c</think>d", "repeated_marker", "nested"),
    ("c</think>a<think>d", "repeated_marker", "a block behind a template-opened one"),
    ("<think>```\n</think>\n```\nmore</think>a", "repeated_marker", "an end in a code block"),
    ("think\na\nanswer\nb\nanswer\nc", "repeated_marker", "s1 with two answers"),
    ("<think></think>a", "empty_cot", "empty"),
    ("<think>\n\n</think>\n\na", "empty_cot", "thinking switched off"),
    ("</think>a", "empty_cot", "closing marker first"),
    (
        "<|begin_of_thought|>c<|begin_of_solution|>a<|end_of_solution|>",
        "answer_marker_in_cot",
        "end of thought missing",
    ),
    (
        "<|begin_of_thought|>c<|end_of_thought|>so<|begin_of_solution|>a<|end_of_solution|>",
        "text_around_answer",
        "text between the sections",
    ),
    (
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>commentary<|message|>{}"
        "<|call|><|channel|>final<|message|>a<|return|>",
        "text_around_answer",
        "a tool call between",
    ),
    (
        "<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>commentary "
        "to=functions.add <|constrain|>json<|message|>{}<|call|>",
        "ends_in_tool_call",
        "gpt-oss calls a tool",
    ),
    (
        "<|channel|>analysis<|message|>c<|end|><|channel|>analysis<|message|>d<|end|>",
        "repeated_marker",
        "gpt-oss thinks twice",
    ),
    ("<|start|>assistant<|channel|>final<|message|>a", "no_marker", "gpt-oss does not think"),
    ("Sure. <|channel|>analysis<|message|>c", "text_before_marker", "text before the channels"),
    (
        "<|START_THINKING|>c<|END_THINKING|>so<|START_RESPONSE|>a<|END_RESPONSE|>",
        "text_around_answer",
        "Cohere with text between",
    ),
    ("So here is my thought process: c", "no_marker", "words of Granite in a sentence"),
]


TIDIED = [
    (("c", "42<|im_end|>"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42<|im_end|>\n<|endoftext|>\n"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42<｜end▁of▁sentence｜>"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42<end_of_turn>"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42 [|endofturn|]"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42</s>"), ("c", "42"), ("end_token_stripped",)),
    (("c", "42[EOS]"), ("c", "42"), ("end_token_stripped",)),
    (("c", "The tag is `<tool_call>`."), ("c", "The tag is `<tool_call>`."), ()),
    (("c", "<|begin_of_box|>42<|end_of_box|>"), ("c", "<|begin_of_box|>42<|end_of_box|>"), ()),
    (("c<|im_end|>", "say <|im_end|> twice"), ("c<|im_end|>", "say <|im_end|> twice"), ()),
    (("c", "<answer>\n42\n</answer>"), ("c", "42"), ("answer_tags_stripped",)),
    (
        ("c", "<response>42</response><|end_of_text|>"),
        ("c", "42"),
        ("end_token_stripped", "answer_tags_stripped"),
    ),
    (("c", "So <answer>42</answer>"), ("c", "So <answer>42</answer>"), ()),
    (
        ("c", "<answer>1</answer><answer>2</answer>"),
        ("c", "<answer>1</answer><answer>2</answer>"),
        (),
    ),
]


@pytest.mark.parametrize(("parts", "kept", "notes"), TIDIED, ids=[repr(r[0][1]) for r in TIDIED])
def test_control_text_at_the_end_is_taken_off(
    parts: tuple[str, str], kept: tuple[str, str], notes: tuple[str, ...]
) -> None:
    assert tidy(Segmented(*parts, True)) == Segmented(*kept, True, notes)


def test_an_unclosed_trace_ends_in_its_cot() -> None:
    assert tidy(Segmented("c<|im_end|>", "", False)) == Segmented(
        "c", "", False, ("end_token_stripped",)
    )


@pytest.mark.parametrize(
    "answer",
    [
        "<tool_call>{}</tool_call>",
        "I look. [TOOL_CALLS][{}]",
        "<|START_ACTION|>[]<|END_ACTION|>",
        "<function=f>x</function>",
        "<|tool_call|>[]<|/tool_call|>",
        "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>",
        "<minimax:tool_call>x</minimax:tool_call><|im_end|>",
        "<|python_tag|>f(1)<|eom_id|>",
    ],
)
def test_an_answer_that_calls_a_tool_is_none(answer: str) -> None:
    assert tidy(Segmented("c", answer, True)) == SkippedRow("ends_in_tool_call")


@pytest.mark.parametrize(
    "piece",
    ["<think>", " <think>\n", "<|start|>", "<|channel|>analysis<|message|>", "<|im_end|>", "\n"],
)
def test_twice_the_text_takes_about_twice_the_time(piece: str) -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        for text in (
            piece * count,
            f"c</think>{piece * count}",
            f"<think>{piece * count}c</think>a",
        ):
            split = split_completion(text)
            if isinstance(split, Segmented):
                tidy(split)
        return time.process_time() - started

    seconds(1000)
    assert seconds(80_000) < 20 * seconds(10_000) + 0.2


@pytest.mark.parametrize(
    ("text", "reason"), [r[:2] for r in REFUSALS], ids=[f"{r[1]}: {r[2]}" for r in REFUSALS]
)
def test_refusal(text: str, reason: str) -> None:
    assert split_completion(text) == SkippedRow(reason)


def test_own_markers_are_the_only_ones() -> None:
    own = (Markers("custom", "<<", ">>"),)
    assert split_completion("<<c>>a</think>", own, words=False) == Segmented("c", "a</think>", True)
    assert split_completion("<think>c</think>a", own, words=False) == SkippedRow("no_marker")


MARKS = [
    mark for f in FAMILIES for mark in (f.open, f.close, f.answer_open, f.answer_close) if mark
]
PIECES = st.sampled_from([*MARKS, "think\n", "\nanswer\n", "\n", " ", "a", "é", "```", "\0"])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_arrangement_is_split_without_loss_or_refused(text: str) -> None:
    split = split_completion(text)
    if isinstance(split, SkippedRow):
        return
    assert split.cot.strip()
    assert split.cot in text
    assert split.answer in text
    assert text.find(split.cot) + len(split.cot) <= text.rfind(split.answer) + len(split.answer)
    assert split.closed or not split.answer


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_was_joined_comes_apart_again(cot: str, answer: str) -> None:
    marks = (*MARKS, "<", ">")
    if not cot.strip() or any(mark in cot or mark in answer for mark in marks):
        return
    text = f"{THINK.open}\n{cot}\n{THINK.close}\n\n{answer}"
    expected = Segmented(cot.strip("\n"), answer.lstrip("\n"), True)
    assert split_completion(text) == expected
