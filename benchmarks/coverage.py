"""How often the printed 95 % intervals contain the truth, in simulated studies whose truth is known.

A study: problems whose chances of being solved come from a beta distribution, training seeds that each
shift every chance, one answer (or several) a problem and seed; a second student solves a fixed share
of what the first does. Each cell is a setting of (true accuracy, problems, seeds, seed effect). The
intervals are those of `leadspan.statistics`: evaluate and compare print the cells of one seed, the
report all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from leadspan.statistics import Floats, difference_interval, mean_interval, ratio_interval

ACCURACIES = (0.02, 0.1, 0.5, 0.9, 0.98)
PROBLEMS = (30, 500)
SEEDS = (1, 3, 10)
EFFECTS = {"none": 0.0, "small": 0.1, "moderate": 0.3}
"""Standard deviation of a seed's shift s: a chance c becomes c + s * c * (1 - c)."""
RETENTION = 0.8
CELL_NUMBERS = 2_000_000
"""Scores held at a time, by each process."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting and the shares of its studies whose interval contains the truth."""

    accuracy: float
    problems: int
    seeds: int
    effect: str
    mean: float
    difference: float
    retention: float
    """Among the studies whose first student solved anything; others have no retention."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the three intervals."""
        return self.mean, self.difference, self.retention


def simulate(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    accuracy: float,
    concentration: float,
    effect: float,
    samples: int,
) -> tuple[Floats, Floats]:
    """Scores [studies, S, P] of a student and of one that solves RETENTION of what it does."""
    studies, seeds, problems = shape
    parameters = accuracy * concentration, (1 - accuracy) * concentration
    chance = generator.beta(*parameters, (studies, 1, problems))

    def answers(chance: Floats) -> Floats:
        # Clipped on both sides alike, a shift has mean 0 and the true accuracy stays what it is.
        shift = np.clip(generator.normal(0, effect, (studies, seeds, 1)), -1, 1)
        shifted = chance + shift * chance * (1 - chance)
        if samples == 1:  # the same, several times faster
            return (generator.random(shifted.shape) < shifted).astype(float)
        return generator.binomial(samples, shifted) / samples

    return answers(chance), answers(RETENTION * chance)


def measure(
    seed: int,
    studies: int,
    concentration: float,
    samples: int,
    problems: int,
    seeds: int,
    effect: str,
    accuracy: float,
) -> Cell:
    """Coverage of one cell."""
    generator = np.random.default_rng(seed)
    held: dict[str, list[NDArray[np.bool_]]] = {"mean": [], "difference": [], "retention": []}
    truth = {"mean": accuracy, "difference": (RETENTION - 1) * accuracy, "retention": RETENTION}
    step = max(1, min(studies, CELL_NUMBERS // (problems * seeds)))
    # One seed: the interval is of that student, so there is no effect to add.
    size = EFFECTS[effect] if seeds > 1 else 0.0
    for start in range(0, studies, step):
        shape = min(step, studies - start), seeds, problems
        first, second = simulate(generator, shape, accuracy, concentration, size, samples)
        intervals = {
            "mean": mean_interval([first]),
            "difference": difference_interval([second], [first]),
            "retention": ratio_interval([second], [first]),
        }
        has_ratio = first.any(axis=(1, 2))
        for name, interval in intervals.items():
            if interval is None:  # no student of these solved anything
                continue
            low, high = np.asarray(interval.low), np.asarray(interval.high)
            inside = (low <= truth[name] + 1e-12) & (truth[name] <= high + 1e-12)
            held[name].append(inside[has_ratio] if name == "retention" else inside)
    shares = {name: float(np.concatenate(found).mean()) for name, found in held.items()}
    return Cell(accuracy, problems, seeds, effect, **shares)


def settings() -> Iterator[tuple[int, int, str, float]]:
    """Problems, seeds, effect, accuracy; one seed has no effect."""
    for problems in PROBLEMS:
        for seeds in SEEDS:
            for effect in EFFECTS if seeds > 1 else ("none",):
                for accuracy in ACCURACIES:
                    yield problems, seeds, effect, accuracy


def main() -> None:
    """Print the table, one line per (problems, seeds, effect), and the worst cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2_000, help="Simulated studies per cell.")
    parser.add_argument("--concentration", type=float, default=2.0, help="a + b of the beta.")
    parser.add_argument("--samples", type=int, default=1, help="Answers per problem and seed.")
    parser.add_argument("--quick", action="store_true", help="200 studies.")
    parser.add_argument("--json", action="store_true", help="Last line: all cells as JSON.")
    arguments = parser.parse_args()
    studies = 200 if arguments.quick else arguments.studies
    started = time.monotonic()
    jobs = [
        (seed, studies, arguments.concentration, arguments.samples, *setting)
        for seed, setting in enumerate(settings())
    ]
    print("coverage in %: accuracy / difference / retention at true accuracy")
    print(f"{'problems':>8} {'seeds':>5} {'effect':>8}  " + "".join(f"{a:^20}" for a in ACCURACIES))
    cells: list[Cell] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for cell in pool.map(measure, *zip(*jobs, strict=True)):
            if cell.accuracy == ACCURACIES[0]:
                sys.stdout.write(f"{cell.problems:8} {cell.seeds:5} {cell.effect:>8}  ")
            shares = "/".join(f"{100 * share:5.1f}" for share in cell.shares)
            sys.stdout.write(f"{shares:^20}" + "\n" * (cell.accuracy == ACCURACIES[-1]))
            sys.stdout.flush()
            cells.append(cell)
    every = [share for cell in cells for share in cell.shares]
    within = float(np.mean([0.93 <= share <= 0.97 for share in every]))
    print(f"lowest {min(every):.3f}, highest {max(every):.3f}, {within:.0%} within 0.93 and 0.97")
    print(f"{time.monotonic() - started:.0f} s")
    if arguments.json:
        figures = {"lowest": min(every), "highest": max(every), "within": within}
        print(json.dumps({**figures, "cells": [asdict(cell) for cell in cells]}))


if __name__ == "__main__":
    main()
