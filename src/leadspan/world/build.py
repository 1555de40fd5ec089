"""Build an embedded world: traces, test problems, a base student and a teacher, in ordinary formats.

The student has learnt the whole format but only part of the addition table; the teacher knows all of
it. From the files written here every later step is what a user's own run does: nothing downstream
knows that they are a world's. Knows nothing about truncation, distillation or grading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leadspan.integrity import check_file
from leadspan.runs import lock_folder, read_json, replacing, write_json_atomic
from leadspan.world.models import (
    ModelShape,
    Phase,
    build_model,
    build_tokenizer,
    count_tokens,
    train_next_token,
)
from leadspan.world.problems import Problem, draw_gap, draw_problems, solve

SHIPPED = Path(__file__).parent / "shipped"
"""The two models of the world of `SHIPPED_SEED`, as `shipped.json` says how they were made."""
SHIPPED_SEED = 101
FORMAT_VERSION = 1
"""Raised when the same settings give other files; a world of another version is built anew."""
# Each use of the world seed draws from a stream of its own, so that the size of one file does not
# change another.
GAP, TRACES, TEST, STUDENT, TEACHER = range(5)


@dataclass(frozen=True)
class WorldConfig:
    """The sizes of a world. The defaults are the demo's; `small()` is for tests."""

    num_traces: int = 1000
    """Training traces."""
    num_test_problems: int = 200
    """Test problems of each size."""
    train_sizes: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    """Numbers of additions in the training traces."""
    test_sizes: tuple[int, ...] = (4, 6, 8)
    """Numbers of additions in the test problems, a file each."""
    gap_per_value: int = 3
    """Of the ten digits that can be added to a value, how many the student has not learnt."""
    shape: ModelShape = field(default_factory=ModelShape)
    """Architecture of both models."""
    student_phases: tuple[Phase, ...] = (
        Phase(150, 48, (1, 2, 3), 0.02, 0.01, 0.9, digit_weight=5.0, result_weight=10.0),
        Phase(210, 32, (2, 3, 4, 5, 6, 7, 8), 0.01, 0.0005, 0.94, 2.0, 2.0),
    )
    """Training of the base student from scratch, on traces with the gap."""
    teacher_phases: tuple[Phase, ...] = (
        Phase(90, 32, (1, 2, 3, 4, 5, 6, 7, 8), 0.005, 0.0003, 0.995),
    )
    """Further training that turns a copy of the base student into the teacher, without the gap."""

    @classmethod
    def small(cls) -> WorldConfig:
        """A world for tests: shorter problems, fewer steps; the models are imperfect."""
        return cls(
            num_traces=256,
            num_test_problems=24,
            train_sizes=(2, 3),
            test_sizes=(2, 3),
            student_phases=(
                Phase(140, 24, (2, 3), 0.02, 0.002, digit_weight=5.0, result_weight=10.0),
            ),
            teacher_phases=(
                Phase(25, 24, (2, 3), 0.006, 0.0005, digit_weight=2.0, result_weight=2.0),
            ),
        )


@dataclass(frozen=True)
class World:
    """Where a world's files lie."""

    path: Path
    test_sizes: tuple[int, ...]

    @property
    def traces(self) -> Path:
        """Training traces: JSONL rows of id, prompt, cot, answer, gold, meta."""
        return self.path / "traces.jsonl"

    @property
    def tests(self) -> tuple[Path, ...]:
        """Test problems, a JSONL file a size: rows of id, problem, gold, meta."""
        return tuple(self.path / f"test_n{size}.jsonl" for size in self.test_sizes)

    @property
    def student(self) -> Path:
        """The base student's model folder."""
        return self.path / "student"

    @property
    def teacher(self) -> Path:
        """The teacher's model folder."""
        return self.path / "teacher"

    @property
    def manifest(self) -> Path:
        """Written last: where it is, the world is complete."""
        return self.path / "manifest.json"


def build_world(
    output: Path,
    seed: int,
    late: bool = False,
    config: WorldConfig | None = None,
    shipped: bool = False,
) -> World:
    """Write a world, or return the one that is there if it was built with the same settings.

    Args:
        output: Folder of the world.
        seed: World seed; with the settings it decides every file.
        late: Write the derivation at the end of each trace, after a long preamble.
        config: Sizes.
        shipped: Take the two models that come with the package, which are those of `SHIPPED_SEED` and the
            default sizes, instead of training them.

    Raises:
        ValueError: No models of this world come with the package.
        RunError: The folder cannot be written, or another process is building there.
    """
    config = config or WorldConfig()
    if shipped and (seed, late, config) != (SHIPPED_SEED, False, WorldConfig()):
        raise ValueError(f"only the models of world {SHIPPED_SEED} come with the package")
    world = World(Path(output), config.test_sizes)
    made_of = {"version": FORMAT_VERSION, "seed": seed, "late": late, "config": asdict(config)}
    if shipped:
        made_of["shipped"] = True
    settings = json.loads(json.dumps(made_of))
    with lock_folder(world.path):
        if world.manifest.is_file() and read_json(world.manifest) == settings:
            return world
        world.manifest.unlink(missing_ok=True)
        _write_rows(world.traces, trace_rows(config, seed, late))
        for size, path in zip(config.test_sizes, world.tests, strict=True):
            _write_rows(path, problem_rows(config, seed, size))
        _write_models(world, config, seed, late, shipped)
        write_json_atomic(world.manifest, settings)
    return world


def write_late_traces(folder: Path, seed: int, config: WorldConfig | None = None) -> Path:
    """Write the late variant's traces alone, beside a world of the same seed, for analysis."""
    path = folder / "traces_late.jsonl"
    _write_rows(path, trace_rows(config or WorldConfig(), seed, late=True))
    return path


def trace_rows(config: WorldConfig, seed: int, late: bool) -> Iterator[dict[str, Any]]:
    """The training traces; only training problems are drawn from this stream."""
    rng = np.random.default_rng([seed, TRACES])
    for index, problem in enumerate(draw_problems(rng, config.num_traces, config.train_sizes)):
        yield trace_row(f"train-{index:05d}", problem, late)


def trace_row(row_id: str, problem: Problem, late: bool) -> dict[str, Any]:
    """One trace as a generic row; `meta` holds what only tests may look at."""
    solution = solve(problem, late)
    derivation_end, num_tokens = count_tokens(problem.text, solution)
    return {
        "id": row_id,
        "prompt": problem.text,
        "cot": solution.cot,
        "answer": solution.answer,
        "gold": problem.gold,
        "meta": {
            "n": problem.num_additions,
            "derivation_start_char": solution.derivation_start,
            "derivation_end_char": solution.derivation_end,
            "derivation_end_token": derivation_end,
            "num_tokens": num_tokens,
        },
    }


def problem_rows(config: WorldConfig, seed: int, size: int) -> Iterator[dict[str, Any]]:
    """Test problems of one size, the same for the ordinary and the late world."""
    rng = np.random.default_rng([seed, TEST, size])
    for index, problem in enumerate(draw_problems(rng, config.num_test_problems, (size,))):
        yield {
            "id": f"test-n{size}-{index:04d}",
            "problem": problem.text,
            "gold": f"o {problem.gold}",
            "meta": {"n": size},
        }


def _write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_models(world: World, config: WorldConfig, seed: int, late: bool, shipped: bool) -> None:
    """Train the base student, then the teacher from a copy of it; or take those that are shipped."""
    from safetensors.torch import load_model

    tokenizer = build_tokenizer()
    gap = draw_gap(np.random.default_rng([seed, GAP]), config.gap_per_value)
    model = build_model(config.shape, tokenizer, seed)
    runs = (
        ("base student", world.student, config.student_phases, gap, STUDENT),
        ("teacher", world.teacher, config.teacher_phases, None, TEACHER),
    )
    for label, folder, phases, unknown, stream in runs:
        if shipped:
            weights = SHIPPED / f"{folder.name}.safetensors"
            check_file(weights, read_json(SHIPPED / "shipped.json")["files"][weights.name])
            load_model(model, weights)
        else:
            rng = np.random.default_rng([seed, stream])
            with _one_thread():
                train_next_token(model, tokenizer, phases, label, late, unknown, rng)
        with replacing(folder) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums do not depend on how many cores there are, and matrices this small gain little from two."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
