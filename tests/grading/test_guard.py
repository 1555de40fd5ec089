"""Hostile and endless answers: each costs its limit and at most one worker, and nothing is executed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leadspan.errors import ConfigError
from leadspan.grading import Grader, check_kind, countdown

HERE = "tests.grading.test_guard"
LIMIT = 0.3


def sleeper(completion, gold):
    time.sleep(60)


def spinner(completion, gold):
    while True:
        pass


def napper(completion, gold):
    time.sleep(2 * LIMIT)
    return True


def hog(completion, gold):
    return bool([0] * (1 << 33))


def teller(completion, gold):
    Path(completion).write_text(str(os.getpid()))
    time.sleep(60)


def dier(completion, gold):
    os.kill(os.getpid(), signal.SIGKILL)


def broken(completion, gold):
    raise RuntimeError("no rule for this")


def picky(completion, gold):
    return "correct" if completion.strip() == gold else "unparsed"


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=1, limit_seconds=LIMIT, memory_gib=2.0) as grader:
        yield grader


def test_a_tower_of_powers_costs_its_limit_and_one_worker(grader):
    grader.grade("\\boxed{x+1}", "1+x")
    before = grader.workers_started
    grade = grader.grade("\\boxed{9^{9^{9^{9^{9}}}}}", "5")
    assert grade.outcome == "timeout"
    assert grader.grade("\\boxed{1+x}", "x+1").is_correct
    assert grader.workers_started == before + 1


@pytest.mark.parametrize(
    "completion",
    [
        "9^9^9^9^9",
        "\\boxed{" + "{" * 10_000_000,
        "{" * 10_000_000,
        "\\boxed{" * 100_000,
        "\\boxed{" + "\\frac{1}{" * 2000 + "2" + "}" * 2000 + "}",
        "\\boxed{" + "(" * 3000 + ")" * 3000 + "}",
        "answer is " * 20_000,
        "$" * 100_001,
        "\\boxed{" + "9" * 3_000 + "}",
        "\x00\ud800\\boxed{\x00}",
    ],
    ids=lambda text: text[:12].encode("ascii", "replace").decode(),
)
def test_hostile_texts_get_an_outcome(grader, completion):
    grade = grader.grade(completion, "5")
    assert grade.outcome in ("wrong", "unparsed", "timeout")


@pytest.mark.parametrize(
    "code",
    [
        "__import__('pathlib').Path('{path}').touch()",
        "().__class__.__base__.__subclasses__()",
        "\\text{{__import__('os').system('touch {path}')}}",
        "open('{path}','w')",
    ],
)
def test_nothing_is_run_as_code(grader, code, tmp_path):
    path = tmp_path / "ran"
    grader.grade("\\boxed{" + code.replace("{path}", str(path)) + "}", "x+1")
    assert not path.exists()


def test_a_memory_hog_ends_its_worker_alone(grader):
    grade = grader.grade("anything", "5", f"{HERE}:hog")
    assert (grade.outcome, grade.reason) == ("unparsed", "over 2 GiB")
    assert grader.grade("\\boxed{x+1}", "1+x").is_correct


def test_a_worker_that_dies_is_replaced_and_its_question_answered(grader):
    grades = grader.grade_many([("anything", "5", f"{HERE}:dier")] * 3)
    assert {(grade.outcome, grade.reason) for grade in grades} == {("unparsed", "worker died")}
    assert grader.grade("a", "a", f"{HERE}:picky").is_correct


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    told = tmp_path / "pid"

    def interrupted():
        with Grader(workers=1) as grader:
            grader.submit(str(told), "5", f"{HERE}:teller")
            while not told.is_file() or not told.read_text():
                time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_a_script_without_a_main_guard_may_grade(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom leadspan.grading import Grader\n"
        "with Grader(workers=1) as g: print(g.grade('a', 'a', 'math', '(a)').outcome)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["once", "correct"]


def test_own_functions(grader):
    assert grader.grade("a", "a", f"{HERE}:picky").outcome == "correct"
    assert grader.grade("a", ["b", "a"], f"{HERE}:picky").outcome == "correct"
    assert grader.grade("a", "b", f"{HERE}:picky").outcome == "unparsed"
    with pytest.raises(ConfigError, match="RuntimeError: no rule for this"):
        grader.grade("a", "b", f"{HERE}:broken")
    with pytest.raises(ConfigError, match="cannot be imported"):
        grader.check_gold("5", "no_such_module:grade").result()


def test_a_sleeping_function_is_ended_by_the_clock():
    with Grader(workers=1, limit_seconds=0.02) as grader:
        grade = grader.grade("a", "b", f"{HERE}:sleeper")
    assert (grade.outcome, grade.reason) == ("timeout", "waited 30 x 0.02 s")


def test_the_limit_is_cpu_time(grader):
    grade = grader.grade("a", "b", f"{HERE}:spinner")
    assert (grade.outcome, grade.reason) == ("timeout", "over 0.3 s")
    assert grader.grade("a", "b", f"{HERE}:napper").is_correct


def test_a_users_pattern_runs_under_the_limit(grader):
    grade = grader.grade("a" * 40 + "b", "5", "math", "(a+)+$")
    assert (grade.outcome, grade.reason) == ("timeout", "over 0.3 s")
    assert grader.grade("x=4 then x=5", "5", "numeric", r"x=(\d)").is_correct
    assert grader.grade("nothing", "5", "math", r"x=(\d)").outcome == "unparsed"
    with pytest.raises(ConfigError, match="no regular expression"):
        grader.grade("a", "5", "math", "(")


def test_exact_rows_start_no_worker():
    with Grader() as grader:
        grades = grader.grade_many([("o 43", "o 43", "exact")] * 600)
        assert all(grade.is_correct for grade in grades)
        assert grader.workers_started == 0


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="must be one of math"):
        check_kind("maths")


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("\\boxed{(3+5)*2}", "correct"),
        ("<answer>3 + 5 + 2 + 6</answer>", "wrong"),
        ("\\boxed{(3+5)\\times 2 = 16}", "correct"),
        ("\\boxed{3+5}", "wrong"),
        ("\\boxed{2/(3-3)}", "wrong"),
        ("\\boxed{__import__('os')}", "unparsed"),
        ("no idea", "unparsed"),
        ("\\boxed{" + "(" * 150 + "}", "unparsed"),
        ("\\boxed{$(3+5) \\times 2$}", "correct"),
        ("\\boxed{2(3+5)}", "unparsed"),
        ("\\boxed{16 + 0 * 2 3 5}", "unparsed"),
    ],
)
def test_countdown(completion, outcome):
    assert countdown.grade(completion, '{"target": 16, "numbers": [2, 3, 5]}').outcome == outcome
