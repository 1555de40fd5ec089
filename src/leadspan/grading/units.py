"""Read a unit of measure as dimensions and a factor: `cm^2`, `square meters`, `km/h`.

Words that are no unit of measure (apples, dollars) are unknown, not wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

Powers = tuple[tuple[str, int], ...]
Unit = tuple[frozenset[tuple[str, int]], Fraction]

SIZES: dict[str, dict[str, str]] = {
    "length": {
        "m meter meters metre metres": "1", "cm centimeter centimeters": "0.01",
        "mm millimeter millimeters": "0.001",
        "km kilometer kilometers": "1000", "nm nanometer nanometers": "1e-9", "in inch inches": "0.0254",
        "ft foot feet": "0.3048", "yd yard yards": "0.9144", "mi mile miles": "1609.344",
    },
    "mass": {
        "kg kilogram kilograms": "1", "g gram grams": "0.001", "mg milligram milligrams": "1e-6",
        "lb lbs pound pounds": "0.45359237", "oz ounce ounces": "0.028349523125",
    },
    "time": {
        "s sec secs second seconds": "1", "ms millisecond milliseconds": "0.001",
        "min mins minute minutes": "60",
        "h hr hrs hour hours": "3600", "day days": "86400", "week weeks": "604800",
    },
    "temperature": {"k kelvin kelvins": "1"},
    "amount": {"mol mole moles": "1"},
    "charge": {"coulomb coulombs": "1"},
    "time -1": {"hz hertz": "1", "khz": "1000", "mhz": "1e6"},
    "length 3": {"l liter liters litre litres": "0.001", "ml milliliter milliliters": "1e-6"},
    "mass length time -2": {"n newton newtons": "1"},
    "mass length 2 time -2": {
        "j joule joules": "1", "kj kilojoule kilojoules": "1000", "ev": "1.602176634e-19",
    },
    "mass length 2 time -3": {"w watt watts": "1", "kw kilowatt kilowatts": "1000"},
    "mass length -1 time -2": {"pa pascal pascals": "1", "kpa": "1000"},
}  # fmt: skip
"""Dimensions with their powers -> names of units and their size in base units."""


def _table() -> dict[str, tuple[Powers, Fraction]]:
    table = {}
    for dimensions, sizes in SIZES.items():
        powers = tuple(
            (name, int(power or "1"))
            for name, power in re.findall(r"([a-z]+)(?: (-?\d))?", dimensions)
        )
        for names, size in sizes.items():
            table.update(dict.fromkeys(names.split(), (powers, Fraction(size))))
    return table


BASE = _table()
PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
PART = re.compile(r"([A-Za-z]+)\.?(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?|(/|\*)")


def read_unit(text: str) -> Unit | None:
    """Dimensions with their powers, and the factor to base units; None for other words."""
    powers: Counter[str] = Counter()
    factor, sign, prefix, place = Fraction(1), 1, 1, 0
    text = re.sub(r"\\text\b|\\cdot\b|\\times\b|[{}](?!\d)|(?<=[A-Za-z])\}", " ", text).strip()
    while place < len(text):
        match = PART.match(text, place)
        if match is None:
            return None
        place = match.end()
        while place < len(text) and text[place] in " -}{":
            place += 1
        word = (match[1] or "").lower()
        if match[3] == "/" or word == "per":
            sign = -1
        elif word in PREFIXES:
            prefix = PREFIXES[word]
        elif word in BASE:
            dimensions, size = BASE[word]
            power = sign * prefix * int(match[2] or "1")
            for dimension, exponent in dimensions:
                powers[dimension] += power * exponent
            factor *= size**power
            prefix = 1
        elif match[3] != "*":
            return None
    left = frozenset((name, power) for name, power in powers.items() if power)
    return (left, factor) if powers else None
