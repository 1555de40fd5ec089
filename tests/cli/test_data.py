"""`inspect`, `doctor` and `prepare` as a user calls them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from leadspan.cli import data
from leadspan.errors import ConfigError, DataError
from tests.traces.test_doctor import model_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))


def call(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    data.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    lines = [
        {"id": f"r{n}", "prompt": f"{n}?", "cot": f"so {n}.", "answer": f"{n}"} for n in range(9)
    ]
    lines.append({"id": "bad", "prompt": "p", "cot": ""})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def run_yaml(tmp_path: Path, rows: Path) -> Path:
    student = model_folder(tmp_path / "student")
    file = tmp_path / "run.yaml"
    file.write_text(
        f"student: {{path: {student}}}\ntraces: {{path: {rows}}}\n"
        "loss: {kd_ratio: 0}\ntraining: {steps: 1}\n",
        encoding="utf-8",
    )
    return file


def test_inspect_needs_no_run_yaml(tmp_path: Path, rows: Path) -> None:
    tokenizer = model_folder(tmp_path / "student")
    result = call("inspect", rows, "--tokenizer", tokenizer, "--json")
    found = json.loads(result.stdout)
    assert (found["rows"], found["usable"], found["refused"]) == (10, 9, {"empty_cot": 1})
    assert found["roundtrip_failures"] == 0


def test_inspect_fits_80_columns_and_shows_a_trace_on_request(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ("inspect", rows, "--tokenizer", model_folder(tmp_path / "student"), "--derivations")
    plain = call(*command).stdout
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" not in plain
    assert "so 0." not in plain
    assert plain.index("tokens by section") < plain.index("what each LSP keeps")
    shown = call(*command, "--traces", 1).stdout
    assert plain.splitlines()[-1] == shown.splitlines()[-1]
    assert shown.index("so 0.") < shown.index("tokens by section")


def test_lsp_has_an_option_and_a_short_key(run_yaml: Path) -> None:
    outs = [
        json.loads(call("inspect", run_yaml, "--json", *cut).stdout)["configured"]["kept_tokens"]
        for cut in (("--lsp", 0.5), ("--set", "lsp=0.5"), ("--set", "truncation.lsp=0.5"), ())
    ]
    assert outs[0] == outs[1] == outs[2] < outs[3]


def test_inspect_shows_a_page_and_the_terminal(tmp_path: Path, run_yaml: Path) -> None:
    page = tmp_path / "page.html"
    result = call("inspect", run_yaml, "--html", page, "--set", "truncation.lsp=0.5")
    assert result.exit_code == 0
    assert "10 rows, 9 usable" in result.stdout
    assert "refused: empty_cot 1" in result.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_inspect_with_nothing_usable_says_what_to_write_and_fails(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"query": "q", "reply": "<think>c</think>a"}) + "\n")
    tokenizer = model_folder(tmp_path / "student")
    result = call("inspect", file, "--tokenizer", tokenizer, *options)
    assert result.exit_code == 1
    assert "unknown_format 1" in result.stderr
    assert "query, reply" in result.stderr
    option = shlex.split(result.stderr.partition("or --set ")[2].strip().removesuffix("."))
    mended = call("inspect", file, "--tokenizer", tokenizer, "--set", *option)
    assert mended.exit_code == 0
    assert "1 rows, 1 usable" in mended.stdout


def test_inspect_reads_prompts_alone_where_told_to(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}?"}) + "\n" for n in range(3)))
    command = ["inspect", file, "--tokenizer", model_folder(tmp_path / "student")]
    shown = call(*command, "--prompts")
    assert shown.exit_code == 0
    assert "3 rows, 3 usable" in shown.stdout
    assert "note: prompt_alone 3" in shown.stdout
    assert "what each LSP keeps" not in shown.stdout
    assert call(*command).exit_code == 1


def test_inspect_takes_another_template(tmp_path: Path, rows: Path) -> None:
    tokenizer = model_folder(tmp_path / "student")
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}::<think>\n")
    result = call(
        "inspect", rows, "--tokenizer", tokenizer, "--chat-template", template, "--traces", 1
    )
    assert "::<think>" in result.stdout


MISTAKES = [
    (["inspect", "rows.jsonl"], ConfigError, "give --tokenizer"),
    (
        ["inspect", "rows.jsonl", "--tokenizer", "student", "--set", "truncation.lsp=50"],
        ConfigError,
        "0.5",
    ),
    (
        ["inspect", "rows.jsonl", "--tokenizer", "student", "--set", "truncation.lps=1"],
        ConfigError,
        "lsp",
    ),
    (["inspect", "none.jsonl", "--tokenizer", "student"], DataError, "no such file"),
    (["inspect", "rows.jsonl", "--tokenizer", "nowhere"], DataError, "nowhere"),
    (["prepare", "run.yaml", "out", "--export", "csv"], ConfigError, "--export must be"),
    (["doctor", "none.yaml"], ConfigError, "cannot be read"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), MISTAKES)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_yaml: Path,
    arguments: list[str],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert isinstance(result.exception, kind)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_doctor_says_what_it_found(run_yaml: Path) -> None:
    result = call("doctor", run_yaml)
    assert result.exit_code == 0
    assert "traces: 9 usable" in result.stdout
    levels = [finding["level"] for finding in json.loads(call("doctor", run_yaml, "--json").stdout)]
    assert "error" not in levels
    ill = call("doctor", run_yaml, "--set", "traces.path=nowhere.jsonl")
    assert ill.exit_code == 1
    assert "error   rows: nowhere.jsonl: no such file" in ill.stdout


def test_prepare_writes_and_counts(tmp_path: Path, run_yaml: Path) -> None:
    result = call("prepare", run_yaml, tmp_path / "set", "--export", "messages")
    assert result.exit_code == 0
    assert "refused: empty_cot 1" in result.stdout
    assert (tmp_path / "set" / "messages-train.jsonl").is_file()
    again = call("prepare", run_yaml, tmp_path / "set", "--json")
    assert sum(json.loads(again.stdout)["rows"].values()) == 9


def test_inspect_counts_derivations(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    cot = "First, 12 + 30 = 42. " + "Let me check that once more, step by step. " * 4
    row = {"prompt": "What is 12 + 30?", "cot": cot, "answer": "42", "gold": "42"}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    tokenizer = model_folder(tmp_path / "student")
    result = call("inspect", file, "--tokenizer", tokenizer, "--json", "--derivations")
    kept = {lsp: cut["derivation_kept"] for lsp, cut in json.loads(result.stdout)["lsp"].items()}
    assert kept["0.1"] == 0.0
    assert kept["1"] == 1.0
