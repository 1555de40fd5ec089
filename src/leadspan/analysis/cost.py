"""What a run costs at each lsp before anything is trained: FLOPs, memory, disk, seconds.

FLOPs are exact for the model's config and the real lengths; memory is `memory`'s peak; seconds are
`speed`'s. Knows configs and sequences; runs no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leadspan.analysis.memory import (
    GIB,
    MemoryParts,
    StepShape,
    TeacherMemory,
    predict_memory,
)
from leadspan.analysis.rollout_cost import (
    RolloutLengths,
    rollout_lengths,
    writing_bytes,
    writing_flops,
)
from leadspan.analysis.speed import SecondsModel
from leadspan.config import RolloutConfig, RunConfig, TrainingConfig
from leadspan.flops import Attention, ModelShape, forward_flops, training_flops
from leadspan.records import Sequence as TokenSequence
from leadspan.records import Span
from leadspan.sizes import run_folder_bytes, weight_bytes
from leadspan.traces.cut import Cut
from leadspan.traces.horizon import num_prompts_of_a_step, stand_in
from leadspan.traces.taught import as_teacher_reads, teacher_of

Teachers = Sequence[ModelShape | None]
"""Sizes of each teacher of a run; None for one that is not live."""
CACHE_BYTES_PER_ROW = 16 * 64
"""Of the teacher's row of one scored token in memory, where it is a cache's or a server's."""
CACHE_BYTES_PER_TOKEN = 214
"""Of a top-64 teacher cache with packed ids and 8-bit log-probabilities."""
DEVICE_SLACK_GIB = 1.0
FRAGMENTATION = 1.05
"""A card must hold the predicted peak times this, plus the slack of context and libraries."""


class Lesson(NamedTuple):
    """How an example is taught."""

    place: int = 0
    """Of its teacher among those of the run."""
    added: int = 0
    """Tokens by which the teacher's prompt is longer than the student's."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The tokens of one epoch at one cut."""

    lsp: float
    forwarded: tuple[int, ...]
    """Tokens of each example that go through the model: those before its last label."""
    scored: tuple[int, ...]
    """Labels of each example."""
    num_dropped: int = 0
    """Sequences in which the cut left nothing to score."""
    uncut: int = 0
    """Tokens of all sequences before the cut: what a capture stores."""
    rollouts: RolloutLengths | None = None
    """Of a rollout of each example's prompt, where the student writes any."""
    taught: tuple[Lesson, ...] = ()
    """Who teaches each example; none: the first teacher, which reads what the student reads."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """The cost of a whole run at one cut."""

    lsp: float
    steps: int
    tokens_forwarded: int
    tokens_scored: int
    student_flops: int
    """Writing rollouts included."""
    teacher_flops: int
    tokens_sampled: int
    """Written by the student for rollouts."""
    rollout_flops: int
    """Of writing them."""
    memory: MemoryParts
    disk_gib: float
    """The run folder at its largest (see `sizes`), and the teacher cache where one is used."""
    seconds: float | None
    """Without the writing of rollouts, which is bound by the memory's speed and not by arithmetic."""

    @property
    def flops(self) -> int:
        """Student and live teacher."""
        return self.student_flops + self.teacher_flops

    def fits(self, gib: float) -> bool:
        """True where a card of this many GiB holds the run."""
        return needed_gib(self.memory.total) <= gib


def needed_gib(num_bytes: int) -> float:
    """Memory of a card that holds a predicted peak."""
    return num_bytes / GIB * FRAGMENTATION + DEVICE_SLACK_GIB


def workload_of(sequences: Iterable[TokenSequence], config: RunConfig, lsp: float) -> Workload:
    """Cut and supervise uncut sequences at one lsp, everything else as configured."""
    cut = Cut(config.truncation, config.supervision).at_lsp(lsp)
    forwarded, scored, prompts, taught, uncut = [], [], [], [], 0
    dropped = 0
    for sequence in sequences:
        uncut += len(sequence)
        if sequence.is_prompt and config.rollout is not None:
            example = stand_in(config.rollout, sequence)
        else:
            example = cut.example(sequence)
        labels = np.flatnonzero(example.supervised_T)
        if len(labels):
            forwarded.append(int(labels[-1]))
            scored.append(len(labels))
            prompts.append(sequence)
            added = len(as_teacher_reads(example).sequence) - len(example.sequence)
            taught.append(Lesson(teacher_of(sequence), added))
        else:
            dropped += 1
    rollouts = None if config.rollout is None else rollout_lengths(config.rollout, prompts)
    return Workload(lsp, tuple(forwarded), tuple(scored), dropped, uncut, rollouts, tuple(taught))


def stated_workload(
    num_traces: int, tokens: int, prompt_tokens: int, config: RunConfig, lsp: float
) -> Workload:
    """A workload of equal traces, for data that is not at hand; the answer counts as CoT."""
    prompt = min(prompt_tokens, tokens)
    trace = TokenSequence(
        trace_id="stated",
        input_ids_T=np.zeros(tokens, dtype=np.int32),
        prompt=Span(0, prompt),
        cot=Span(prompt, tokens),
        answer=Span(tokens, tokens),
    )
    one = workload_of([trace], config, lsp)
    return Workload(
        lsp,
        one.forwarded * num_traces,
        one.scored * num_traces,
        one.num_dropped * num_traces,
        one.uncut * num_traces,
        None if one.rollouts is None else one.rollouts.times(num_traces),
        one.taught * num_traces,
    )


class _Work(NamedTuple):
    """What it costs to train on some sequences; fields as in `CostPoint`."""

    tokens_forwarded: float
    tokens_scored: float
    student_flops: float
    teacher_flops: float
    tokens_sampled: float = 0
    rollout_flops: float = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """Traces, or rollouts."""

    num_in_a_step: int
    num_in_all: int
    """Of which `work` is the cost."""
    work: _Work

    def after(self, steps: int) -> list[float]:
        """The cost of so many steps."""
        share = steps * self.num_in_a_step / self.num_in_all if self.num_in_all else 0.0
        return [share * amount for amount in self.work]


def _work(
    config: RunConfig,
    lengths: tuple[int, ...],
    scored: tuple[int, ...],
    taught: tuple[Lesson, ...],
    student: ModelShape,
    teachers: Teachers,
) -> _Work:
    """Student and live teachers on some sequences, whoever wrote them."""
    lora, attention = config.student.lora, flops_attention(config)
    student_flops = training_flops(
        student,
        lengths,
        scored,
        gradient_checkpointing=config.training.gradient_checkpointing,
        attention=attention,
        lora_rank=lora.rank if lora else None,
    )
    lessons = list(zip(lengths, scored, taught or [Lesson()] * len(lengths), strict=True))
    teacher_flops = 0
    for place, shape in enumerate(teachers):
        own = [(length + lesson.added, n) for length, n, lesson in lessons if lesson.place == place]
        if shape is not None and own:
            lengths_read, scored_read = zip(*own, strict=True)
            teacher_flops += forward_flops(shape, lengths_read, scored_read, attention)
    return _Work(sum(lengths), sum(scored), student_flops, teacher_flops)


def _rollout_work(
    rollout: RolloutConfig,
    config: RunConfig,
    workload: Workload,
    student: ModelShape,
    teachers: Teachers,
) -> _Work:
    """Every sample of every prompt once: written, and trained on."""
    copies, lengths = rollout.num_samples, workload.rollouts or RolloutLengths((), (), ())
    forwarded, sampled = lengths.forwarded * copies, lengths.sampled * copies
    work = _work(config, forwarded, sampled, workload.taught * copies, student, teachers)
    written = writing_flops(rollout, student, lengths, flops_attention(config))
    return work._replace(
        student_flops=work.student_flops + written,
        tokens_sampled=work.tokens_scored,
        rollout_flops=written,
    )


def num_rollouts_of_a_step(config: RunConfig) -> int:
    """How many of a step's sequences the student writes."""
    rollout = config.rollout
    if rollout is None:
        return 0
    return num_prompts_of_a_step(rollout, config.training.batch_size) * rollout.num_samples


def predict_cost(
    config: RunConfig,
    workload: Workload,
    student: ModelShape,
    teachers: Teachers,
    speed: SecondsModel | None = None,
    device: str = "cuda",
    num_ranks: int = 1,
) -> CostPoint:
    """The cost of training on a workload.

    Args:
        config: The run.
        workload: Of one epoch; whole epochs cost exactly a multiple, parts of one the mean.
        student: Sizes of the student.
        teachers: Sizes of each teacher of the run, None for one that is not live.
        speed: Turns counts into seconds.
        device: `cuda` or `cpu`; decides the size of a logits chunk.
        num_ranks: Weights, gradients and optimiser state are shared out over these.
    """
    sources = _sources(config, workload, student, teachers)
    steps = _num_steps(config.training, len(workload.forwarded), sources)
    total = _Work(
        *(round(sum(parts)) for parts in zip(*(one.after(steps) for one in sources), strict=True))
    )
    trained = total.student_flops + total.teacher_flops - total.rollout_flops
    return CostPoint(
        lsp=workload.lsp,
        steps=steps,
        **total._asdict(),
        memory=_memory(config, workload, student, teachers, device, num_ranks),
        disk_gib=_disk_bytes(config, workload, student) / GIB,
        seconds=None
        if speed is None
        else speed.predict(total.tokens_forwarded, trained) / num_ranks,
    )


def _sources(
    config: RunConfig, workload: Workload, student: ModelShape, teachers: Teachers
) -> list[_Source]:
    """What a step is made of: traces, and rollouts where there are any."""
    count, num_rollouts = len(workload.forwarded), num_rollouts_of_a_step(config)
    traces = _work(config, workload.forwarded, workload.scored, workload.taught, student, teachers)
    sources = [_Source(config.training.batch_size - num_rollouts, count, traces)]
    if config.rollout is not None and workload.rollouts is not None:
        rollouts = _rollout_work(config.rollout, config, workload, student, teachers)
        sources.append(_Source(num_rollouts, count * config.rollout.num_samples, rollouts))
    return sources


def _num_steps(training: TrainingConfig, num_examples: int, sources: Sequence[_Source]) -> int:
    budget = training.budget
    if budget is None:
        epochs = training.epochs or 1
        return training.steps or math.ceil(epochs * num_examples / training.batch_size)
    steps = [_Work(*one.after(1)) for one in sources]
    spent = sum(
        one.tokens_forwarded if budget.tokens else one.student_flops + one.teacher_flops
        for one in steps
    )
    return max(1, round((budget.tokens or budget.flops or 0.0) / spent)) if spent else 1


def flops_attention(config: RunConfig) -> Attention:
    """Eager attention computes every pair, the others only those looking back."""
    return "full" if config.student.attention == "eager" else "causal"


def _memory(
    config: RunConfig,
    workload: Workload,
    student: ModelShape,
    teachers: Teachers,
    device: str,
    num_ranks: int,
) -> MemoryParts:
    step = step_shape(config, workload, device)
    sources = []
    if config.loss.kd_ratio > 0:
        is_shared = config.student.lora is not None and num_ranks == 1
        sources = [
            TeacherMemory(
                shape,
                # The student's own weights, with the adapter off.
                0 if each.source and is_shared else weight_bytes(each.dtype, device),
            )
            for shape, each in zip(teachers, config.all_teachers, strict=False)
            if shape is not None
        ] or [TeacherMemory(cache_bytes_per_row=CACHE_BYTES_PER_ROW)]
    parts = predict_memory(student, step, sources)
    optimizer = parts.optimizer // num_ranks
    training = MemoryParts(
        weights=parts.weights // num_ranks,
        gradients=parts.gradients // num_ranks,
        optimizer=optimizer,
        activations=parts.activations,
        loss=parts.loss,
        teacher=parts.teacher,
    )
    if config.rollout is None or workload.rollouts is None:
        return training
    num_rollouts = num_rollouts_of_a_step(config) / num_ranks
    cache = writing_bytes(config.rollout, student, workload.rollouts, step, num_rollouts)
    if not cache:
        return training
    # Each rank holds the whole student while it writes.
    writing = MemoryParts(
        weights=parts.weights, optimizer=optimizer, teacher=parts.teacher, rollouts=cache
    )
    return max(training, writing, key=lambda moment: moment.total)


def step_shape(config: RunConfig, workload: Workload, device: str = "cuda") -> StepShape:
    """The heaviest forward pass: most padded tokens over every length that may lead a pass."""
    training, num_rollouts = config.training, num_rollouts_of_a_step(config)
    passes = [_Pass(workload.forwarded, workload.scored, training.batch_size - num_rollouts)]
    if workload.rollouts is not None:
        longest, context = workload.rollouts.most, workload.rollouts.context
        forwarded = tuple(most - 1 for most in longest)
        scored = tuple(most - start for most, start in zip(longest, context, strict=True))
        passes.append(_Pass(forwarded, scored, num_rollouts))
    passes = [one for one in passes if one.num_in_a_step]
    limit = training.micro_batch_tokens
    rows, tokens, heaviest = max(
        ((*one.heaviest(limit), one) for one in passes), key=lambda found: found[0] * found[1]
    )
    is_half = config.student.dtype == "bfloat16"
    bf16 = device == "cuda" if training.bf16 == "auto" else training.bf16
    lora = config.student.lora
    return StepShape(
        rows=rows,
        tokens=tokens,
        scored=min(rows * tokens, math.ceil(rows * tokens * heaviest.scored_share)),
        passes_per_step=len(passes) if all(one.fits(limit) for one in passes) else 2,
        compute="bfloat16" if is_half else "autocast" if bf16 else "float32",
        gradient_checkpointing=training.gradient_checkpointing,
        lora_rank=lora.rank if lora else None,
        device="cuda" if device == "cuda" else "cpu",
    )


@dataclass(frozen=True, slots=True)
class _Pass:
    """Sequences of one source, which go through the models together."""

    forwarded: tuple[int, ...]
    scored: tuple[int, ...]
    num_in_a_step: int

    @property
    def scored_share(self) -> float:
        """Of the tokens that are forwarded."""
        return sum(self.scored) / max(1, sum(self.forwarded))

    def heaviest(self, limit: int) -> tuple[int, int]:
        """Rows side by side, and padded tokens of each, under a limit of tokens in a pass."""
        rows, tokens = 1, 1
        for length in sorted(set(self.forwarded)):
            side_by_side = min(self.num_in_a_step, max(1, limit // max(1, length)))
            if side_by_side * length > rows * tokens:
                rows, tokens = side_by_side, length
        return rows, tokens

    def fits(self, limit: int) -> bool:
        """All of a step go through in one pass."""
        mean = sum(self.forwarded) / max(1, len(self.forwarded))
        return self.num_in_a_step * mean <= limit


def _disk_bytes(config: RunConfig, workload: Workload, shape: ModelShape) -> int:
    cached = 0
    if config.teacher is not None and config.teacher.cache is not None:
        cached = CACHE_BYTES_PER_TOKEN * workload.uncut
    return run_folder_bytes(config.student, shape) + cached
