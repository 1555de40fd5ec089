"""Settings with which a run fits a card: the first, in order of what they cost, whose predicted peak does.

Predictions are those of `plan`. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leadspan.analysis.cost import needed_gib
from leadspan.analysis.memory import MemoryParts
from leadspan.analysis.plan import plan_stated
from leadspan.config import LoraConfig, RunConfig, StudentConfig
from leadspan.errors import ConfigError
from leadspan.sizes import count_parameters, kv_cache_bytes, shape_of, weight_bytes

PROMPT_TOKENS = 150
MICRO_BATCH_TOKENS = (16384, 8192, 4096, 2048)
CACHE_FOLDER = "teacher_cache"
LORA_LEARNING_RATE = 1e-4
"""Adapters begin at zero and want a rate well above that of full weights."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A run that fits, and what was given up for it."""

    config: RunConfig
    memory: MemoryParts
    """Of training, predicted at the lsp with the highest peak."""
    card_gib: float
    reasons: tuple[str, ...]
    """A sentence for each choice."""

    @property
    def needs_capture(self) -> bool:
        """The teacher is read from a cache, which has to be written first."""
        return self.config.teacher is not None and self.config.teacher.cache is not None

    @property
    def needed_gib(self) -> float:
        """What the card must have."""
        return needed_gib(self.memory.total)


def fit_to_card(config: RunConfig, card_gib: float) -> Fit:
    """Change batch, checkpointing, adapters and the teacher's place until the run fits.

    Every trace is taken to be as long as `traces.max_tokens` allows, at every lsp of a plan, so that
    another lsp fits too.

    Args:
        config: The run as one would like it; `student.lora`, where it is set, is kept.
        card_gib: Memory of the card.

    Raises:
        ConfigError: A model's sizes are not known, or nothing fits; says what the least would need.
    """
    least = float("inf")
    for candidate in _candidates(config):
        memory = predict_peak(candidate)
        needed = needed_gib(memory.total)
        if needed <= card_gib:
            fitted = _fit_evaluation(candidate, card_gib)
            return Fit(fitted, memory, card_gib, tuple(_explain(fitted, config, card_gib)))
        least = min(least, needed)
    raise ConfigError(
        f"--card {card_gib:g}: must hold the run; with everything that saves memory {config.student.path} "
        f"needs {least:.1f} GiB. Name a smaller student{_or_teacher(config)} or a larger card."
    )


def _or_teacher(config: RunConfig) -> str:
    """Where the teacher must be beside the student, it counts as well."""
    return "" if config.rollout is None else " or teacher"


def predict_peak(config: RunConfig) -> MemoryParts:
    """The highest peak over the lsps of a plan, of traces as long as they may be."""
    tokens = config.traces.max_tokens
    assert tokens is not None
    plan = plan_stated(config, config.training.batch_size, tokens, PROMPT_TOKENS)
    return max((point.memory for point in plan.points), key=lambda memory: memory.total)


def predict_evaluation(config: RunConfig, num_answers: int) -> int:
    """Bytes of the student and of the keys and values of answers that are written side by side."""
    student = shape_of(config.student.path, config.student.revision)
    width = weight_bytes(config.evaluation.dtype, "cuda")
    tokens = PROMPT_TOKENS + config.evaluation.sampling.max_new_tokens
    answers = kv_cache_bytes(student, num_answers, tokens, width)
    return width * count_parameters(student).total + answers


def _candidates(config: RunConfig) -> Iterator[RunConfig]:
    """What costs only time comes first, then what changes a result."""
    for placed in _placements(config):
        yield _with(placed, "training", gradient_checkpointing=False)
        for tokens in MICRO_BATCH_TOKENS:
            yield _with(placed, "training", gradient_checkpointing=True, micro_batch_tokens=tokens)


def _placements(config: RunConfig) -> Iterator[RunConfig]:
    """The teacher beside the student or in a cache; all weights or adapters."""
    for run in [config] if config.student.lora is not None else [config, with_lora(config)]:
        yield run
        if run.teacher is not None and run.teacher.is_live and run.rollout is None:
            yield _with(run, "teacher", cache=CACHE_FOLDER)


def _fit_evaluation(config: RunConfig, card_gib: float) -> RunConfig:
    """As many answers side by side as there is room for; one at the least, which training has room for."""
    num_answers = config.evaluation.batch_size
    while num_answers > 1 and needed_gib(predict_evaluation(config, num_answers)) > card_gib:
        num_answers //= 2
    return _with(config, "evaluation", batch_size=num_answers)


def with_lora(config: RunConfig) -> RunConfig:
    """The run with adapters over weights in bfloat16, which are never updated and lose nothing by it."""
    student = StudentConfig(
        **{**config.student.model_dump(), "lora": LoraConfig(), "dtype": "bfloat16"}
    )
    run = config.model_copy(update={"student": student})
    return _with(run, "training", learning_rate=LORA_LEARNING_RATE)


def _with(config: RunConfig, part: str, **changes: Any) -> RunConfig:
    changed = getattr(config, part).model_copy(update=changes)
    return config.model_copy(update={part: changed})


def _explain(config: RunConfig, asked: RunConfig, card_gib: float) -> Iterator[str]:
    """Why each choice differs from what was asked for: what the card would need without it."""
    training = config.training
    if config.teacher is not None and config.teacher.cache is not None:
        live = _with(config, "teacher", cache=None)
        yield f"teacher cache: the teacher beside the student would need {_needed(live)}"
        teacher = shape_of(config.teacher.path, config.teacher.revision)
        width = weight_bytes(config.teacher.dtype, "cuda")
        capture = needed_gib(width * count_parameters(teacher).total)
        if capture > card_gib:
            yield f"its capture needs {capture:.1f} GiB: run it on a larger card, or ask a server"
    if config.student.lora is not None and asked.student.lora is None:
        whole = config.model_copy(update={"student": asked.student})
        yield f"LoRA: training every weight would need {_needed(whole)}"
    if training.micro_batch_tokens < MICRO_BATCH_TOKENS[0]:
        wide = _with(config, "training", micro_batch_tokens=MICRO_BATCH_TOKENS[0])
        yield (
            f"{training.micro_batch_tokens} tokens a pass: {MICRO_BATCH_TOKENS[0]} would need "
            f"{_needed(wide)}"
        )
    if training.gradient_checkpointing:
        kept = _with(
            config,
            "training",
            gradient_checkpointing=False,
            micro_batch_tokens=MICRO_BATCH_TOKENS[0],
        )
        yield f"gradient checkpointing: keeping the activations would need {_needed(kept)}"
    answers, wished = config.evaluation.batch_size, asked.evaluation.batch_size
    if answers < wished:
        room = needed_gib(predict_evaluation(config, wished))
        yield f"{answers} answers side by side in the evaluation: {wished} would need {room:.1f} GiB"


def _needed(config: RunConfig) -> str:
    return f"{needed_gib(predict_peak(config).total):.1f} GiB"
