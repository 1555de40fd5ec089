"""Traces written for the tests, with the place of their derivation marked by `|`."""

from __future__ import annotations

from leadspan.records import Message, Trace

DERIVATIONS: dict[str, tuple[str, str, str]] = {
    "plain product": (
        "A box holds 6 pens. How many pens are in 9 boxes?",
        "54",
        "I need the pens in all boxes. 9 times 6 is 54|. Wait, let me check: 6 * 9 = 54. Yes.",
    ),
    "intermediate value": (
        "Ann shares 72 sweets among 6 friends and gives 4 more to each. How many each in 2 rounds?",
        "12",
        "72 divided by 6 is 12. So 12 + 4 = 16 in the first. Then 16 - 4 = 12|. Let me verify that.",
    ),
    "operand before": (
        "What is 14 times 30, halved twice, minus 95?",
        "10",
        "14 times 30: 10 times 30 is 300 and 4 times 30 is 120, so 420. A quarter of it is 105. "
        "105 minus 95 is 10|. So the answer is 10.",
    ),
    "stands in the prompt": (
        "Mike reads 10 pages a day of a 200-page book due in 30 days. How many days early is he done?",
        "10",
        "He reads 10 pages a day. 200 divided by 10 is 20 days. So 30 - 20 = 10| days. Looks right.",
    ),
    "percent is another thing": (
        "A cut costs $100 with 30% off. How much does he pay?",
        "70",
        "He pays 100% - 30% = 70% of it. 0.7 times 100 is 70|. So $70.",
    ),
    "list label": (
        "He walks 8 miles at 4 miles an hour. How many hours?",
        "2",
        "1. He walks.\n2. He has 8 miles to go, and 8 / 4 is the time.\nSo that makes 2| hours. Hmm.",
    ),
    "coefficient": (
        "Twelve times a number is 36. Which number?",
        "3",
        "Let the number be n. Then 12n = 36, which I can write as 3n = 9. Dividing, n = 3|. Check.",
    ),
    "simplified": (
        "What share of 18 books are the 8 red ones?",
        r"\frac{4}{9}",
        "That is the red ones over all of them, so 8/18, which simplifies to 4/9|. Wait. 4/9.",
    ),
    "square root": (
        "A square has an area of 75. How long is a side, in simplest form?",
        r"5\sqrt{3}",
        "The side is s with s^2 = 75, so s = √75 = 5√3|. Hmm, 5√3 is about 8.66.",
    ),
    "negative": (
        "What is the average of -48, 21 and -3?",
        "-10",
        "They add up to -30. 30 divided by 3 is 10, so with the sign it is -10|. Let me check.",
    ),
    "another quantity": (
        "He walks to a shop 8 miles off at 4 miles an hour. How many hours does half the way and all "
        "of the way back take, less one?",
        "2",
        "Half the way is 4 miles, and so half of that is 2 miles. So 4 + 8 is 12 miles. 12 / 4 = 3. "
        "Less one, 3 - 1 = 2| hours. Hmm.",
    ),
    "solved for a multiple": (
        "Ten treeks weigh as much as 4 squigs less 2 treeks. How many treeks weigh one squig?",
        "3",
        "10T = 4S - 2T, so 12T = 4S, or S = 3|T. Which means 3 treeks weigh one squig.",
    ),
    "recalled": (
        "What is the capital of Australia?",
        "Canberra",
        "People often say Sydney. I remember that it is Canberra|. Yes, Canberra.",
    ),
}


def made_up_trace(name: str) -> tuple[Trace, int]:
    """A trace and the character where its derivation ends."""
    prompt, gold, marked = DERIVATIONS[name]
    cot = marked.replace("|", "")
    return Trace(name, (Message("user", prompt),), cot, f"It is {gold}.", (gold,)), marked.index(
        "|"
    )
