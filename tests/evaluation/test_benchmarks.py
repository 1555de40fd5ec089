# ruff: noqa: E501
"""Registered and local benchmarks: columns, golds, prompts, identity."""

import json

import pytest

from leadspan.config import BenchmarkConfig
from leadspan.errors import DataError
from leadspan.evaluation.benchmarks import load_benchmark
from leadspan.registry import register, registered, registered_names


@pytest.mark.parametrize(
    ("value", "grading", "golds"),
    [
        ("025", "math", ("25",)), ("043", "exact", ("043",)), ("o 43", "exact", ("o 43",)), ("B", "choice", ("B",)),
        ("{1,2}", "set", ("{1,2}",)), ({"target": 16, "numbers": [2, 3]}, "m:f", ('{"target": 16, "numbers": [2, 3]}',)),
        ({"ground_truth": "B"}, "choice", ("B",)), (["a", "b"], "exact", ("a", "b")),
    ],
)  # fmt: skip
def test_golds_are_read_as_the_grading_takes_them(tmp_path, value, grading, golds):
    path = write(tmp_path / "p.jsonl", {"problem": "?", "gold": value})
    config = BenchmarkConfig(path=path, grading=grading)
    assert load_benchmark(config).problems[0].golds == golds


def test_a_gold_that_is_something_else_is_refused(tmp_path):
    path = write(tmp_path / "p.jsonl", {"problem": "?", "gold": {"colour": "red"}})
    with pytest.raises(DataError, match=r"p.jsonl.*a mapping without a gold \(keys: colour\)"):
        load_benchmark(BenchmarkConfig(path=path))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_columns_template_and_difficulty(tmp_path):
    path = write(tmp_path / "p.jsonl", {"q": "1+1?", "a": 2, "n": 7, "hard": 3})
    config = BenchmarkConfig(
        path=path, name="mine", prompt_column="q", gold_column="a", id_column="n",
        difficulty_column="hard", prompt_template="Q: {problem} {not a field}", system_prompt="Be brief.",
    )  # fmt: skip
    problem = load_benchmark(config).problems[0]
    assert [turn.content for turn in problem.messages] == ["Be brief.", "Q: 1+1? {not a field}"]
    assert (problem.problem_id, problem.golds, problem.difficulty) == ("7", ("2",), "3")


def test_identity_moves_with_content_template_and_grading(tmp_path):
    path = write(
        tmp_path / "p.jsonl", {"problem": "1+1?", "gold": "2"}, {"problem": "2+2?", "gold": "4"}
    )
    base = load_benchmark(BenchmarkConfig(path=path)).identity
    for change in (
        {"limit": 1},
        {"prompt_template": "{problem}!"},
        {"grading": "exact"},
        {"answer_pattern": "o (.)"},
    ):
        assert load_benchmark(BenchmarkConfig(path=path, **change)).identity != base
    assert load_benchmark(BenchmarkConfig(path=path)).identity == base


def test_a_registered_name_lends_a_local_copy_its_rules(tmp_path):
    path = write(
        tmp_path / "gsm8k_part.jsonl", {"question": "How many?", "answer": "1 + 1\n#### 2"}
    )
    benchmark = load_benchmark(BenchmarkConfig(path=path, name="gsm8k"))
    assert benchmark.problems[0].golds == ("2",)
    assert "\\boxed{}" in benchmark.problems[0].messages[0].content


def test_repeated_ids_are_told_apart(tmp_path):
    rows = [{"id": "a", "problem": str(n), "gold": "1"} for n in range(3)]
    ids = [
        p.problem_id
        for p in load_benchmark(BenchmarkConfig(path=write(tmp_path / "p.jsonl", *rows))).problems
    ]
    assert len(set(ids)) == 3


def test_multiple_choice(tmp_path):
    pro = write(
        tmp_path / "pro.jsonl",
        {
            "question_id": 5,
            "question": "Which?",
            "options": ["x", "y", "z"],
            "answer": "C",
            "category": "law",
        },
    )
    problem = load_benchmark(BenchmarkConfig(path=pro, name="mmlu_pro")).problems[0]
    assert "Which?\n\nA. x\nB. y\nC. z" in problem.messages[0].content
    assert (problem.golds, problem.difficulty) == (("C",), "law")
    row = {
        "Question": "Why?",
        "Correct Answer": "w",
        "Incorrect Answer 1": "x",
        "Incorrect Answer 2": "y",
        "Incorrect Answer 3": "z",
    }
    gpqa = load_benchmark(
        BenchmarkConfig(path=write(tmp_path / "g.jsonl", row), name="gpqa_diamond")
    )
    assert gpqa.grading == "choice"
    assert f"{gpqa.problems[0].golds[0]}. w" in gpqa.problems[0].messages[0].content


def test_olympiadbench_keeps_english_text_only(tmp_path):
    rows = [
        {"id": 1, "question": "1?", "final_answer": ["$2$"], "language": "English", "modality": "Text-only"},
        {"id": 2, "question": "2?", "final_answer": ["3"], "language": "Chinese", "modality": "Text-only"},
        {"id": 3, "question": "see <image_1>", "final_answer": ["3"], "language": "English", "modality": "Multimodal"},
    ]  # fmt: skip
    benchmark = load_benchmark(
        BenchmarkConfig(path=write(tmp_path / "o.jsonl", *rows), name="olympiadbench")
    )
    assert [(p.problem_id, p.golds) for p in benchmark.problems] == [("1", ("$2$",))]


def test_countdown_asks_and_grades_by_its_numbers(tmp_path):
    path = write(tmp_path / "c.jsonl", {"nums": [2, 3], "target": 6})
    benchmark = load_benchmark(BenchmarkConfig(path=path, name="countdown"))
    assert "equals 6" in benchmark.problems[0].messages[0].content
    assert json.loads(benchmark.problems[0].golds[0]) == {"target": 6, "numbers": [2, 3]}


def test_others_may_register(tmp_path):
    path = write(tmp_path / "p.jsonl", {"problem": "1?", "gold": "o 1"})
    register("tiny_world", BenchmarkConfig(path=path, name="tiny_world", grading="exact"))
    assert "tiny_world" in registered_names()
    assert load_benchmark(BenchmarkConfig(path="tiny_world")).grading == "exact"
    assert registered("no_such") is None


def test_an_empty_problem_is_refused_with_its_line(tmp_path):
    path = write(
        tmp_path / "p.jsonl", {"problem": "1?", "gold": "1"}, {"problem": " ", "gold": "1"}
    )
    with pytest.raises(DataError, match=r"p\.jsonl:2: problem must be a text"):
        load_benchmark(BenchmarkConfig(path=path))


@pytest.mark.parametrize(
    ("name", "file", "count", "first"),
    [
        ("aime24", "aime24.jsonl", 30, "204"), ("aime25", "aime25.jsonl", 30, "70"), ("amc23", "amc23.jsonl", 40, "27"),
        ("math500", "math500.jsonl", 500, "\\left( 3, \\frac{\\pi}{2} \\right)"), ("gsm8k", "gsm8k_test.jsonl", 1319, "18"),
    ],
)  # fmt: skip
def test_the_real_copies(shared_data, name, file, count, first):
    benchmark = load_benchmark(
        BenchmarkConfig(path=str(shared_data / "benchmarks" / file), name=name)
    )
    assert len(benchmark.problems) == count
    assert benchmark.problems[0].golds == (first,)


def test_a_prompt_may_be_messages(tmp_path):
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ]
    asked = {"role": "user", "content": [{"type": "text", "text": "1+1?"}]}
    path = write(tmp_path / "p.jsonl", {"prompt": [*earlier, asked], "answer": 2})
    config = BenchmarkConfig(path=path, prompt_template="Q: {problem}")
    (problem,) = load_benchmark(config).problems
    assert [turn.role for turn in problem.messages] == ["system", "user", "assistant", "user"]
    assert problem.messages[-1].content == "Q: 1+1?"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            [{"role": "user", "content": [{"type": "image"}]}],
            "must be text or messages; got has_image",
        ),
        (["1+1?"], "must be text or messages; got not_a_message"),
        (7, "must be text or messages; got not_text:content"),
        ([], "messages that end in a user's"),
        ([{"role": "assistant", "content": "Hello!"}], "messages that end in a user's"),
        (" ", "must be a text that is not empty"),
    ],
)
def test_a_prompt_that_is_no_text_is_an_error(tmp_path, prompt, message):
    path = write(tmp_path / "p.jsonl", {"prompt": prompt, "answer": 2})
    with pytest.raises(DataError, match=message):
        load_benchmark(BenchmarkConfig(path=path))
