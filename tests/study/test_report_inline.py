"""Charts inside the page: everything of a series under its place in the legend, colors from the page."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leadspan.study import report
from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.charts import FAMILY_COLORS, build_charts
from leadspan.study.report.draw import LIGHT
from leadspan.study.report.inline import build_legend, draw_inline
from leadspan.study.report.on_policy import average_in_parts
from leadspan.study.report.summary import summarise
from leadspan.study.results import read_results

from .made_up_sweep import HOSTILE, add_point, build_demo_sweep, write_sweep_file
from .test_report_on_policy import add_rolled

STYLE = Path(report.__file__).parent / "templates" / "style.css"


def build_chart(**settings: Any) -> Chart:
    points = pd.DataFrame(
        {
            "x": [0.25, 0.75],
            "y": [0.5, 1.0],
            "low": math.nan,
            "high": math.nan,
            "hover": ["a", HOSTILE],
        }
    )
    series = [Series("first", points), Series("second", points.assign(y=0.2), 1, "bars")]
    return Chart("name", "table", "", "", "x", "y", series, [("level", 0.3)], **settings)


def test_every_entry_of_the_legend_has_its_part_of_the_drawing() -> None:
    chart = build_chart()
    drawn = draw_inline(chart)
    assert [entry.label for entry in build_legend(chart)] == ["first", "second", "level"]
    assert set(re.findall(r'class="entry" data-entry="(\d)"', drawn)) == {"0", "1", "2"}
    assert re.findall(r'class="hit" data-entry="(\d)"', drawn) == ["0", "0", "1", "1"]


def test_points_are_marked_where_the_axes_have_them() -> None:
    """Twice the distance from the x axis is twice the value; y runs downwards."""
    drawn = draw_inline(build_chart(y_limits=(0.0, 1.0)))
    places = [
        (float(x), float(y))
        for x, y in re.findall(r'class="hit"[^>]* cx="([\d.]+)" cy="([\d.]+)"', drawn)
    ]
    (_, at_half), (_, at_one), (_, at_fifth), _ = places
    zero = 2 * at_half - at_one
    assert at_one < at_half < zero
    assert (zero - at_fifth) / (zero - at_one) == pytest.approx(0.2, abs=0.002)


def test_the_drawing_reaches_nothing_outside_itself() -> None:
    drawn = draw_inline(build_chart())
    assert not re.search(r"#[0-9a-f]{6}\b(?!\w)", re.sub(r'"#[^"]*"|url\(#[^)]*\)', "", drawn))
    assert "<style" not in drawn
    assert HOSTILE not in drawn
    names = set(re.findall(r' id="([^"]+)"', drawn))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) <= names
    other = draw_inline(Chart("other", *(getattr(build_chart(), f) for f in FIELDS)))
    assert names.isdisjoint(re.findall(r' id="([^"]+)"', other))


FIELDS = ("table", "title", "caption", "x_label", "y_label", "series", "levels")


def test_the_page_has_the_files_colors_on_light_ground() -> None:
    css = STYLE.read_text(encoding="utf-8")
    first = dict(re.findall(r"--(c\d): (#\w+);", css.partition("}")[0]))
    assert [first[f"c{place}"] for place in range(6)] == [color.lower() for color in LIGHT]


def test_untrained_student_and_teacher_look_different(tmp_path: Path) -> None:
    chart = build_charts(summarise(read_results(build_demo_sweep(tmp_path))))["accuracy"]
    base, teacher = build_legend(chart)[-2:]
    assert (base.label, teacher.label) == ("untrained student", "teacher")
    assert base.dashes != teacher.dashes


def test_a_family_has_its_color_without_the_other(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    add_rolled(tmp_path, "a", 1e11, 1.0, horizon=0.25)
    alone = build_charts(summarise(read_results(tmp_path)))["families"].series[0]
    add_point(tmp_path, "b", lsp=1.0, accuracy=0.5)
    both = build_charts(summarise(read_results(tmp_path)))["families"].series
    assert (alone.label, alone.color) == ("on-policy", FAMILY_COLORS["on-policy"])
    assert [(one.label, one.color) for one in both[:2]] == [("off-policy", 0), ("on-policy", 1)]


def test_losses_are_means_over_parts_and_runs() -> None:
    steps, values = pd.Series(range(1, 101)).to_numpy(), pd.Series(range(100)).to_numpy()
    found = average_in_parts([steps, steps], [values, values + 10.0])
    assert list(found.step) == [5 * part + 3 for part in range(20)]
    assert list(found["mean"]) == [5 * part + 2 + 5 for part in range(20)]
    short = average_in_parts([steps, steps[:3]], [values, values[:3]])
    assert len(short) == 3, "as many parts as the shortest run has steps"
