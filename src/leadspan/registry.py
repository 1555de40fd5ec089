"""The benchmarks that are known by name: where they live, how they are asked and graded.

A registered name may also be given to a local copy; its columns are then looked for by their usual
names. Knows nothing about models. `register` is the door for further ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leadspan.config import BenchmarkConfig

Row = Mapping[str, Any]
Adapter = Callable[[Row], Row | None]
"""Turns a row into one with plain columns; None skips it."""

BOXED = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
LETTER = "{problem}\n\nPlease reason step by step, and put the letter of the right option within \\boxed{}."


@dataclass(frozen=True, slots=True)
class Registered:
    """A named benchmark."""

    defaults: BenchmarkConfig
    adapt: Adapter | None = None


_REGISTERED: dict[str, Registered] = {}


def register(name: str, defaults: BenchmarkConfig, adapt: Adapter | None = None) -> None:
    """Make `name` a benchmark; a later one of the same name replaces it."""
    _REGISTERED[name] = Registered(defaults, adapt)


def registered(name: str | None) -> Registered | None:
    """The benchmark of this name, if there is one."""
    return _REGISTERED.get(name) if name else None


def home_of(path: str, revision: str | None) -> tuple[str, str | None]:
    """Where a path leads, from a registered name to its data set, and the revision that it has there."""
    known = registered(path)
    if known is None:
        return path, revision
    return known.defaults.path, revision or known.defaults.revision


def registered_names() -> list[str]:
    """All names, sorted."""
    return sorted(_REGISTERED)


def _math(
    name: str, path: str, gold: str | None = None, adapt: Adapter | None = None, **other: Any
) -> None:
    defaults = BenchmarkConfig(
        path=path, name=name, grading="math", prompt_template=BOXED, gold_column=gold, **other
    )
    register(name, defaults, adapt)


def _text_only_english(row: Row) -> Row | None:
    """OlympiadBench: rows without a picture, in English; its list holds one answer, often with $."""
    pictures = [key for key in row if key.startswith("image") and row[key] is not None]
    language = str(row.get("language") or "English")
    if pictures or "<image" in str(row.get("question", "")) or language != "English":
        return None
    if "text-only" not in str(row.get("modality") or "text-only").lower():
        return None
    return row


def _gpqa(row: Row) -> Row:
    """GPQA keeps the right option apart: mix it in at a place that the question decides."""
    if "Correct Answer" not in row:
        return row
    right = str(row["Correct Answer"]).strip()
    options = [right, *(str(row[f"Incorrect Answer {number}"]).strip() for number in (1, 2, 3))]
    options.sort(key=lambda text: hashlib.sha256((str(row["Question"]) + text).encode()).digest())
    return {**row, "choices": options, "answer": "ABCD"[options.index(right)]}


def _countdown(row: Row) -> Row:
    """Countdown has no gold string: the target and the numbers decide."""
    if "target" not in row or "nums" not in row:
        return row
    numbers, target = [int(number) for number in row["nums"]], int(row["target"])
    problem = (
        f"Using the numbers {numbers}, create an equation that equals {target}. You can use basic "
        "arithmetic operations (+, -, *, /) and each number must be used exactly once."
    )
    gold = json.dumps({"target": target, "numbers": numbers})
    return {**row, "problem": problem, "gold": gold}


def _register_all() -> None:
    _math("aime24", "HuggingFaceH4/aime_2024", split="train")
    _math("aime25", "math-ai/aime25")
    _math("math500", "HuggingFaceH4/MATH-500")
    _math("gsm8k", "openai/gsm8k", config="main")
    _math("amc23", "math-ai/amc23")
    _math("minerva_math", "math-ai/minervamath")
    _math(
        "olympiadbench",
        "Hothan/OlympiadBench",
        gold="final_answer",
        adapt=_text_only_english,
        config="OE_TO_maths_en_COMP",
        split="train",
    )
    register(
        "gpqa_diamond",
        BenchmarkConfig(
            path="Idavidrein/gpqa",
            name="gpqa_diamond",
            config="gpqa_diamond",
            split="train",
            choices_column="choices",
            gold_column="answer",
            grading="choice",
            prompt_template=LETTER,
        ),
        _gpqa,
    )
    register(
        "mmlu_pro",
        BenchmarkConfig(
            path="TIGER-Lab/MMLU-Pro",
            name="mmlu_pro",
            choices_column="options",
            gold_column="answer",
            id_column="question_id",
            difficulty_column="category",
            grading="choice",
            prompt_template=LETTER,
        ),
    )
    register(
        "countdown",
        BenchmarkConfig(
            path="Jiayi-Pan/Countdown-Tasks-3to4",
            name="countdown",
            split="train",
            prompt_column="problem",
            gold_column="gold",
            grading="leadspan.grading.countdown:grade",
            prompt_template=BOXED,
        ),
        _countdown,
    )


_register_all()
