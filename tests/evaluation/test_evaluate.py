"""The whole path on a tiny random student: samples kept, resumed, forced, regraded, compared."""

import json
import multiprocessing
import shutil
from contextlib import nullcontext

import pytest

from leadspan.config import (
    AnswerForcingConfig,
    BenchmarkConfig,
    EndpointConfig,
    EvaluationConfig,
    SamplingConfig,
)
from leadspan.config_io import validate
from leadspan.errors import ConfigError, DamagedError, DataError, RunError
from leadspan.evaluation.compare import compare_runs
from leadspan.evaluation.evaluate import evaluate, generate_one
from leadspan.evaluation.regrade import regrade
from leadspan.evaluation.samples import EvaluationFolder
from leadspan.evaluation.student import grade, split_generation
from leadspan.integrity import unseal
from leadspan.runs import lock_folder
from tests.damage import damaged, draw_damages, outcome_of


def config_of(problems, grading="exact", forcing=None, unclosed="no_answer", **sampling):
    return EvaluationConfig(
        benchmarks=(BenchmarkConfig(path=str(problems), grading=grading),),
        sampling=SamplingConfig(**{"max_new_tokens": 12, **sampling}),
        batch_size=4,
        answer_forcing=forcing,
        unclosed=unclosed,
    )


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    path = tmp_path_factory.mktemp("problems") / "sums.jsonl"
    rows = [
        {"id": str(k), "problem": f"{k}+{k}?", "gold": str(2 * k), "level": 1 + k % 2}
        for k in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def finished(tiny_student, problems, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    config = config_of(problems, sampling_temperature=1.0, num_samples=2)
    return folder, config, evaluate(tiny_student, config, folder)


def test_every_sample_is_kept_and_counted(finished):
    folder, _, result = finished
    rows = read(folder / "samples.jsonl")
    assert len({(row["problem_id"], row["sample"]) for row in rows}) == 24
    assert sum(result.benchmarks[0].outcomes.values()) == 24
    assert result.benchmarks[0].by_difficulty.keys() == {"1", "2"}
    assert result.benchmarks[0].pass_at.keys() == {1, 2}
    summary = json.loads((folder / "evaluation.json").read_text())
    assert summary["accuracy"] == result.accuracy
    assert summary["identity"]["sampling"]["sampling_temperature"] == 1.0
    wanted = {"prompt", "text", "num_tokens", "finish_reason", "outcome", "seconds", "golds"}
    assert wanted <= rows[0].keys()


def test_a_killed_evaluation_goes_on_where_it_stopped(tiny_student, finished, tmp_path):
    folder, config, _ = finished
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(folder / "identity.json", half)
    lines = (folder / "samples.jsonl").read_text().splitlines(keepends=True)
    (half / "samples.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    evaluate(tiny_student, config, half)

    def texts(path):
        return {
            (row["problem_id"], row["sample"]): row["text"] for row in read(path / "samples.jsonl")
        }

    assert read(half / "samples.jsonl")[:5] == read(folder / "samples.jsonl")[:5]
    assert len(read(half / "samples.jsonl")) == 24
    assert texts(half) == texts(folder)


def evaluate_and_die(student, config, folder, lines):
    """Runs in a process of its own, which is killed in the middle of its writing."""
    import os
    import signal

    from leadspan.evaluation.samples import EvaluationFolder

    append, written = EvaluationFolder.append, []

    def counted(self, row):
        append(self, row)
        written.append(row)
        if len(written) == lines:
            os.kill(os.getpid(), signal.SIGKILL)

    EvaluationFolder.append = counted
    evaluate(student, config, folder)


def test_kill_9_loses_and_repeats_nothing(tiny_student, finished, tmp_path):
    _, config, whole = finished
    context = multiprocessing.get_context("fork")
    process = context.Process(
        target=evaluate_and_die, args=(tiny_student, config, tmp_path / "out", 7)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert len(read(tmp_path / "out" / "samples.jsonl")) == 7
    assert not (tmp_path / "out" / "evaluation.json").exists()
    result = evaluate(tiny_student, config, tmp_path / "out")
    rows = read(tmp_path / "out" / "samples.jsonl")
    assert len({(row["problem_id"], row["sample"]) for row in rows}) == len(rows) == 24
    assert (result.accuracy, result.closed_fraction) == (whole.accuracy, whole.closed_fraction)


def test_two_processes_cannot_write_one_folder(tiny_student, problems, tmp_path):
    with lock_folder(tmp_path), pytest.raises(RunError, match="another process"):
        evaluate(tiny_student, config_of(problems), tmp_path)


def test_samples_of_another_evaluation_are_not_mixed_in(
    tiny_student, tiny_teacher, finished, problems
):
    folder, config, _ = finished
    other = config_of(problems, sampling_temperature=0.7, num_samples=2)
    with pytest.raises(RunError, match=r"sampling\.sampling_temperature differ"):
        evaluate(tiny_student, other, folder)
    with pytest.raises(RunError, match=r"student\.fingerprint"):
        evaluate(tiny_teacher, config, folder)


def test_forced_answers_stand_beside_the_plain_ones(tiny_student, problems, tmp_path):
    forcing = AnswerForcingConfig(cue="so ", max_new_tokens=3)
    config = config_of(problems, forcing=forcing, max_new_tokens=6)
    result = evaluate(tiny_student, config, tmp_path / "out")
    rows = read(tmp_path / "out" / "samples.jsonl")
    plain = [row for row in rows if not row.get("forced")]
    forced = [row for row in rows if row.get("forced")]
    cut = [row for row in plain if row["finish_reason"] == "length" and not row["closed"]]
    assert {row["problem_id"] for row in forced} == {row["problem_id"] for row in cut}
    assert result.benchmarks[0].forced_samples == len(forced)
    for row in forced:
        before = next(other for other in cut if other["problem_id"] == row["problem_id"])
        assert row["prompt"] == f"{before['prompt']}{before['text']}</think>so "
        assert row["answer"] == "so " + row["text"]
        assert row["num_tokens"] <= 3
    evaluate(tiny_student, config, tmp_path / "out")
    assert read(tmp_path / "out" / "samples.jsonl") == rows


def test_an_unwritable_cue_is_refused(tiny_student, problems, tmp_path):
    with pytest.raises(ConfigError, match=r"answer_forcing\.cue"):
        evaluate(
            tiny_student, config_of(problems, forcing=AnswerForcingConfig(cue="\\boxed{")), tmp_path
        )


def test_refusals_come_before_the_model(tmp_path, problems):
    def refused(error, match, config):
        with pytest.raises(error, match=match):
            evaluate("no/such/model", config, tmp_path / "out")

    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    refused(ConfigError, "at least one benchmark", EvaluationConfig())
    refused(DataError, "at least one row|at least one problem", config_of(write("empty.jsonl", "")))
    gold_less = write("g.jsonl", '{"id": "a7", "problem": "1+1?", "gold": null}\n')
    refused(DataError, "a7", config_of(gold_less))
    refused(
        DataError,
        "x.jsonl:2",
        config_of(write("x.jsonl", '{"problem": "1", "gold": "1"}\n{"pro\n')),
    )
    refused(ConfigError, "prompt_column must be one of", config_of(write("c.jsonl", '{"a": 1}\n')))
    refused(DataError, "Registered benchmarks: aime24", config_of("nowhere.jsonl"))
    refused(ConfigError, "grading must be one of", config_of(problems, grading="maths"))
    word = write("w.jsonl", '{"id": "b3", "problem": "1+1?", "gold": "two"}\n')
    refused(DataError, "b3", config_of(word, grading="numeric"))
    twice = EvaluationConfig(benchmarks=config_of(problems).benchmarks * 2)
    refused(ConfigError, "two are called 'sums'", twice)


def test_golds_that_are_no_mathematics_are_listed(tiny_student, tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    rows = [
        {"id": "p1", "problem": "1?", "gold": "\\text{east}"},
        {"id": "p2", "problem": "2?", "gold": "\\frac{"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate(tiny_student, config_of(path, grading="math", max_new_tokens=2), tmp_path / "out")
    assert "compared as text: p2" in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert summary["golds_compared_as_text"] == {"p": ["p2"]}


def test_config_refusals():
    with pytest.raises(
        ConfigError, match=r"pass_at must be within 1 and sampling\.num_samples = 2; got 3"
    ):
        validate(
            EvaluationConfig,
            {"pass_at": [3], "sampling": {"num_samples": 2, "sampling_temperature": 1}},
            "run.yaml",
        )
    with pytest.raises(ConfigError, match="num_samples must be 1 at sampling_temperature 0"):
        validate(EvaluationConfig, {"sampling": {"num_samples": 64}}, "run.yaml")
    with pytest.raises(ConfigError, match="endpoint is required"):
        validate(EvaluationConfig, {"backend": "endpoint"}, "run.yaml")
    endpoint = EndpointConfig(base_url="http://x/v1", model="m").model_dump()
    content = {"backend": "endpoint", "endpoint": endpoint, "answer_forcing": {}}
    with pytest.raises(ConfigError, match="answer_forcing continues a text"):
        validate(EvaluationConfig, content, "run.yaml")


@pytest.mark.parametrize(
    ("text", "opened", "ended", "expected"),
    [
        ("<think>a</think>b", False, True, ("a", "b", True)),
        ("a</think>b", True, True, ("a", "b", True)),
        ("a</think>b</think>c", True, True, ("a", "b</think>c", True)),
        ("<think>a", False, False, ("a", "", False)),
        ("a", True, True, ("a", "", False)),
        ("b", False, True, ("", "b", True)),
        ("b", False, False, ("", "b", False)),
        ("", True, True, ("", "", False)),
    ],
)
def test_split(text, opened, ended, expected):
    found = split_generation(text, "<think>", "</think>", opened, ended)
    assert (found.cot, found.answer, found.closed) == expected


def test_regrading_changes_grades_and_generates_nothing(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    rows = read(folder / "samples.jsonl")
    del rows[0]["checksum"]  # whoever changes a row says so
    rows[0] |= {"answer": rows[0]["golds"][0], "closed": True}
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    regraded = regrade(folder / "samples.jsonl")
    assert sum(regraded.changes.values()) == (rows[0]["outcome"] != "correct")
    after = read(folder / "samples.jsonl")
    assert after[0]["outcome"] == "correct"
    assert [row["text"] for row in after] == [row["text"] for row in rows]
    assert json.loads((folder / "evaluation.json").read_text())["regraded"]
    assert regrade(folder, kind="numeric").result.benchmarks[0].samples == 24
    with pytest.raises(RunError, match="is not there"):
        regrade(tmp_path / "none")


def test_compare_refuses_what_was_evaluated_differently(tiny_student, finished, problems, tmp_path):
    folder, _, result = finished
    same = compare_runs(folder, folder)
    assert same.rows[0].paired.difference.value == 0
    assert same.rows[0].first == pytest.approx(result.accuracy)
    other = tmp_path / "run"
    evaluate(tiny_student, config_of(problems), other / "evaluation")
    with pytest.raises(RunError, match=r"evaluated differently: sampling\.num_samples"):
        compare_runs(folder, other)
    forced = compare_runs(folder, other, force=True)
    assert "sampling.sampling_temperature" in forced.differences
    with pytest.raises(RunError, match="no finished evaluation"):
        compare_runs(folder, tmp_path / "nothing")


def test_compare_takes_two_commits_with_the_same_problems_for_one(finished, tmp_path):
    folder, _, _ = finished
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    path = other / "evaluation.json"
    for key, refused in (("revision", False), ("content", True)):
        summary = unseal(json.loads(path.read_text()), "")
        for benchmark in summary["identity"]["benchmarks"].values():
            benchmark[key] = "a" * 40
        path.write_text(json.dumps(summary))
        with pytest.raises(RunError, match=r"\.content") if refused else nullcontext():
            assert compare_runs(folder, other).differences == ()


def test_a_reader_of_a_half_written_line_writes_nothing(finished, tmp_path):
    folder, _, _ = finished
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    with (other / "samples.jsonl").open("a") as file:
        file.write('{"benchmark": "half')
    before = (other / "samples.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"samples\.jsonl: must have \d+ bytes"):
        compare_runs(folder, other)
    assert len(EvaluationFolder(other).read()) == len(EvaluationFolder(folder).read())
    assert (other / "samples.jsonl").read_bytes() == before


def test_a_whole_unclosed_text_may_be_graded(tiny_student, problems, tmp_path):
    evaluate(tiny_student, config_of(problems, "numeric"), tmp_path / "a")
    evaluate(tiny_student, config_of(problems, "numeric", unclosed="whole_text"), tmp_path / "b")
    open_rows = [row for row in read(tmp_path / "b" / "samples.jsonl") if not row["closed"]]
    assert all(row["answer"] is None for row in open_rows)
    assert all(row["answer"] is not None for row in read(tmp_path / "a" / "samples.jsonl"))


def test_one_answer_and_one_grade(tiny_student):
    config = EvaluationConfig(sampling=SamplingConfig(max_new_tokens=5))
    assert isinstance(generate_one(tiny_student, "1+1?", config), str)
    graded = grade("The answer is \\boxed{50\\%}", "50")
    assert (graded.outcome, graded.extracted) == ("correct", "50\\%")


def test_damage_to_samples_is_refused_wherever_they_are_read(finished, tmp_path):
    folder = EvaluationFolder(tmp_path / "copy")
    shutil.copytree(finished[0], folder.path)
    rows, path = folder.read(), folder.samples_path
    assert folder.read_summary()["identity"]
    for what, content in draw_damages(path.read_bytes()):
        with damaged(path, content):
            _, refusal = outcome_of(folder.read_summary)
            assert refusal is not None, what
            assert str(path) in refusal, what
            assert "\n" not in refusal, what
            # An unfinished evaluation has lines alone: what is read of them is as it was written.
            found, refusal = outcome_of(folder.read)
            # A misspelt "checksum" may lie beside it.
            kept = zip(found or [], rows, strict=False)
            assert all(all(each[key] == row[key] for key in row) for each, row in kept), what


def test_a_damaged_sample_is_one_line_for_compare_grade_and_evaluate(
    tiny_student, finished, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    content = (folder / "samples.jsonl").read_bytes()
    (folder / "samples.jsonl").write_bytes(content.replace(b'"closed": ', b'"clsoed": ', 1))
    for verb in (
        lambda: compare_runs(folder, finished[0]),
        lambda: regrade(folder),
        lambda: evaluate(tiny_student, finished[1], folder),
    ):
        with pytest.raises(DamagedError, match=r"samples\.jsonl(:1)?: the content does not match"):
            verb()
