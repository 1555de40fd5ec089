"""`lead_span` gives what load_traces, render, truncate and supervise give, stored or streamed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset, load_from_disk

from leadspan import lead_span, load_traces, render, supervise, truncate
from leadspan.config import SupervisionConfig
from leadspan.errors import ConfigError, DataError
from leadspan.records import SECTIONS
from tests.conftest import build_tiny_tokenizer, build_traces
from tests.traces.example_rows import ROWS
from tests.traces.tokenizers_for_tests import TEMPLATES, byte_level

FORMATS = sorted({name for name, _, wanted in ROWS if not isinstance(wanted, str)})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))


def tokenizer() -> Any:
    made = byte_level()
    made.chat_template = TEMPLATES["chatml"]
    return made


def streamed(rows: list[dict[str, Any]]) -> IterableDataset:
    return IterableDataset.from_generator(lambda: iter(rows))


def raw(count: int) -> list[dict[str, Any]]:
    return [
        {"id": t.trace_id, "prompt": f"{number}+{t.prompt}", "cot": t.cot, "answer": t.answer}
        for number, t in enumerate(build_traces(count))
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_examples_of_the_library(name: str, tmp_path: Path) -> None:
    rows = [row for of, row, _ in ROWS if of == name]
    compared = 0
    for number, row in enumerate(rows):  # one by one: Arrow has one type a column
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        loaded = load_traces(file)
        cut = truncate(render(loaded.traces, tokenizer()), lsp=0.7)
        wanted = [supervise(s, SupervisionConfig(sections=("cot", "answer"))) for s in cut]
        scored = [example for example in wanted if example.num_scored_tokens]
        refused = loaded.refused + Counter(nothing_to_score=len(wanted) - len(scored))
        made = lead_span(streamed([row]), tokenizer(), lsp=0.7)
        for got, example in zip(made, scored, strict=True):
            ids_T, scored_T = example.sequence.input_ids_T.tolist(), example.supervised_T.tolist()
            assert got["input_ids"] == ids_T
            assert got["labels"] == [
                token if label else -100 for token, label in zip(ids_T, scored_T, strict=True)
            ]
            assert got["num_full_tokens"] == example.sequence.num_full_tokens > len(ids_T)
            spans = [example.sequence.span(section) for section in SECTIONS]
            assert got["spans"] == [[span.start, span.end] for span in spans]
            assert got["trace_id"] == example.sequence.trace_id
            compared += 1
        assert json.loads(made.info.description)["refused"] == dict(refused)
    assert compared


def test_refused_rows_are_counted_logged_and_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*raw(5), {**raw(1)[0], "id": "bad", "cot": None}]
    for _ in range(2):  # the second time from the cache
        made = lead_span(Dataset.from_list(rows), build_tiny_tokenizer())
        assert len(made) == 5
        assert json.loads(made.info.description)["refused"] == {"missing:cot": 1}
        assert "1 rows are not used: missing:cot 1 (first at row[5])" in capsys.readouterr().err
    made.save_to_disk(str(tmp_path / "saved"))
    assert load_from_disk(str(tmp_path / "saved")).info.description == made.info.description


def test_streamed_equals_stored_in_every_epoch() -> None:
    rows = raw(20)
    stored = lead_span(Dataset.from_list(rows), build_tiny_tokenizer())
    lazy = lead_span(streamed(rows), build_tiny_tokenizer())
    assert len(stored) == 20
    for _ in range(2):
        assert list(lazy) == stored.to_list()


def test_a_stream_is_read_as_far_as_its_result() -> None:
    read = 0

    def count() -> Iterator[dict[str, Any]]:
        nonlocal read
        for number in range(5000):
            read += 1
            yield {**raw(1)[0], "id": str(number), "prompt": f"{number}+1"}

    lazy = lead_span(IterableDataset.from_generator(count), build_tiny_tokenizer())
    assert read <= 1
    next(iter(lazy))
    assert 0 < read < 1000


def test_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset.from_list(raw(300))  # more than one batch of rendering
    one = lead_span(data, build_tiny_tokenizer()).to_list()
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "other"))
    assert lead_span(data, build_tiny_tokenizer(), num_proc=2).to_list() == one


def test_another_cut_is_another_entry_of_the_cache() -> None:
    data = Dataset.from_list(raw(5))
    half, whole = (lead_span(data, build_tiny_tokenizer(), lsp=lsp) for lsp in (0.5, 1.0))
    for short, long in zip(half, whole, strict=True):
        assert short["input_ids"] == long["input_ids"][: len(long["input_ids"]) // 2]


def test_columns_are_mapped() -> None:
    rows = [{"question": r["prompt"], "why": r["cot"], "so": r["answer"]} for r in raw(3)]
    columns = {"prompt": "question", "cot": "why", "answer": "so"}
    made = lead_span(Dataset.from_list(rows), build_tiny_tokenizer(), traces={"columns": columns})
    wanted = lead_span(Dataset.from_list(raw(3)), build_tiny_tokenizer())
    assert made["input_ids"][:] == wanted["input_ids"][:]


def test_errors_say_what_to_do() -> None:
    with pytest.raises(DataError, match=r"unknown_format 1 .*traces.columns"):
        lead_span(Dataset.from_list([{"foo": "x", "bar": "y"}]), build_tiny_tokenizer())
    with pytest.raises(ConfigError, match=r"lead_span: .*lsp"):
        lead_span(Dataset.from_list(raw(1)), build_tiny_tokenizer(), lsp=50)
    with pytest.raises(ConfigError, match=r"must be a datasets\.Dataset"):
        lead_span(raw(1), build_tiny_tokenizer())  # type: ignore[arg-type]
