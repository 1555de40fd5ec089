"""Files of every kind, filters, duplicates, samples: what is read, and what is counted."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from datasets import Dataset

from leadspan import registry
from leadspan.config import BenchmarkConfig, TracesConfig
from leadspan.errors import ConfigError, DataError
from leadspan.records import Trace
from leadspan.traces.sources import OverlapIndex, iter_traces, load_traces


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "prompt": f"What is {number}+1?",
        "cot": f"{number}+1 is {number + 1}.",
        "answer": f"\\boxed{{{number + 1}}}",
        "gold": str(number + 1),
        **fields,
    }


ROWS = [row(number) for number in range(5)]
LINES = "".join(json.dumps(r) + "\n" for r in ROWS)


def write(path: Path, kind: str) -> Path:
    """The five rows in a file or folder of this kind."""
    file = path / f"rows{kind}"
    if kind in (".jsonl", ".json"):
        file.write_text(LINES, encoding="utf-8")
    elif kind == ".list.json":
        file.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    elif kind == ".jsonl.gz":
        file.write_bytes(gzip.compress(LINES.encode()))
    elif kind == ".jsonl.zst":
        file.write_bytes(zstandard.compress(LINES.encode()))
    elif kind == ".parquet":
        Dataset.from_list(ROWS).to_parquet(str(file))
    elif kind == "":
        Dataset.from_list(ROWS).save_to_disk(str(file))
    elif kind == ".arrow":
        write(path, "")
        (shard,) = (path / "rows").glob("*.arrow")
        shard.rename(file)
    return file


KINDS = (".jsonl", ".json", ".list.json", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow", "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_traces(tmp_path: Path, kind: str) -> None:
    loaded = load_traces(write(tmp_path, kind))
    assert [trace.trace_id for trace in loaded] == [r["id"] for r in ROWS]
    assert [trace.cot for trace in loaded] == [r["cot"] for r in ROWS]
    assert not loaded.refused


def test_folder_and_glob_read_all_files_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row(1, id=name, cot=name)) + "\n")
    (tmp_path / "notes.txt").write_text("not a trace")
    for source in (tmp_path, tmp_path / "*.jsonl"):
        assert [trace.trace_id for trace in load_traces(source)] == ["a", "b"]


def test_reading_is_lazy(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(LINES + "{broken\n" * 3, encoding="utf-8")
    first = next(iter(iter_traces(TracesConfig(path=str(file)))))
    assert isinstance(first, Trace)


def test_places_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(LINES + '{"prompt": \n' + '{"prompt": "x", "cot": ""}\n', encoding="utf-8")
    loaded = load_traces(file)
    assert dict(loaded.refused) == {"broken_json": 1, "empty_cot": 1}
    assert loaded.places == {"broken_json": f"{file}:6", "empty_cot": f"{file}:7"}
    assert len(loaded) == 5


MISSING = [
    ("nowhere.jsonl", "no such file"),
    ("no/such/folder/x", "no such file"),
    ("*.jsonl", "no such file"),
    ("folder", "got a folder without any"),
    ("empty.jsonl", "must hold at least one row"),
    ("blank.jsonl", "must hold at least one row"),
    ("broken.json", "must be JSON"),
    ("broken.parquet", "cannot be read"),
    ("cut.jsonl.gz", "cannot be read to its end"),
    ("cut.jsonl.zst", "cannot be read to its end"),
    ("not.jsonl.gz", "cannot be read to its end"),
    ("folder.jsonl", "got a folder without any"),
]


@pytest.mark.parametrize(("name", "message"), MISSING, ids=[name for name, _ in MISSING])
def test_unreadable_sources_are_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "broken.json").write_text("[{]")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "not.jsonl.gz").write_bytes(b"plain text")
    long = json.dumps(row(1, cot="".join(map(str, range(40_000))))) + "\n"
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(long.encode())[:-4000])
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(long.encode())[:-4000])
    source = tmp_path / name if name not in ("*.jsonl",) else tmp_path / "folder" / name
    with pytest.raises(DataError, match=message) as raised:
        load_traces(source)
    assert "\n" not in str(raised.value)
    assert Path(name).name.split("/")[-1] in str(raised.value)


def test_unknown_names_are_config_errors(tmp_path: Path) -> None:
    file = write(tmp_path, ".jsonl")
    with pytest.raises(ConfigError, match=r"traces\.format must be auto or one of"):
        load_traces(file, format="openthought")
    with pytest.raises(ConfigError, match=r"traces\.markers must be"):
        load_traces(file, markers="thonk")
    with pytest.raises(ConfigError, match="only_closed"):
        load_traces(file, only_close=True)


def test_columns_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    own = {"q": "Why?", "out": "<think>c</think>a", "truth": "a", "prompt": "not this"}
    file.write_text(json.dumps(own) + "\n")
    columns = {"prompt": "q", "completion": "out", "gold": "truth"}
    (trace,) = load_traces(file, columns=columns)
    assert (trace.prompt, trace.cot, trace.answer, trace.gold) == ("Why?", "c", "a", "a")


def test_own_markers(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"prompt": "p", "completion": "<<c>>a"}) + "\n")
    (trace,) = load_traces(file, markers={"open": "<<", "close": ">>"})
    assert (trace.cot, trace.answer) == ("c", "a")
    assert load_traces(file).refused == {"no_marker": 1}


def filtered(
    tmp_path: Path, rows: list[dict[str, Any]], **fields: Any
) -> tuple[list[str], dict[str, int]]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    loaded = load_traces(file, **fields)
    return [trace.trace_id for trace in loaded], dict(loaded.refused)


def test_conditions_on_columns(tmp_path: Path) -> None:
    rows = [row(n, task=("math", "code", "chat")[n % 3]) for n in range(3)] + [row(3)]
    one = filtered(tmp_path, rows, where={"task": "math"})
    assert one == (["r0"], {"where:task": 3})
    two = filtered(tmp_path, rows, where={"task": ["math", "code"]})
    assert two == (["r0", "r1"], {"where:task": 2})


def test_closed_and_gold(tmp_path: Path) -> None:
    rows = [row(0), row(1, meta={"closed": False}), row(2, gold=""), row(3, gold=None)]
    assert filtered(tmp_path, rows, only_closed=True)[1] == {"not_closed": 1}
    assert filtered(tmp_path, rows, only_with_gold=True)[1] == {"no_gold": 2}


def test_only_correct_counts_by_outcome(tmp_path: Path) -> None:
    rows = [row(0), row(1, gold="7"), row(2, answer="I do not know."), row(3, gold=None)]
    ids, refused = filtered(tmp_path, rows, only_correct=True)
    assert ids == ["r0"]
    assert refused["answer_wrong"] == 1
    assert refused["no_gold"] == 1
    assert sum(refused.values()) == 3


def test_duplicates_go_and_shared_ids_stay_apart(tmp_path: Path) -> None:
    rows = [row(0), row(0), row(0, cot="another way"), row(1)]
    ids, refused = filtered(tmp_path, rows)
    assert refused == {"duplicate": 1}
    assert ids[0] == "r0"
    assert ids[1].startswith("r0~")
    assert ids[2] == "r1"
    assert len(filtered(tmp_path, rows, drop_duplicates=False)[0]) == 4


def test_equal_rows_that_are_kept_have_ids_of_their_own(tmp_path: Path) -> None:
    rows = [*[row(0)] * 4, {**row(1), "id": "r0"}, *[row(0)] * 2]
    ids, _ = filtered(tmp_path, rows, drop_duplicates=False)
    assert len(set(ids)) == len(rows) == 7
    assert ids[0] == "r0"
    assert filtered(tmp_path, rows, drop_duplicates=False)[0] == ids
    # a row that bears the very id that another would be given
    taken = [row(0), {**row(1), "id": ids[1]}, row(0)]
    assert len(set(filtered(tmp_path, taken, drop_duplicates=False)[0])) == 3


def test_decontamination_counts_by_benchmark(tmp_path: Path) -> None:
    long = "A train leaves at nine and runs for three hours at forty miles an hour. How far?"
    (tmp_path / "bench").mkdir()
    bench = tmp_path / "bench" / "test.jsonl"
    bench.write_text(
        json.dumps({"question": long}) + "\n" + json.dumps({"question": "2 + 2?"}) + "\n"
    )
    rows = [
        row(0, prompt="Please solve. " + long.upper()),
        row(1, prompt=long.replace("forty", "fifty")),
        row(2, prompt="Say:  2+2? ok"),
        row(3, prompt="What is 2+3?"),
    ]
    ids, refused = filtered(tmp_path, rows, decontaminate=[{"path": str(bench)}])
    assert ids == ["r1", "r3"]
    assert refused == {"overlap:test.jsonl": 2}


def test_decontamination_knows_benchmarks_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "A train leaves at nine and runs for three hours at forty miles an hour. How far?"
    bench = tmp_path / "test.jsonl"
    bench.write_text(
        json.dumps({"keep": True, "text": asked}) + "\n" + json.dumps({"keep": False}) + "\n"
    )
    defaults = BenchmarkConfig(path=str(bench), prompt_column="text")
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    registry.register("trains", defaults, lambda found: found if found["keep"] else None)
    rows = [row(0, prompt=asked), row(1, prompt="What is 2+3?")]
    ids, refused = filtered(tmp_path, rows, decontaminate=[{"path": "trains"}])
    assert ids == ["r1"]
    assert refused == {"overlap:trains": 1}


def test_overlap_needs_the_whole_run_of_words() -> None:
    index = OverlapIndex(["one two three four five"], ngram=3)
    assert not index.hits("zero two, three four")  # the comma is a word of its own
    assert index.hits("so TWO three  four")
    assert not index.hits("two three")
    assert not index.hits("")


def test_hub_datasets_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str | None, **options: Any) -> list[dict[str, Any]]:
        asked.append((path, config, options))
        return ROWS

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    loaded = load_traces("owner/name", config="default", split="train[:5]", revision="abc")
    assert len(loaded) == 5
    options = {"split": "train[:5]", "revision": "abc", "streaming": True}
    assert asked == [("owner/name", "default", options)]


def test_what_the_hub_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub\nsecond line")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    said = "owner/name: cannot be read as a data set (not in the hub's cache"
    with pytest.raises(DataError, match=re.escape(said)):
        load_traces("owner/name")


def test_tables_of_text_are_read_row_by_row(tmp_path: Path) -> None:
    """A cell stays text, an empty one is null, and an uneven row costs that row alone."""
    lines = [
        "id,prompt,cot,answer,gold",
        '1,"What is 1, and 1?","1 and 1\nis ""2"".",NA,002',
        "2,q,c,a,",
        "3,q,c",
        "4,q,d,a,1,extra",
        "5,q,e,a,1",
    ]
    expected = {"1": ('1 and 1\nis "2".', "NA", "2"), "2": ("c", "a", None), "5": ("e", "a", "1")}
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        content = "\n".join(lines if suffix == ".csv" else [_tabs(line) for line in lines])
        (tmp_path / f"rows{suffix}").write_text("\ufeff" + content + "\n", encoding="utf-8")
        (tmp_path / f"rows{suffix}.gz").write_bytes(gzip.compress(content.encode()))
        for file in (tmp_path / f"rows{suffix}", tmp_path / f"rows{suffix}.gz"):
            loaded = load_traces(file)
            assert {t.trace_id: (t.cot, t.answer, t.gold) for t in loaded} == expected, delimiter
            assert loaded.refused == {"broken_table_row": 2}
            assert loaded.places == {"broken_table_row": f"{file}:5"}


def _tabs(line: str) -> str:
    """The line with tabs for the commas that stand outside of quotes."""
    pieces = line.split('"')
    return '"'.join(p.replace(",", "\t") if n % 2 == 0 else p for n, p in enumerate(pieces))


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,a\n1,2\n", "column names must differ"), ("prompt,cot\n", "must hold at least one row")],
)
def test_a_table_without_a_sound_header_is_an_error(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_traces(tmp_path / "rows.csv")


def test_bytes_that_are_no_text_cost_their_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"prompt,cot\nq,\xff\nq,c\n")
    loaded = load_traces(tmp_path / "rows.csv")
    assert [trace.cot for trace in loaded] == ["c"]
    assert loaded.refused == {"invalid_utf8": 1}


def test_a_very_long_line_is_refused_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadspan.traces.rows.MOST_LINE_BYTES", 1000)
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(row(1)), json.dumps(row(2, cot="x" * 5000)), json.dumps(row(3))]
    file.write_text("\n".join(lines) + "\n")
    loaded = load_traces(file)
    assert [trace.trace_id for trace in loaded] == ["r1", "r3"]
    assert loaded.refused == {"line_too_long": 1}
    assert loaded.places == {"line_too_long": f"{file}:2"}


@pytest.mark.parametrize(
    ("fields", "found", "nearest", "columns"),
    [
        (
            {"query": "6*7?", "response": "<think>c</think>42", "level": 5},
            "query, response, level", "prompt_completion", "{prompt: query, completion: response}",
        ),
        (
            {"question": "6*7?", "response": "<think>c</think>42", "label": 42},
            "question, response, label", "prompt_completion",
            "{prompt: question, completion: response, gold: label}",
        ),
        (
            {"dialogue": [{"role": "user", "content": "q"}]},
            "dialogue", "messages", "{messages: dialogue}",
        ),
        (
            {"my question": "q", "reasoning_text": "c", "final": "a", "target": "a", "gold": "a"},
            '"my question", reasoning_text, final, target, gold', "sections",
            '{prompt: "my question", cot: reasoning_text, answer: final}',
        ),
        ({"a": 1}, "a", "prompt_completion", "{prompt: YOUR_COLUMN, completion: YOUR_COLUMN}"),
        ({}, "none", "prompt_completion", "{prompt: YOUR_COLUMN, completion: YOUR_COLUMN}"),
    ],
)  # fmt: skip
def test_an_unknown_format_says_what_to_write(
    tmp_path: Path, fields: dict[str, Any], found: str, nearest: str, columns: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(fields) + "\n")
    assert load_traces(file).hints == {
        "unknown_format": f"Its columns are {found}; the nearest format is {nearest}. Write "
        f"traces.columns: {columns} in run.yaml, or --set 'traces.columns={columns}'"
    }


@pytest.mark.parametrize(
    ("name", "text", "reason", "hint"),
    [
        ("rows.txt", "hello", "broken_json", "Rows are read from JSON lines"),
        ("rows.jsonl", "[1]", "not_an_object", "Rows are read from JSON lines"),
        ("rows.csv", "a,b\n1,2,3", "broken_table_row", "as many cells as its first line"),
        ("rows.jsonl", '{"prompt": "p", "completion": "a"}', "no_marker", "traces.markers: {open"),
        (
            "rows.jsonl",
            '{"prompt": "p", "completion": null, "reply": "<think>c</think>a"}',
            "missing:completion",
            "traces.columns: {prompt: prompt, completion: reply}",
        ),
        ("rows.csv", "question,reply\np,<think>c</think>a", "unknown_format", "completion: reply"),
    ],
)
def test_a_row_that_is_not_read_says_the_next_step(
    tmp_path: Path, name: str, text: str, reason: str, hint: str
) -> None:
    file = tmp_path / name
    file.write_text(text + "\n")
    loaded = load_traces(file)
    assert loaded.refused == {reason: 1}
    assert hint in loaded.hints[reason]


def test_the_line_that_is_said_has_the_row_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    fields = {"my question": "q", "reply": "<think>c</think>a", "prompt": "other"}
    file.write_text(json.dumps(fields) + "\n")
    hint = load_traces(file).hints["unknown_format"]
    columns = yaml.safe_load(hint.partition("traces.columns: ")[2].partition(" in run.yaml")[0])
    assert columns == {"prompt": "prompt", "completion": "reply"}
    (trace,) = load_traces(file, columns=columns)
    assert (trace.cot, trace.answer) == ("c", "a")


@pytest.mark.parametrize(
    ("prompt", "overlaps"),
    [
        ("Which whole number is six times seven, please?", True),
        ([{"role": "user", "content": "Which whole number is six times seven, please?"}], True),
        ([{"role": "user", "content": "Another question altogether"}], False),
    ],
)
def test_problems_of_a_benchmark_may_be_messages(
    tmp_path: Path, prompt: Any, overlaps: bool
) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": prompt, "answer": "42"}) + "\n")
    file = tmp_path / "rows.jsonl"
    asked = "Which whole number is six times seven, please?"
    file.write_text(json.dumps(row(1, prompt=asked)) + "\n" + json.dumps(row(2)) + "\n")
    loaded = load_traces(file, decontaminate=[{"path": str(tmp_path / "b.jsonl")}])
    assert dict(loaded.refused) == ({"overlap:b.jsonl": 1} if overlaps else {})


def test_mapped_columns_come_before_columns_that_happen_to_fit(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>c</think>a"}]
    fields = {"chat": chat, "conversations": chat, "prompt": "p", "completion": "<think>d</think>b"}
    file.write_text(json.dumps(fields) + "\n")
    (trace,) = load_traces(file, columns={"messages": "chat"})
    assert (trace.prompt, trace.cot) == ("q", "c")


def test_only_correct_takes_any_of_several_golds(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        json.dumps(row(1, gold=["7", "2"])) + "\n" + json.dumps(row(2, gold=["7"])) + "\n"
    )
    loaded = load_traces(file, only_correct=True)
    assert [(trace.trace_id, trace.golds) for trace in loaded] == [("r1", ("7", "2"))]
    assert loaded.refused == {"answer_wrong": 1}
