from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from leadspan.cli import study as verbs
from leadspan.errors import RunError
from leadspan.study import report as report_room
from leadspan.study.report import write_report

from .made_up_sweep import HOSTILE, add_point, build_demo_sweep, read_csv_rows, write_sweep_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written report of the made-up demo."""
    sweep = build_demo_sweep(tmp_path_factory.mktemp("demo"))
    assert write_report(sweep) == sweep / "report" / "report.html"
    return sweep / "report"


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_everything_is_written(demo: Path) -> None:
    names = {path.relative_to(demo).as_posix() for path in demo.rglob("*") if path.is_file()}
    figures = ("tradeoff", "accuracy", "retention", "cost", "frontier", "predicted", "sections")
    figures += ("prompt", "halves", "halves-loss", "derivation-world", "derivation-world--late")
    figures += ("training-loss", "validation-loss")
    drawn = {f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert names == drawn | {"report.html", "report.md", "results.csv"}
    assert len(read_csv_rows(demo / "results.csv")) == 29
    for name in figures:
        assert (demo / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(demo / f"figures/{name}.svg")


def test_the_markdown_refers_to_what_is_there(demo: Path) -> None:
    text = (demo / "report.md").read_text(encoding="utf-8")
    targets = re.findall(r"!?\[[^\]]*\]\(([^)]+)\)", text)
    assert len(targets) > 8
    assert all((demo / target).is_file() for target in targets)
    widths: set[int] = set()
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            widths.add(len(re.findall(r"(?<!\\)\|", line)))
        elif widths:
            assert len(widths) == 1, "a table's rows must be of one width"
            widths = set()


def test_the_page_fetches_nothing(demo: Path) -> None:
    page = Page((demo / "report.html").read_text(encoding="utf-8"))
    outside = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
        and not str(value).startswith(("#", "data:"))
    ]
    assert outside == []
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert str(policy).startswith("default-src 'none'")
    assert "http" not in str(policy)


def test_every_figure_has_words_and_numbers(demo: Path) -> None:
    text = (demo / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 11
    assert text.count('role="img"') == 13, "the first figure has three panels"
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{40,}"', figure)
        assert re.search(r"<figcaption>(<b>)?[^<]{5,}<", figure)
        details = re.search(r'<details class="numbers">.*<td>.*</details>', figure, re.DOTALL)
        assert details is not None


def test_one_figure_stands_open_and_the_rest_is_folded(demo: Path) -> None:
    text = (demo / "report.html").read_text(encoding="utf-8")
    before, _, folded = text.partition('<details class="part"')
    assert [f'id="figure-{name}"' in before for name in ("accuracy", "retention", "cost")] == [
        True
    ] * 3
    assert before.count("<figure") == 1
    assert folded.count("<figure") == 10
    assert "<details open" not in text
    assert len(text.encode()) < 1_000_000


def test_the_page_names_what_it_is_about(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    said = dict(
        re.findall(r"<div><dt>([^<]+)</dt><dd>([^<]+)</dd></div>", page.partition("<main")[0])
    )
    assert said == {
        "Teacher": "world/teacher",
        "Student": "world/student",
        "Data": "world/train.jsonl",
        "Runs": "28 runs with a result",
        "Date": "2026-01-31",
        "Machine": "CPU (x86_64, 2 threads)",
        "World seed": "101",
    }


def test_one_run_has_a_report_too(tmp_path: Path) -> None:
    write_sweep_file(tmp_path / "sweep")
    run = add_point(tmp_path / "sweep", "x", lsp=0.5).rename(tmp_path / "mine")
    (run / "point.json").unlink()
    path = write_report(run)
    assert path == run / "report" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert "<h1>Run mine</h1>" in page
    assert re.search(
        r'"result">Trained at lsp 0.5, the student reached an accuracy of 0\.\d\d \[', page
    )
    assert 'id="figure-training-loss"' in page.partition('<details class="part"')[0]
    for of_sweeps in ("figure-accuracy", "figure-frontier", "usual config", "retention"):
        assert of_sweeps not in page
    (row,) = read_csv_rows(run / "report" / "results.csv")
    assert (row["run"], row["lsp"], row["status"]) == ("mine", "0.5", "done")


def test_one_run_that_was_not_evaluated_shows_its_losses(tmp_path: Path) -> None:
    write_sweep_file(tmp_path / "sweep")
    run = add_point(tmp_path / "sweep", "x", lsp=0.5, accuracy=None).rename(tmp_path / "mine")
    page = write_report(run).read_text(encoding="utf-8")
    assert "reached a validation loss of 0.1" in page
    assert "it was not evaluated." in page
    assert 'id="figure-validation-loss"' in page
    (run / "manifest.json").unlink()
    assert "The run has not finished." in write_report(run).read_text(encoding="utf-8")


def test_a_folder_of_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be the folder of a sweep, .* or of a run"):
        write_report(tmp_path)


def test_many_long_samples_do_not_fill_the_page(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    for place in range(30):
        point = add_point(tmp_path, f"run-{place}", lsp=0.5, seed=place)
        samples = point / "evaluation" / "samples.jsonl"
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        lines = [{**line, "text": "word 好" * 2000} for line in lines[:12]]
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert len(page.encode()) < 1_500_000
    assert page.count("word \\u597dword") > 30, "every run has a sample"


def test_text_of_traces_is_escaped(demo: Path) -> None:
    text = (demo / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<script>window.broken" not in text
    assert "window.broken" in text, "the hostile sample must be among those shown"


def test_hostile_names_and_reasons_are_escaped(tmp_path: Path) -> None:
    write_sweep_file(tmp_path, note=HOSTILE)
    add_point(tmp_path, "x", error=f"{HOSTILE} | a | `b` [c](d)")
    add_point(tmp_path, "y", lsp=0.5)
    folder = write_report(tmp_path).parent
    page = (folder / "report.html").read_text(encoding="utf-8")
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script>window" not in page
    assert "<script" not in markdown.replace("\\<", "")
    (row,) = [line for line in markdown.splitlines() if "failed |" in line and "a \\|" in line]
    assert "\\[c\\](d)" in row


@pytest.mark.parametrize("build", ["nothing", "failed", "no costs"])
def test_a_report_of_little_is_still_a_report(tmp_path: Path, build: str) -> None:
    write_sweep_file(tmp_path)
    (tmp_path / "points").mkdir()
    if build == "failed":
        add_point(tmp_path, "x", error="no memory")
    elif build == "no costs":
        unmeasured = dict.fromkeys(("train_flops", "train_seconds", "tokens_forwarded"))
        add_point(tmp_path, "x", lsp=0.5, manifest=unmeasured)
    path = write_report(tmp_path, tmp_path / "elsewhere")
    assert path == tmp_path / "elsewhere" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert "<h1>" in page
    assert ("no memory" in page) == (build == "failed")


def test_without_the_extra_the_text_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "x", lsp=0.5)

    def find(name: str) -> Any:
        return None if name == "matplotlib" else importlib.util.find_spec(name)

    monkeypatch.setattr(report_room, "find_spec", find)
    path = write_report(tmp_path)
    assert path.name == "report.md"
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.md", "results.csv"]
    assert 'pip install "leadspan[report]"' in capsys.readouterr().err


def test_a_small_report_reads_as_before_and_as_again(tmp_path: Path) -> None:
    """Look at the difference; where it is wanted, write the new text over the golden file."""
    write_sweep_file(tmp_path, world_seed=7)
    add_point(tmp_path, "base", "base", accuracy=0.3)
    for lsp, accuracy in ((0.5, 0.9), (1.0, 0.95)):
        for seed in (0, 1):
            add_point(tmp_path, f"lsp-{lsp}_seed-{seed}", lsp=lsp, seed=seed, accuracy=accuracy)
    add_point(tmp_path, "lsp-0.2", lsp=0.2, error="out of memory")
    folder = write_report(tmp_path).parent
    for name in ("report.md", "results.csv"):
        assert (folder / name).read_text() == (GOLDEN / name).read_text(), folder / name
    again = write_report(tmp_path, tmp_path / "again").parent
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_the_verb_says_two_sentences(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "x", error="no memory")
    app = typer.Typer()
    app.callback()(lambda: None)
    verbs.register(app)
    answer = CliRunner().invoke(app, ["report", str(tmp_path), "--output", str(tmp_path / "r")])
    assert answer.exit_code == 0, answer.output
    assert "1 failed, 0 unfinished" in answer.output
    assert str(tmp_path / "r" / "report.html") in answer.output.replace("\n", "")
