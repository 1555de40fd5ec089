"""Where the names of points stand on a chart: beside them, on no other name and on no other point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LABEL_HEIGHT, CHARACTER_WIDTH, LABEL_GAP = 0.06, 0.0155, 0.03
"""Of a name, of one of its characters, and how far it stands from its point, as shares of the axes."""
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a point, with a line to it."""

    x: float
    y: float
    text_x: float
    text_y: float
    text: str
    color: int


def place_labels(
    points: Sequence[tuple[float, float, str, int]], x_range: Range, y_range: Range
) -> list[Label]:
    """A name at the right of each point, as near to its height as there is room within the axes.

    Args:
        points: x, y, name and color of each.
        x_range: First and last value of the axis.
        y_range: Likewise.
    """
    width, height = x_range[1] - x_range[0], LABEL_HEIGHT * (y_range[1] - y_range[0])
    placed: list[Label] = []
    for x, y, text, color in sorted(points, key=lambda point: (-point[1], point[0])):
        length = CHARACTER_WIDTH * width * len(text)
        text_x = max(x_range[0], min(x + LABEL_GAP * width, x_range[1] - length))
        in_the_way = [
            other.text_y
            for other in placed
            if other.text_x < text_x + length
            and text_x < other.text_x + CHARACTER_WIDTH * width * len(other.text)
        ]
        in_the_way += [at for beside, at, _, _ in points if text_x <= beside <= text_x + length]
        lowest, highest = y_range[0] + height / 2, y_range[1] - height / 2
        steps = range(2 * round(1 / LABEL_HEIGHT))
        free = (
            at
            for step in steps
            for at in (y - step * height / 2, y + step * height / 2)
            if lowest <= at <= highest
            and all(abs(at - other) > 0.99 * height for other in in_the_way)
        )
        text_y = next(free, min(max(y, lowest), highest))
        placed.append(Label(x, y, text_x, text_y, text, color))
    return placed
