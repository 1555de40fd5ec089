"""The rows of the embedded world: right, without a leaked gold, cut where they say they are."""

from __future__ import annotations

import re
from statistics import median

import numpy as np
import pytest

from leadspan.world.build import WorldConfig, trace_rows
from leadspan.world.problems import CODES, Problem, draw_gap, draw_problems, solve

SEEDS = (1, 2, 3)


def rows_of(seed: int, late: bool) -> list[dict]:
    return list(trace_rows(WorldConfig(num_traces=400), seed, late))


def worked_out(prompt: str) -> tuple[int, list[int]]:
    """Answer and running values of a problem's text, by counting rather than by the generator."""
    digits = [int(digit) for digit in re.findall(r"[a-j](\d)", prompt)]
    running = [sum(digits[: end + 1]) % 10 for end in range(len(digits))]
    return running[-1], running


def test_a_trace_reads_as_documented() -> None:
    solution = solve(Problem(start=3, digits=(9, 8, 2, 5)))
    assert solution.cot == (
        "d9e8f2g5.d9.e8+9=7.f2+7=9.g5+9=4.o 50."
        "wait d9 ok,e8 ok,f2 ok,g5 ok.check d9 ok,e8 ok,f2 ok,g5 ok."
    )
    assert solution.answer == "o 50"
    assert solution.cot[solution.derivation_start : solution.derivation_end] == (
        "d9.e8+9=7.f2+7=9.g5+9=4.o 50."
    )


def test_the_late_variant_has_the_same_answer_and_ends_with_its_derivation() -> None:
    problem = Problem(start=9, digits=(9, 8, 2))
    early, late = solve(problem), solve(problem, late=True)
    assert early.answer == late.answer
    assert late.cot.endswith("j9.a8+9=7.b2+7=9.o 85.")
    assert late.derivation_end == len(late.cot)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_right_and_its_gold_stands_nowhere_it_could_be_read_off(
    seed: int, late: bool
) -> None:
    for row in rows_of(seed, late):
        answer, running = worked_out(row["prompt"])
        assert row["gold"] == CODES[answer]
        assert row["answer"] == f"o {row['gold']}"
        assert [int(v) for v in re.findall(r"=(\d+)\.", row["cot"])] == running[1:]
        assert row["gold"] not in row["prompt"]
        assert row["gold"] not in {str(value) for value in running}
        derivation_start = row["meta"]["derivation_start_char"]
        derivation_end = row["meta"]["derivation_end_char"]
        assert row["cot"][derivation_end - 5 : derivation_end] == f"o {row['gold']}."
        without = row["cot"][: derivation_end - 3] + row["cot"][derivation_end:]
        assert not re.search(r"\d\d", without), "a second number with two digits"
        assert "=" not in row["cot"][:derivation_start]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_derivation_ends_where_real_traces_end_theirs(seed: int) -> None:
    shares = [
        row["meta"]["derivation_end_token"] / row["meta"]["num_tokens"]
        for row in rows_of(seed, late=False)
    ]
    assert 0.40 <= median(shares) <= 0.48
    assert max(shares) < 0.5, "a lead of one half must hold every derivation"
    late = [
        row["meta"]["derivation_end_token"] / row["meta"]["num_tokens"]
        for row in rows_of(seed, late=True)
    ]
    assert min(late) > 0.85


def test_drawing_is_decided_by_the_seed() -> None:
    draw = [draw_problems(np.random.default_rng(seed), 50, (3, 5)) for seed in (7, 7, 8)]
    assert draw[0] == draw[1] != draw[2]
    assert {problem.num_additions for problem in draw[0]} == {3, 5}


def test_test_problems_hardly_meet_training_problems() -> None:
    from leadspan.world.build import problem_rows

    config = WorldConfig()
    trained = {row["prompt"] for row in trace_rows(config, 1, False)}
    tested = [row["problem"] for size in config.test_sizes for row in problem_rows(config, 1, size)]
    assert len(tested) == 600
    # Of the 10**6 problems with n = 4 the traces hold about 170.
    assert sum(text in trained for text in tested) <= 2


def test_a_gap_makes_exactly_its_own_additions_unknown() -> None:
    gap = draw_gap(np.random.default_rng(0), 4)
    assert gap.sum(axis=1).tolist() == [4] * 10
    seen: dict[tuple[int, int], set[int]] = {}
    rng = np.random.default_rng(1)
    for problem in draw_problems(rng, 3000, (3,)):
        cot = solve(problem, gap=gap, rng=rng).cot
        for digit, value, result in re.findall(r"(\d)\+(\d)=(\d)\.", cot):
            seen.setdefault((int(value), int(digit)), set()).add(int(result))
    assert len(seen) == 100
    for (value, digit), results in seen.items():
        if gap[value, digit]:
            assert len(results) > 5
        else:
            assert results == {(value + digit) % 10}
