"""Names of points on a chart."""

from __future__ import annotations

from itertools import combinations

import pytest

from leadspan.study.report.labels import (
    CHARACTER_WIDTH,
    LABEL_HEIGHT,
    Label,
    Range,
    place_labels,
)

X, Y = (0.0, 10.0), (0.0, 0.2)
LONG = "horizon 0.25, divergence=reverse_kl"


def is_over(label: Label, x: float, y: float, length: float = 0.0) -> bool:
    """True where text of this length at (x, y), or a point, lies on the label."""
    end = label.text_x + CHARACTER_WIDTH * (X[1] - X[0]) * len(label.text)
    is_beside = x < end and label.text_x < x + length if length else label.text_x < x < end
    return is_beside and abs(y - label.text_y) < 0.9 * LABEL_HEIGHT * (Y[1] - Y[0])


@pytest.mark.parametrize(
    "places",
    [
        [(5.0, 0.0)] * 6,
        [(5.0, 0.2)] * 6,
        [(1.0 + 0.01 * step, 0.1) for step in range(8)],
        [(1.0 + step, 0.01 * step) for step in range(9)],
        [(9.9, 0.1), (9.8, 0.1)],
    ],
    ids=["at the bottom", "at the top", "in a row", "rising", "at the right end"],
)
def test_names_lie_within_the_axes_and_on_nothing_else(places: list[Range]) -> None:
    points = [
        (x, y, LONG if place % 2 else "lsp 0.5", place) for place, (x, y) in enumerate(places)
    ]
    labels = place_labels(points, X, Y)
    assert sorted((each.x, each.y, each.text, each.color) for each in labels) == sorted(points)
    for label in labels:
        assert Y[0] < label.text_y < Y[1]
        assert X[0] <= label.text_x <= X[1] - CHARACTER_WIDTH * (X[1] - X[0]) * len(label.text)
        assert not any(is_over(label, x, y) for x, y in places)
    for one, other in combinations(labels, 2):
        length = CHARACTER_WIDTH * (X[1] - X[0]) * len(other.text)
        assert not is_over(one, other.text_x, other.text_y, length)


def test_a_name_alone_stands_beside_its_point() -> None:
    (label,) = place_labels([(2.0, 0.1, "lsp 0.5", 0)], X, Y)
    assert (label.x, label.y, label.text_y) == (2.0, 0.1, 0.1)
    assert label.text_x > 2.0


def test_more_names_than_there_is_room_for_stay_within_the_axes() -> None:
    labels = place_labels([(5.0, 0.1, LONG, 0)] * 40, X, Y)
    assert len(labels) == 40
    assert all(Y[0] < label.text_y < Y[1] for label in labels)
