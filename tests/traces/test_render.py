"""What is rendered is what generation will see, under every kind of tokenizer and template."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadspan.config import RenderConfig
from leadspan.errors import DataError
from leadspan.records import Message, Sequence, Trace
from leadspan.traces.prompts import Conversation
from leadspan.traces.render import Renderer, checked, iter_rendered, render
from leadspan.traces.sections import SkippedRow
from leadspan.traces.template import without_overlap
from tests.traces.tokenizers_for_tests import CHATML, LOSSLESS, TEMPLATES, TOKENIZERS, byte_level

USER = (Message("user", "What is 6*7?"),)


def trace(cot: str = "6*7 is 42.", answer: str = "42", closed: bool = True, **fields: Any) -> Trace:
    return Trace(
        "t", fields.pop("messages", USER), cot, answer if closed else "", ("42",), closed, **fields
    )


def renderer_for(tokenizer: str, template: str, **config: Any) -> Renderer:
    prepared = copy.copy(TOKENIZERS[tokenizer]())
    prepared.chat_template = TEMPLATES[template]
    return Renderer(prepared, RenderConfig(**config))


def prompt_ids(renderer: Renderer, messages: tuple[Message, ...]) -> list[int]:
    (prompt,) = renderer.prompts([Conversation(messages)])
    return checked(prompt, "prompt").ids


COTS = {
    "plain": "Okay, so 6*7 is 42.",
    "starts with newlines": "\n\nOkay.",
    "starts with a space": " Okay.",
    "starts with tab and spaces": "\t  Okay.",
    "ends with newlines": "Okay.\n\n\n",
    "blank lines inside": "a\n\n\n\nb  c",
    "control words": "The token <|im_end|> ends, </s> too, <|eot_id|> and [SEP] as well.",
    "emoji and CJK": "好的 👩‍👩‍👧 ok é",
    "nul and bell": "a\0b\ac",
    "no words": "...",
    "carriage return": "a\r\nb",
}


@pytest.mark.parametrize("cot", COTS.values(), ids=COTS.keys())
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", LOSSLESS)
def test_every_section_decodes_to_its_text(tokenizer: str, template: str, cot: str) -> None:
    renderer = renderer_for(tokenizer, template)
    for one in (trace(cot, f" {cot}"), trace(cot, ""), trace(cot, closed=False)):
        (sequence,) = renderer.render_batch([one])
        assert isinstance(sequence, Sequence)
        assert renderer.round_trip(one, sequence) == "exact"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_prompt_ids_are_what_generation_feeds(tokenizer: str, template: str) -> None:
    renderer = renderer_for(tokenizer, template)
    one = trace("\n Okay.")
    (sequence,) = renderer.render_batch([one])
    assert isinstance(sequence, Sequence)
    prompt = sequence.input_ids_T[: sequence.prompt.end].tolist()
    tk = renderer.tokenizer
    assert prompt == prompt_ids(renderer, USER)
    if tk.chat_template is not None:  # what transformers itself would feed
        messages = [{"role": "user", "content": USER[0].content}]
        own = tk.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=True, return_dict=False
        )
        assert prompt == list(own)
    else:
        assert prompt == tk(USER[0].content + "\n")["input_ids"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_bos_stands_once_where_it_exists_and_never_undefined(tokenizer: str, template: str) -> None:
    renderer = renderer_for(tokenizer, template)
    (sequence,) = renderer.render_batch([trace()])
    assert isinstance(sequence, Sequence)
    ids, tk = sequence.input_ids_T.tolist(), renderer.tokenizer
    if tk.bos_token_id is not None:
        wanted = 1 if template in ("plain", "bos_first", "llama") else 0
        assert ids.count(tk.bos_token_id) == wanted
        assert not wanted or ids[0] == tk.bos_token_id
    assert "None" not in tk.decode(ids)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_text_of_the_whole_sequence(tokenizer: str, template: str) -> None:
    """Open marker once, CoT there whatever the template does, one end token, at the end."""
    renderer = renderer_for(tokenizer, template)
    cot = "First, 12 + 30 = 42."
    closed, unclosed = renderer.render_batch([trace(cot), trace(cot, closed=False)])
    assert isinstance(closed, Sequence)
    assert isinstance(unclosed, Sequence)
    text = "".join(renderer.encoder.decode([closed.input_ids_T.tolist()])[0].split())
    assert text.count("<think>") == 1
    assert text.count("</think>") == 1
    assert "<think>First,12+30=42.</think>42" in text
    (end,) = renderer.layout.ending_ids
    assert closed.input_ids_T[-1] == end
    assert end not in closed.input_ids_T[closed.cot.start : -1]
    assert end not in unclosed.input_ids_T[unclosed.cot.start :]
    assert (unclosed.closed, len(unclosed.answer)) == (False, 0)


END_TOKENS = [
    ("byte_level", "chatml", "<|im_end|>"),
    ("byte_level", "plain", "<|im_end|>"),
    ("byte_level", "llama", "<|im_end|>"),  # the template's token is no token here: the eos
    ("bos_adding", "llama", "<|eot_id|>"),  # not the eos
    ("bos_adding", "plain", "<|end_of_text|>"),
    ("metaspace", "chatml", "</s>"),
]


@pytest.mark.parametrize(("tokenizer", "template", "token"), END_TOKENS)
def test_end_of_turn(tokenizer: str, template: str, token: str) -> None:
    renderer = renderer_for(tokenizer, template)
    assert renderer.tokenizer.convert_ids_to_tokens(list(renderer.layout.ending_ids)) == [token]


def completion_text(sequence: Sequence, renderer: Renderer) -> str:
    return renderer.encoder.decode([sequence.input_ids_T[sequence.prompt.end :].tolist()])[0]


GLUE = [
    ("chatml", "c", "a", "<think>c</think>a<|im_end|>"),
    ("switched", "c", "a", "<think>\nc\n</think>\n\na<|im_end|>"),
    ("opens_thinking", "c", "a", "c\n</think>\n\na<|im_end|>"),
    ("switched", "\nc\n", "\n\na", "<think>\nc\n</think>\n\na<|im_end|>"),
    ("switched", "\n\nc\n\n", "\na", "<think>\n\nc\n\n</think>\n\na<|im_end|>"),
    ("switched", "c", "", "<think>\nc\n</think>\n\n<|im_end|>"),
]


@pytest.mark.parametrize(("template", "cot", "answer", "text"), GLUE)
def test_markers_stand_as_the_template_writes_them(
    template: str, cot: str, answer: str, text: str
) -> None:
    renderer = renderer_for("byte_level", template)
    (sequence,) = renderer.render_batch([trace(cot, answer)])
    assert isinstance(sequence, Sequence)
    assert completion_text(sequence, renderer) == text


def test_own_markers() -> None:
    renderer = renderer_for("byte_level", "chatml", think_open="[T] ", think_close=" [/T] ")
    (sequence,) = renderer.render_batch([trace("c", "a")])
    assert isinstance(sequence, Sequence)
    assert completion_text(sequence, renderer) == "[T] c [/T] a<|im_end|>"
    with pytest.raises(DataError, match=r"render\.think_open: must hold a marker"):
        renderer_for("byte_level", "chatml", think_open="\n")


@pytest.mark.parametrize(
    ("glue", "text", "left"),
    [
        ("<t>\n", "c", "<t>\n"),
        ("<t>\n", "\nc", "<t>"),
        ("<t>\n\n", "\nc", "<t>\n"),
        ("<t>", "\n", "<t>"),
    ],
)
def test_overlap(glue: str, text: str, left: str) -> None:
    assert without_overlap(glue, text) == left


def test_words_for_control_tokens_stay_words() -> None:
    renderer = renderer_for("byte_level", "chatml")
    (sequence,) = renderer.render_batch([trace("write <|im_end|> here", "<|im_start|>")])
    assert isinstance(sequence, Sequence)
    special = set(renderer.tokenizer.all_special_ids)
    controls = [token for token in sequence.input_ids_T[sequence.cot.start :] if token in special]
    assert controls == list(renderer.layout.ending_ids)


def test_normalised_rows_are_not_failures() -> None:
    renderer = renderer_for("byte_level", "chatml")
    decomposed = trace("cafe\u0301", "e\u0301")
    (sequence,) = renderer.render_batch([decomposed])
    assert isinstance(sequence, Sequence)
    assert renderer.round_trip(decomposed, sequence) == "normalised"


def test_a_tokenizer_that_loses_white_space_is_found_out() -> None:
    renderer = renderer_for("word_piece", "chatml")
    one = trace("a\n\nb")
    (sequence,) = renderer.render_batch([one])
    assert isinstance(sequence, Sequence)
    assert renderer.round_trip(one, sequence) == "failed"


def test_system_prompt_is_kept_or_dropped() -> None:
    turns = (Message("system", "Be brief."), *USER)
    kept, dropped = (
        renderer_for("byte_level", "chatml", system_prompt=choice) for choice in ("keep", "drop")
    )
    texts = [r.tokenizer.decode(prompt_ids(r, turns)) for r in (kept, dropped)]
    assert "Be brief." in texts[0]
    assert "Be brief." not in texts[1]


def test_paper_compat_appends_the_generation_prompt() -> None:
    plain = renderer_for("byte_level", "chatml")
    compat = renderer_for("byte_level", "chatml", paper_compat=True)
    (ours,), (theirs,) = (r.render_batch([trace()]) for r in (plain, compat))
    assert isinstance(ours, Sequence)
    assert isinstance(theirs, Sequence)
    assert theirs.input_ids_T[: len(ours)].tolist() == ours.input_ids_T.tolist()
    tail = compat.tokenizer.decode(theirs.input_ids_T[len(ours) :])
    assert tail == "\n<|im_start|>assistant\n"
    assert compat.round_trip(trace(), theirs) == "exact"


def test_template_that_closes_thinking_is_refused_with_the_mend() -> None:
    closed = CHATML.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}"
    )
    tokenizer = copy.copy(byte_level())
    tokenizer.chat_template = closed
    with pytest.raises(DataError, match=r"render\.template_variables"):
        Renderer(tokenizer)


def test_prompts_that_the_template_rejects_are_refused_one_by_one() -> None:
    tokenizer = copy.copy(byte_level())
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + CHATML
    )
    rows = [trace(), trace(messages=(Message("system", "s"), *USER)), trace()]
    kinds = [type(made) for _, made in iter_rendered(rows, Renderer(tokenizer))]
    assert kinds == [Sequence, SkippedRow, Sequence]
    with pytest.raises(DataError, match="chat template must take its prompt"):
        render(rows, tokenizer)


def test_template_file_and_missing_file(tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_text(CHATML, encoding="utf-8")
    from_file = Renderer(byte_level(), RenderConfig(chat_template=str(file)))
    assert from_file.layout.template == CHATML
    with pytest.raises(DataError, match=r"render\.chat_template: must be a readable"):
        Renderer(byte_level(), RenderConfig(chat_template=str(tmp_path / "none.jinja")))


def test_truncation_left_behind_in_the_tokenizer_does_not_cut() -> None:
    tokenizer = copy.deepcopy(byte_level())
    tokenizer(["a b c d"], truncation=True, max_length=2, padding="max_length")
    (sequence,) = render([trace("word " * 50)], tokenizer)
    assert len(sequence) > 50


def test_meta_and_gold_flow_on() -> None:
    (sequence,) = render([trace(meta={"model": "R1"})], byte_level())
    assert sequence.meta["gold"] == "42"
    assert sequence.meta["model"] == "R1"


def test_position_of_a_character() -> None:
    renderer = renderer_for("byte_level", "chatml")
    one = trace("first e\u0301 second", "a")
    (sequence,) = renderer.render_batch([one])
    assert isinstance(sequence, Sequence)
    for offset in (0, 1, 5, 8, len(one.cot)):
        (position,) = renderer.positions_of([(one, sequence, offset)])
        before = sequence.input_ids_T[sequence.cot.start + 1 : position].tolist()
        text = renderer.encoder.decode([before])[0]
        assert renderer.encoder.normalize(one.cot).startswith(text)
        assert len(text) >= len(renderer.encoder.normalize(one.cot[:offset]))


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    renderer = renderer_for("byte_level", "chatml")
    rows = [trace(f"row {n}") for n in range(1500)]
    one = [
        s.input_ids_T.tolist() for _, s in iter_rendered(rows, renderer) if isinstance(s, Sequence)
    ]
    two = [
        s.input_ids_T.tolist()
        for _, s in iter_rendered(rows, renderer, 2)
        if isinstance(s, Sequence)
    ]
    assert one == two


@pytest.mark.slow
def test_a_row_of_a_million_tokens_takes_linear_time() -> None:
    import time

    renderer = renderer_for("byte_level", "chatml")
    seconds = []
    for characters in (1_000_000, 4_000_000):
        one = trace("12 + 30 = 42, wait. " * (characters // 20))
        started = time.process_time()
        (sequence,) = renderer.render_batch([one])
        seconds.append(time.process_time() - started)
        assert isinstance(sequence, Sequence)
    assert len(sequence) > 1_000_000
    assert seconds[1] < 12 * seconds[0]  # four times the text; quadratic would be sixteen


any_text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)


@given(
    any_text,
    any_text,
    st.booleans(),
    st.sampled_from(list(TOKENIZERS)),
    st.sampled_from(list(TEMPLATES)),
)
def test_spans_always_partition_and_text_survives(
    cot: str, answer: str, closed: bool, tokenizer: str, template: str
) -> None:
    renderer = _cached_renderer(tokenizer, template)
    one = trace(cot, answer, closed)
    (sequence,) = renderer.render_batch([one])
    assert isinstance(sequence, Sequence)  # its own checks hold the partition
    assert len(sequence.prompt) + len(sequence.cot) + len(sequence.answer) == len(sequence)
    if tokenizer in LOSSLESS:
        assert renderer.round_trip(one, sequence) != "failed"


_RENDERERS: dict[tuple[str, str], Renderer] = {}


def _cached_renderer(tokenizer: str, template: str) -> Renderer:
    key = (tokenizer, template)
    if key not in _RENDERERS:
        _RENDERERS[key] = renderer_for(*key)
    return _RENDERERS[key]
