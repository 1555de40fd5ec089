"""On-policy runs in the report: beside off-policy ones, and along their rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadspan.study.report import headline, write_report
from leadspan.study.report.charts import build_charts
from leadspan.study.report.on_policy import families_of, step_means_of
from leadspan.study.report.summary import summarise
from leadspan.study.report.tables import build_tables
from leadspan.study.results import read_results

from .made_up_sweep import add_point, write_sweep_file

ROLLOUT = {"share": 1.0, "horizon": 1.0, "horizon_start": None, "schedule": "constant"}


def add_rolled(sweep: Path, name: str, flops: float, accuracy: float, **rollout: Any) -> Path:
    """An on-policy run of 10 steps; divergence in tenth d of step s is s * d."""
    divergence = rollout.pop("divergence", "forward_kl")
    point = add_point(sweep, name, accuracy=accuracy, kd_ratio=1.0, manifest={"train_flops": flops})
    config = yaml.safe_load((point / "run.yaml").read_text())
    config["loss"]["divergence"] = divergence
    config["rollout"] = {**ROLLOUT, **rollout}
    (point / "run.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {"kind": "train", "step": step, "kd_by_decile": [step * d * 1.0 for d in range(1, 11)]}
        for step in range(1, 11)
    ]
    lines.insert(5, {"kind": "validation", "step": 5})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (point / "metrics.jsonl").write_text(text)
    return point


def add_leads(sweep: Path, **accuracy: float) -> None:
    for lsp, found in accuracy.items():
        share = float(lsp.removeprefix("lsp_").replace("_", "."))
        flops = {"train_flops": 1e12 * share}
        add_point(sweep, lsp, lsp=share, accuracy=found, manifest=flops)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_sweep_file(tmp_path)
    add_leads(tmp_path, lsp_0_5=1.0, lsp_1_0=1.0)
    add_rolled(tmp_path, "a", 2e11, 1.0, horizon=0.25)
    add_rolled(tmp_path, "b", 4e11, 0.4, horizon=64)
    add_rolled(tmp_path, "c", 6e11, 0.9, horizon=0.5, horizon_start=0.1, schedule="linear")
    add_rolled(tmp_path, "d", 7e11, 0.8, horizon=0.25, divergence="reverse_kl")
    add_rolled(tmp_path, "e", 8e11, 0.8, horizon=0.25, share=0.5)
    return tmp_path


def test_rows_are_named_by_what_differs(sweep: Path) -> None:
    summary = summarise(read_results(sweep))
    assert set(summary.settings.point) == {
        "lsp 0.5",
        "lsp 1.0",
        "horizon 0.25",
        "horizon 64 tokens",
        "horizon 0.1 to 0.5 (linear)",
        "horizon 0.25, divergence=reverse_kl",
        "lsp 1.0, horizon 0.25, share 0.5 on-policy, kd_ratio=1.0",
    }
    assert list(summary.curve.lsp) == [0.5, 1.0], "rollouts alone are on no curve over lsp"
    assert not summary.settings[summary.settings.writes_all].is_uncut.any()


def test_the_cheaper_family_is_said_with_figures(sweep: Path) -> None:
    summary = summarise(read_results(sweep))
    said = "on-policy horizon 0.25 costs 40 % of the FLOPs of off-policy lsp 0.5"
    assert said in headline(summary)
    families = families_of(summary)
    assert families is not None
    assert list(families.frontier.point) == ["horizon 0.25"]
    assert set(families.off_policy.points.point) == {"lsp 0.5", "lsp 1.0"}


def test_one_family_alone_may_reach_enough(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_leads(tmp_path, lsp_0_5=1.0, lsp_1_0=1.0)
    add_rolled(tmp_path, "a", 1e11, 0.3, horizon=0.25)
    said = headline(summarise(read_results(tmp_path)))
    assert "only off-policy reaches it, cheapest with lsp 0.5" in said
    assert "the best on-policy point, horizon 0.25, has 0." in said


def test_a_sweep_of_rollouts_alone_is_not_about_cuts(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_rolled(tmp_path, "a", 1e11, 1.0, horizon=0.25)
    add_rolled(tmp_path, "b", 2e11, 1.0, horizon=0.5)
    said = headline(summarise(read_results(tmp_path)))
    assert "is reached most cheaply with horizon 0.25" in said
    assert "cut" not in said


def test_without_a_correct_answer_no_costs_are_compared(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_rolled(tmp_path, "a", 1e11, 0.0)
    said = headline(summarise(read_results(tmp_path)))
    assert "cannot be compared by cost: no point has a correct answer" in said


@pytest.mark.parametrize("damage", [[1.0, 2.0], ["high"] * 10, 3.0], ids=str)
def test_damaged_means_fail_their_own_run(damage: Any, sweep: Path) -> None:
    path = sweep / "points" / "a" / "metrics.jsonl"
    line = json.dumps({"kind": "train", "step": 11, "kd_by_decile": damage})
    path.write_text(path.read_text() + line + "\n")
    write_report(sweep)
    failed = [run for run in read_results(sweep).runs if not run.is_done]
    assert [run.row.run for run in failed] == ["a"]
    assert "metrics.jsonl: kd_by_decile must be 10 numbers" in str(failed[0].error)


def test_more_settings_than_colors_are_not_drawn_along_the_rollout(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    for place in range(8):
        add_rolled(tmp_path, f"{place}", 1e11, 1.0, horizon=0.1 + place / 10)
    summary = summarise(read_results(tmp_path))
    chart = build_charts(summary)["kd-by-decile"]
    assert len({series.color for series in chart.series}) == 6
    assert len(chart.series) == 12
    assert "The first 6 of 8 settings." in chart.caption
    assert len(build_tables(summary)["rollouts"].cells) == 8


def test_early_and_late_along_the_rollout(sweep: Path) -> None:
    """Steps 1 and 2 of 10 are early, 9 and 10 late."""
    summary = summarise(read_results(sweep))
    means = step_means_of(summary)[0]
    assert means.by_decile("kd", "early") == pytest.approx([1.5 * d for d in range(1, 11)])
    assert means.by_decile("kd", "late") == pytest.approx([9.5 * d for d in range(1, 11)])
    assert list(means.over_training("kd")["mean"]) == pytest.approx([5.5 * s for s in range(1, 11)])
    charts = build_charts(summary)
    assert {"kd-by-decile", "kd-over-training"} <= set(charts)
    assert "entropy-by-decile" not in charts, "no run logged it"
    assert "–" in build_tables(summary)["rollouts"].cells["entropy late"].iloc[0]


def test_the_report_shows_both_and_a_sweep_without_rollouts_neither(
    sweep: Path, tmp_path: Path
) -> None:
    page = write_report(sweep).read_text()
    markdown = (sweep / "report" / "report.md").read_text()
    for name in ("families", "kd-by-decile", "kd-over-training"):
        assert f'id="figure-{name}"' in page
        assert f"figures/{name}.png" in markdown
        assert (sweep / "report" / "figures" / f"{name}.png").is_file()
    plain = tmp_path / "plain"
    write_sweep_file(plain)
    add_leads(plain, lsp_0_5=1.0, lsp_1_0=1.0)
    summary = summarise(read_results(plain))
    assert {"families", "rollouts"}.isdisjoint(build_tables(summary))
    assert "families" not in build_charts(summary)
