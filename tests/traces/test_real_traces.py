"""Every real trace is read, and every CoT decodes back under every real template."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leadspan.config import ModelConfig, RenderConfig
from leadspan.models import load_tokenizer
from leadspan.records import Sequence
from leadspan.traces.render import Renderer, iter_rendered
from leadspan.traces.sources import load_traces

COUNTS = {
    "mip_gsm8k_deepseek_r1.jsonl": (581, {}),
    "mip_math_deepseek_r1.jsonl": (52, {}),
    "mip_math_missing_premise.jsonl": (60, {"no_gold": 60}),
    "mip_math_qwq_32b.jsonl": (52, {}),
    "mixed_qwen3_8b.jsonl": (200, {"no_gold": 40, "unclosed": 11}),
    "openthoughts_format_40.jsonl": (40, {}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_row_is_read(shared_data: Path, name: str) -> None:
    loaded = load_traces(shared_data / "traces" / name)
    usable, notes = COUNTS[name]
    assert len(loaded) == usable
    assert not loaded.refused
    assert dict(loaded.notes) == notes


HARD = {
    "d01_magistral_nested_parts.jsonl": (1, {}),
    "d03_text_part_without_text.jsonl": (2, {}),
    "d04_text_part_null.jsonl": (1, {}),
    "d06_tool_loop.jsonl": (1, {}),
    "d07_roles_the_template_drops.jsonl": (2, {}),
    "d08_no_think_switch.jsonl": (3, {}),
    "d10_trailing_end_token.jsonl": (3, {}),
    "d11_prerendered_prompt.jsonl": (0, {"prerendered_prompt": 2}),
    "d12_alpaca.jsonl": (3, {}),
    "d16_table.csv": (1, {}),
    "d17_reasoning_field_edges.jsonl": (2, {}),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_rows_are_read_or_refused_for_a_reason(shared_data: Path, name: str) -> None:
    loaded = load_traces(shared_data / "hard_rows" / name, drop_duplicates=False)
    assert (len(loaded), dict(loaded.refused)) == HARD[name]
    for trace in loaded:
        texts = [*(turn.content for turn in trace.messages), trace.cot, trace.answer]
        assert not any(sign in text for text in texts for sign in ("None", "{'", "<|", "｜"))


@pytest.fixture(scope="module")
def light_tokenizer(shared_data: Path) -> Any:
    return load_tokenizer(ModelConfig(path=str(shared_data / "tokenizers" / "minimind")))


def check_round_trips(shared_data: Path, tokenizer: Any, rows: int | None) -> None:
    templates = sorted((shared_data / "templates").glob("*.jinja"))
    assert len(templates) == 7
    files = [load_traces(shared_data / "traces" / name).traces[:rows] for name in COUNTS]
    traces = [trace for file in files for trace in file]
    for template in templates:
        renderer = Renderer(tokenizer, RenderConfig(chat_template=str(template)))
        outcomes: Counter[str] = Counter()
        for trace, sequence in iter_rendered(traces, renderer):
            assert isinstance(sequence, Sequence)
            outcomes[renderer.round_trip(trace, sequence)] += 1
        assert outcomes["failed"] == 0, template.name
        assert outcomes.total() == len(traces) >= 12


def test_round_trips_with_a_light_tokenizer(shared_data: Path, light_tokenizer: Any) -> None:
    check_round_trips(shared_data, light_tokenizer, rows=2)


@pytest.mark.slow
def test_round_trips_of_all_rows_with_the_qwen3_tokenizer(shared_data: Path) -> None:
    check_round_trips(
        shared_data,
        load_tokenizer(ModelConfig(path=str(shared_data / "tokenizers" / "Qwen3-derived"))),
        None,
    )


def test_prompts_under_real_templates_are_what_transformers_feeds(
    shared_data: Path, light_tokenizer: Any
) -> None:
    (trace, *_) = load_traces(shared_data / "traces" / "mip_math_qwq_32b.jsonl")
    for template in sorted((shared_data / "templates").glob("*.jinja")):
        renderer = Renderer(
            light_tokenizer, RenderConfig(chat_template=str(template), date="2024-07-26")
        )
        (sequence,) = renderer.render_batch([trace])
        assert isinstance(sequence, Sequence)
        own = light_tokenizer.apply_chat_template(
            [{"role": "user", "content": trace.prompt}],
            chat_template=template.read_text(encoding="utf-8"),
            add_generation_prompt=True,
            return_dict=False,
            date_string="26 Jul 2024",
        )
        assert sequence.input_ids_T[: sequence.prompt.end].tolist() == list(own), template.name
