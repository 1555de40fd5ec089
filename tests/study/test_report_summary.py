from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from leadspan.statistics import mean_interval
from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.charts import build_charts
from leadspan.study.report.draw import draw_figures
from leadspan.study.report.inline import draw_inline
from leadspan.study.report.summary import (
    PAPER_RETENTION,
    build_settings,
    compute_frontier,
    estimate_mean,
    estimate_ratio,
    model_of,
    recommend,
    say_estimate,
    say_percent_range,
    say_value,
    summarise,
)
from leadspan.study.report.tables import chart_table, models_table
from leadspan.study.report.text import headline
from leadspan.study.results import Row, Run, read_results

from .made_up_sweep import add_point, build_demo_sweep, write_json, write_sweep_file


def build_run(accuracy: float, seed: int = 0, **cells: object) -> Run:
    row = Row("run", "train", "done", seed=seed, accuracy=accuracy, **cells)  # type: ignore[arg-type]
    return Run(row, Path("run"))


def test_the_demo_summary(tmp_path: Path) -> None:
    summary = summarise(read_results(build_demo_sweep(tmp_path)))
    assert list(summary.curve.lsp) == [0.2, 0.3, 0.4, 0.5, 0.75, 1.0]
    assert set(summary.curve.sections) == {"cot+answer"}
    assert list(summary.curve.num_seeds) == [3] * 6
    assert list(summary.halves.keep) == ["lead", "middle", "tail"]
    assert len(summary.sections) == 6
    assert [set(pair.sections) for pair in summary.pairs] == [{"cot+answer"}, {"prompt+cot+answer"}]
    assert [list(pair.lsp) for pair in summary.pairs] == [[0.5, 1.0]] * 2
    assert summary.pairs[0].index[1] == summary.reference.Index
    assert summary.recommended is not None
    assert summary.recommended.lsp == 0.4
    assert len(summary.failed) == 1


def test_values_are_said_in_few_characters() -> None:
    assert say_value("kd_ratio", "1.0") == "kd_ratio=1.0"
    assert say_value("path", f"/data/{'x' * 50}/b").endswith("xx/b")
    assert len(say_value("path", "y" * 500)) < 50
    assert say_value("benchmarks", str([{"path": "p" * 40}])) == "other benchmarks"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.9, 1.12, "90 to 112 %"), (0.017, 0.19, "1.7 to 19 %"), (0.44, math.inf, "at least 44 %")],
)
def test_an_interval_in_percent(low: float, high: float, said: str) -> None:
    assert say_percent_range(low, high) == said


def test_a_curve_is_compared_with_the_student_it_began_from(tmp_path: Path) -> None:
    """Several untrained students stand in the table by name; the first is the curve's own."""
    write_sweep_file(tmp_path)
    other = {"path": "models/Other-1B", "revision": "step9"}
    for name, kind, accuracy in (
        ("base", "base", 0.2),
        ("base_Other-1B@step9", "base", 0.9),
        ("lsp-0.5", "train", 0.5),
        ("lsp-1.0", "train", 0.7),
    ):
        point = add_point(
            tmp_path, name, kind, accuracy=accuracy, lsp=0.5 if "0.5" in name else 1.0
        )
        config = yaml.safe_load((point / "run.yaml").read_text())
        if name != "base":
            config["student"] = other
        (point / "run.yaml").write_text(yaml.safe_dump(config))
    summary = summarise(read_results(tmp_path))
    assert [run.row.run for run in summary.models("base")] == ["base_Other-1B@step9", "base"]
    assert "did not beat the untrained student (0." in headline(summary)
    assert list(models_table(summary).cells.model) == [
        "untrained student models/Other-1B@step9",
        "untrained student runs/demo/world/student",
    ]


def test_a_commit_is_shown_in_short_and_tells_no_more_than_its_path(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    commits = {"me/a": "a" * 40, "me/b": "b" * 40}
    for path, commit in commits.items():
        point = add_point(tmp_path, path.replace("/", "."), lsp=1.0)
        config = yaml.safe_load((point / "run.yaml").read_text())
        config["student"] = {"path": path, "revision": commit}
        (point / "run.yaml").write_text(yaml.safe_dump(config))
    runs = read_results(tmp_path).runs
    assert [model_of(run, "student") for run in runs] == ["me/a@aaaaaaaa", "me/b@bbbbbbbb"]
    extra = build_settings(runs).extra
    assert [dict(pairs) for pairs in extra] == [{"student.path": path} for path in commits]


def test_means_retention_and_ratios_by_hand(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    for seed, (short, long) in enumerate([(0.40, 0.80), (0.60, 0.90)]):
        for lsp, accuracy in ((0.5, short), (1.0, long)):
            point = add_point(
                tmp_path,
                f"lsp-{lsp}_seed-{seed}",
                lsp=lsp,
                seed=seed,
                manifest={"train_seconds": 10.0 * lsp + seed, "train_flops": None},
            )
            text = f'{{"accuracy": {accuracy}, "accuracy_low": null, "accuracy_high": null}}'
            (point / "evaluation" / "evaluation.json").write_text(text)
            (point / "evaluation" / "samples.jsonl").unlink()
    half, full = summarise(read_results(tmp_path)).curve.itertuples()
    assert half.accuracy == pytest.approx(0.5)
    assert math.isnan(half.accuracy_low)
    assert half.retention == pytest.approx(0.5 / 0.85)
    assert half.train_seconds_ratio == pytest.approx(5.5 / 10.5)
    assert math.isnan(half.train_flops_ratio)
    assert (full.retention, full.retention_low, full.retention_high) == (1, 1, 1)


def test_without_full_sequences_there_is_no_retention(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "a", lsp=0.5)
    add_point(tmp_path, "b", lsp=0.3)
    add_point(tmp_path, "c", lsp=1.0, error="no")
    summary = summarise(read_results(tmp_path))
    assert list(summary.curve.lsp) == [0.3, 0.5]
    assert summary.curve.retention.isna().all()
    assert summary.reference is None
    assert summary.recommended is None


def test_other_keys_make_other_groups(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    for kd_ratio in (0.5, 0.0):
        for lsp in (0.5, 1.0):
            add_point(tmp_path, f"{kd_ratio}-{lsp}", lsp=lsp, kd_ratio=kd_ratio)
    summary = summarise(read_results(tmp_path))
    assert len(summary.settings) == 4
    assert set(summary.settings.extra) == {
        (("loss.kd_ratio", "0.5"),),
        (("loss.kd_ratio", "0.0"),),
    }
    assert summary.settings.retention.notna().all()
    assert summary.sections.empty
    assert summary.pairs == [], "a curve alone is no pair"


def test_other_ways_to_cut_are_measured_against_uncut_runs(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_point(tmp_path, "full", lsp=1.0, accuracy=0.9)
    add_point(tmp_path, "half", lsp=0.5, accuracy=0.8)
    ended = add_point(tmp_path, "end-of-cot", lsp=1.0, accuracy=0.3)
    config = yaml.safe_load((ended / "run.yaml").read_text())
    config["truncation"]["policy"] = "end_of_cot"
    (ended / "run.yaml").write_text(yaml.safe_dump(config))
    summary = summarise(read_results(tmp_path))
    (other,) = summary.others.itertuples()
    assert other.extra == (("truncation.policy", "end_of_cot"),)
    assert not other.is_uncut
    assert other.retention < 0.6
    assert list(summary.curve.lsp) == [0.5, 1.0]


def test_predictions_come_from_the_plan_or_from_the_flops(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    for lsp, seconds in ((0.5, 6.0), (1.0, 10.0)):
        costs = {"train_seconds": seconds, "train_flops": 100 * lsp, "peak_memory_gib": 3 + lsp}
        add_point(tmp_path, f"{lsp}", lsp=lsp, manifest=costs)
    summary = summarise(read_results(tmp_path))
    (only,) = summary.predictions.itertuples(index=False)
    assert tuple(only) == (0.5, "train_seconds", 0.5, pytest.approx(0.6))
    assert "predicted from the FLOPs alone" in build_charts(summary)["predicted"].caption
    rows = [
        {"lsp": 0.5, "seconds_ratio": 0.55, "memory_ratio": 0.9, "flops_ratio": None},
        {"lsp": 1.0, "seconds_ratio": 1.0, "memory_ratio": 1.0, "flops_ratio": 1.0},
    ]
    write_json(tmp_path / "analysis.json", {"plan": {"rows": rows, "seconds_from": "2 runs"}})
    summary = summarise(read_results(tmp_path))
    assert "seconds from 2 runs." in build_charts(summary)["predicted"].caption
    assert [tuple(row) for row in summary.predictions.itertuples(index=False)] == [
        (0.5, "train_seconds", 0.55, pytest.approx(0.6)),
        (0.5, "peak_memory_gib", 0.9, pytest.approx(3.5 / 4)),
    ]


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    summary = summarise(read_results(tmp_path))
    assert summary.settings.empty
    assert summary.curve.empty
    assert summary.frontier.empty
    assert summary.recommended is None


@pytest.mark.parametrize(
    ("retentions", "expected"),
    [
        ({0.2: 0.5, 0.4: 0.95, 0.5: 0.97, 1.0: 1.0}, 0.4),
        ({0.2: 0.95, 0.4: 0.6, 0.5: 0.97, 1.0: 1.0}, 0.5),
        ({0.5: PAPER_RETENTION, 1.0: 1.0}, 0.5),
        ({0.5: PAPER_RETENTION - 0.001, 1.0: 1.0}, 1.0),
        ({0.5: None, 0.75: None}, None),
        ({}, None),
    ],
    ids=["plain", "a lucky small cut", "at the line", "under the line", "no reference", "empty"],
)
def test_recommended(retentions: dict[float, float | None], expected: float | None) -> None:
    chosen = recommend(
        pd.DataFrame({"lsp": retentions.keys(), "retention": retentions.values()}, dtype=float)
    )
    assert (chosen.lsp if chosen else None) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    settings = pd.DataFrame(points, columns=["train_flops", "accuracy"])
    kept = set(compute_frontier(settings, "train_flops").itertuples(index=False, name=None))

    def is_beaten(cost: int, accuracy: int) -> bool:
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    assert kept == {(c, a) for c, a in points if not is_beaten(c, a)}


def graded(scores_P: list[float], seed: int = 0) -> Run:
    """A run with grades; problems come in the given order."""
    row = Row("run", "train", "done", seed=seed, accuracy=float(np.mean(scores_P)))
    return Run(row, Path("run"), by_problem={f"b/{p:03}": s for p, s in enumerate(scores_P)})


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_no_hit_in_30_is_one_interval_whatever_the_seeds(num_seeds: int) -> None:
    estimate = estimate_mean([graded([0.0] * 30, seed) for seed in range(num_seeds)])
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(0.122, abs=1e-3)


def test_the_interval_of_one_seed_is_that_of_the_evaluation() -> None:
    scores = [1.0] * 7 + [0.0] * 13
    estimate, expected = estimate_mean([graded(scores)]), mean_interval([np.array(scores)])
    assert estimate == expected


def test_without_grades_of_problems_there_is_no_interval() -> None:
    mean = estimate_mean([build_run(0.6), build_run(0.8, 1)])
    ratio = estimate_ratio([build_run(0.6)], [build_run(0.8)])
    assert (mean.value, ratio.value) == (pytest.approx(0.7), pytest.approx(0.75))
    assert all(math.isnan(end) for found in (mean, ratio) for end in (found.low, found.high))
    assert math.isnan(estimate_mean([]).value)


def test_ratio_pairs_problems_and_seeds_by_name() -> None:
    """Seeds rise and fall together: in whatever order they come, the ratio is known well."""
    shares = {0: 0.5, 1: 0.6, 2: 0.7}
    full = [
        graded([1.0] * round(100 * share) + [0.0] * round(100 - 100 * share), seed)
        for seed, share in shares.items()
    ]
    half = [
        graded([0.5 * score for score in run.by_problem.values()], run.row.seed or 0)
        for run in full
    ]
    paired = estimate_ratio(half[::-1], full)
    apart = estimate_ratio(half, full[:2])
    assert paired.value == pytest.approx(0.5)
    assert paired.low > 0.45
    assert apart.low < 0.3


def test_ratio_to_nothing_is_unknown() -> None:
    assert math.isnan(estimate_ratio([graded([1.0, 0.0])], [graded([0.0, 0.0])]).value)


def test_forced_answers_are_not_in_the_problems_scores(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    samples = add_point(tmp_path, "a", lsp=1.0) / "evaluation" / "samples.jsonl"
    first = json.loads(samples.read_text().splitlines()[0])
    forced = {
        **first,
        "forced": True,
        "outcome": "wrong" if first["outcome"] == "correct" else "correct",
    }
    (before,) = read_results(tmp_path).runs
    with samples.open("a") as file:
        file.write(json.dumps(forced) + "\n")
    (after,) = read_results(tmp_path).runs
    assert after.by_problem == before.by_problem


def test_a_ratio_without_an_upper_end_is_said_and_drawn(tmp_path: Path) -> None:
    assert say_estimate(3.0, 0.44, math.inf) == "3.00 [0.44, ∞]"
    point = {"x": 0.5, "y": 3.0, "low": 0.44, "high": math.inf, "hover": ""}
    series = Series("retention", pd.DataFrame([point]))
    chart = Chart("retention", "tradeoff", "", "", "lsp", "share", [series])
    assert chart_table(chart).cells.values.tolist() == [["retention", "0.5", "3", "[0.44, ∞]"]]
    assert not {"inf", "nan"} & set(re.findall(r"[a-z]+", draw_inline(chart)))
    draw_figures({"retention": chart}, tmp_path)
