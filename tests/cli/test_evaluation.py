"""The verbs evaluate, grade, compare and generate, through the real command line."""

import json

import pytest
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.errors import ConfigError

RUNNER = CliRunner()
FEW = ["--set", "evaluation.sampling.max_new_tokens=8"]


@pytest.fixture(scope="module")
def evaluated(tiny_student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    rows = [{"id": str(n), "problem": f"{n}+{n}?", "gold": str(2 * n)} for n in range(4)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = ["--benchmark", str(folder / "sums.jsonl")]
    result = run("evaluate", str(tiny_student), *benchmark, *FEW, "--output", str(folder / "out"))
    return folder, result.stdout


def run(*arguments):
    result = RUNNER.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_evaluate_says_accuracy_with_its_interval(evaluated):
    assert "sums: accuracy 0." in evaluated[1]
    assert "4 problems, 4 samples" in evaluated[1]
    assert "samples.jsonl" in evaluated[1]


@pytest.mark.parametrize("named", ["option", "config"])
def test_a_list_entry_is_changed_wherever_the_benchmarks_are_named(
    named, evaluated, tiny_student, tmp_path
):
    file = str(evaluated[0] / "sums.jsonl")
    source = ["--benchmark", file]
    if named == "config":
        (tmp_path / "run.yaml").write_text(f"evaluation: {{benchmarks: [{{path: {file}}}]}}")
        source = ["--config", str(tmp_path / "run.yaml")]
    limit = ["--set", "evaluation.benchmarks.0.limit=2"]
    found = run(
        "evaluate", str(tiny_student), *source, *FEW, *limit, "--output", str(tmp_path / "o")
    )
    assert "2 problems, 2 samples" in found.stdout


def test_limit_takes_the_first_problems_of_each_benchmark(evaluated, tiny_student, tmp_path):
    (tmp_path / "more.jsonl").write_text('{"problem": "1?", "gold": "1"}\n' * 3)
    files = [evaluated[0] / "sums.jsonl", tmp_path / "more.jsonl"]
    named = [part for file in files for part in ("--benchmark", str(file))]
    found = run(
        "evaluate", str(tiny_student), *named, *FEW, "--limit", "2", "--output", str(tmp_path / "o")
    )
    assert found.stdout.count("2 problems, 2 samples") == 2


def test_an_entry_of_no_list_is_said(tiny_student, tmp_path):
    arguments = ["evaluate", str(tiny_student), "--set", "evaluation.benchmarks.0.limit=2"]
    with pytest.raises(ConfigError, match="benchmarks must be a list; got"):
        RUNNER.invoke(app, [*arguments, "--output", str(tmp_path)], catch_exceptions=False)


def test_grade_again(evaluated):
    found = run("grade", str(evaluated[0] / "out" / "samples.jsonl"), "--json").stdout
    assert json.loads(found)["changes"] == {}


def test_compare_with_itself(evaluated):
    out = str(evaluated[0] / "out")
    assert "B - A: +0.000" in run("compare", out, out).stdout
    rows = json.loads(run("compare", out, out, "--json").stdout)["rows"]
    assert rows[0]["paired"]["p_value"] == 1.0


def test_generate_prints_what_the_student_writes(tiny_student):
    assert run("generate", str(tiny_student), "1+1?", *FEW).stdout.strip()


def test_what_a_user_can_mend_is_said(tiny_student, tmp_path):
    with pytest.raises(ConfigError, match="--output: is required"):
        RUNNER.invoke(app, ["evaluate", str(tiny_student)], catch_exceptions=False)
    arguments = ["generate", str(tiny_student), "1?", "--set", "loss.kd_ratio=1"]
    with pytest.raises(ConfigError, match=r"only evaluation\.\* and render\.\*"):
        RUNNER.invoke(app, arguments, catch_exceptions=False)
