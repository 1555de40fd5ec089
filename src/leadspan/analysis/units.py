"""Which kind of quantity a question asks for, and which kind a mention names.

Enough to see that "2 miles" is no answer to "how many hours", nothing more. Pure, English only.
"""

from __future__ import annotations

import re

UNITS: dict[str, str] = {
    "time": r"seconds?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|decades?",
    "distance": r"miles?|meters?|metres?|kilomet(?:er|re)s?|km|centimet(?:er|re)s?|cm|feet|foot|ft|"
    r"inch(?:es)?|yards?|blocks?",
    "money": r"dollars?|cents?|euros?|pounds sterling|bucks?",
    "weight": r"pounds?|lbs?|ounces?|oz|kilograms?|kgs?|grams?|tons?|tonnes?",
    "share": r"percent(?:age)?(?: points?)?|\\?%",
    "speed": r"mph|km/h|miles per hour|miles an hour|meters per second",
}
_AFTER = {kind: re.compile(rf"[\s-]?(?:{names})(?![\w])", re.I) for kind, names in UNITS.items()}
_MONEY_BEFORE = re.compile(r"[$€£]\s*$")
_ASKED: tuple[tuple[str, str], ...] = (
    ("share", r"what (?:percent|percentage|fraction)|how many percent|as a percentage|% of"),
    (
        "money",
        r"how much (?:money|did .{1,60}\b(?:pay|spend|cost|earn|make|save|owe)|does .{1,60}\b(?:pay|"
        r"spend|cost|earn|make|save|owe)|will .{1,60}\b(?:pay|spend|cost|earn|make|save|owe)|profit|"
        r"change)|how many (?:more )?dollars|in (?:dollars|cents)|what .{0,20}\b(?:cost|price|total "
        r"cost|profit)",
    ),
    ("speed", r"how fast|what speed|miles per hour\)"),
    (
        "time",
        r"how many (?:more )?(?:seconds|minutes|hours|days|weeks|months|years)|how old|how long (?:did|"
        r"does|will|would) it take|in (?:hours|minutes|days|years)\b|how much (?:longer|time)",
    ),
    ("distance", r"how far|how many (?:more )?(?:miles|meters|feet|inches|km|kilometers)|how tall"),
    ("weight", r"how (?:heavy|many (?:more )?(?:pounds|ounces|grams|kilograms|tons))|weigh"),
)
_ASKS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _ASKED)


def kind_asked(question: str) -> str | None:
    """The kind of quantity that a question asks for; None where it does not say."""
    return next((kind for kind, pattern in _ASKS if pattern.search(question)), None)


def kind_named(left: str, right: str) -> str | None:
    """The kind of quantity that a number with this text on either side is; None for a bare one."""
    if _MONEY_BEFORE.search(left):
        return "money"
    order = ("speed", *(kind for kind in UNITS if kind != "speed"))
    return next((kind for kind in order if _AFTER[kind].match(right)), None)
