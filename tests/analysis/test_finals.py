"""Which traces are truly wrong."""

from __future__ import annotations

import pytest

from leadspan.analysis.analyze import find_wrong
from leadspan.grading import Grader
from leadspan.records import Message, Trace


@pytest.mark.parametrize(
    ("answer", "golds", "is_wrong"),
    [
        (r"So it is \boxed{54}.", ("54",), False),
        (r"So it is \boxed{53}.", ("54",), True),
        (r"54 less 1 is \boxed{53}.", ("54",), True),
        (r"So it is \boxed{53}.", ("54", "53"), False),
        (r"So it is \boxed{54}.", ("6 times 9 is 54.\n#### 54",), False),
        ("I do not know.", ("54",), False),
        ("", ("54",), False),
        (r"So it is \boxed{53}.", (), False),
        ("Answer: Amazon River.", ("Amazon",), False),
        ("Answer: 3 kilograms of feathers.", ("feathers",), False),
        ("Before Everest was known it was K2. Answer: K2.", ("Everest",), True),
    ],
)
def test_wrong(answer: str, golds: tuple[str, ...], is_wrong: bool) -> None:
    trace = Trace("t", (Message("user", "what?"),), "I think.", answer, golds)
    with Grader(workers=1) as grader:
        assert find_wrong([trace], grader) == ({"t"} if is_wrong else set())


def test_an_open_think_block_has_no_final_answer() -> None:
    trace = Trace("t", (Message("user", "what?"),), "It is 53.", "", ("54",), closed=False)
    with Grader(workers=1) as grader:
        assert not find_wrong([trace], grader)
