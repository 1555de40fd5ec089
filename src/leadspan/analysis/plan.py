"""The table of `leadspan plan`: cost, what survives the cut and which card holds it, for each lsp.

Joins `cost` with the readings of `analyze` for one run.yaml. Trains nothing and loads no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from itertools import islice
from typing import Any

from leadspan.analysis.analyze import Analysis, read_traces
from leadspan.analysis.cost import (
    CostPoint,
    Workload,
    predict_cost,
    stated_workload,
    workload_of,
)
from leadspan.analysis.speed import SecondsModel
from leadspan.config import OF_THE_TRACE, RolloutConfig, RunConfig
from leadspan.errors import ConfigError, DataError
from leadspan.flops import ModelShape
from leadspan.paths import local_files
from leadspan.records import Sequence, Trace
from leadspan.sizes import count_parameters, shape_of
from leadspan.traces.cut import Cut
from leadspan.traces.dataset import (
    Annotate,
    check_annotated,
    iter_sequences,
    nothing_usable,
    split_validation,
)
from leadspan.traces.render import Renderer
from leadspan.traces.sources import LoadedTraces

LSPS = tuple(step / 10 for step in range(1, 11))
CARDS_GIB = (12.0, 16.0, 24.0, 40.0, 48.0, 80.0, 141.0)
"""Memory of common cards."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Cost of a run at each lsp."""

    points: tuple[CostPoint, ...]
    survival: dict[float, float | None]
    """Share of the derived traces whose derivation the cut keeps."""
    num_traces: int
    num_parameters: int
    speed_source: str | None
    device: str
    """`cuda` or `cpu`."""
    data: str
    """Whether the traces were read, in words."""
    notes: tuple[str, ...]
    """What the rows take for granted or leave out, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain data: `rows` by lsp, ratios against lsp 1.0."""
        whole = self.points[-1]
        return {
            "traces": self.num_traces,
            "data": self.data,
            "student_parameters": self.num_parameters,
            "seconds_from": self.speed_source,
            "device": self.device,
            "notes": list(self.notes),
            "rows": [self._row(point, whole) for point in self.points],
        }

    def _row(self, point: CostPoint, whole: CostPoint) -> dict[str, Any]:
        return {
            "lsp": point.lsp,
            "survival": self.survival.get(point.lsp),
            "steps": point.steps,
            "tokens_forwarded": point.tokens_forwarded,
            "tokens_scored": point.tokens_scored,
            "student_flops": point.student_flops,
            "teacher_flops": point.teacher_flops,
            "tokens_sampled": point.tokens_sampled,
            "rollout_flops": point.rollout_flops,
            "flops_ratio": _ratio(point.flops, whole.flops),
            "memory_gib": {k: round(v, 3) for k, v in point.memory.in_gib().items()},
            "memory_ratio": _ratio(point.memory.total, whole.memory.total),
            "smallest_card_gib": next((c for c in CARDS_GIB if point.fits(c)), None),
            "disk_gib": round(point.disk_gib, 3),
            "seconds": None if point.seconds is None else round(point.seconds, 2),
            "seconds_ratio": None
            # With rollouts seconds are a part of the time, and so no measure of the whole.
            if point.seconds is None or whole.seconds is None or point.tokens_sampled
            else _ratio(point.seconds, whole.seconds),
        }


def planned_lsps(config: RunConfig) -> tuple[float, ...]:
    """Rows of a plan; where the student writes every sequence, nothing is cut and they would be alike."""
    if config.rollout is not None and config.rollout.share == 1.0:
        return LSPS[-1:]
    return LSPS


def plan_run(
    config: RunConfig,
    tokenizer: Any,
    speed: SecondsModel | None = None,
    device: str = "cuda",
    num_ranks: int = 1,
    lsps: SequenceABC[float] | None = None,
    annotate: Annotate | None = None,
    limit: int | None = None,
) -> Plan:
    """Plan a run on the traces that it names.

    Args:
        config: The run; its `truncation.lsp` is replaced by each of `lsps`.
        tokenizer: The student's.
        speed: See `cost`.
        device: `cuda` or `cpu`.
        num_ranks: Over how many devices it is sharded.
        lsps: Ascending, the last is what the others are compared with; `planned_lsps` where None.
        annotate: Adds each trace's own cut point, where the cut asks for one.
        limit: Plan for the first so many usable traces alone; ratios hold, totals do not.

    Raises:
        DataError: No trace is usable.
        ConfigError: A model's sizes are not known, or the cut moves over the training.
    """
    check_annotated(config.truncation, annotate)
    lsps = planned_lsps(config) if lsps is None else lsps
    renderer = Renderer(tokenizer, config.render)
    counts = LoadedTraces()
    sequences = []

    def remember() -> Iterator[tuple[Trace, Sequence]]:
        pairs = iter_sequences(
            config.traces,
            renderer,
            counts,
            config.truncation,
            annotate,
            teachers=config.all_teachers,
            takes_prompts=config.takes_prompts,
        )
        for trace, sequence in islice(pairs, limit):
            sequences.append(sequence)
            if not sequence.is_prompt:
                yield trace, sequence

    analysis = Analysis(tuple(read_traces(remember(), renderer)), dict(counts.refused))
    if not sequences:
        raise DataError(nothing_usable(config.traces, counts))
    trained, _ = split_validation(sequences, config.traces.validation_fraction, config.traces.seed)
    read = [sequence for sequence in sequences if not sequence.is_prompt]
    return _plan(
        config,
        lambda lsp: workload_of(trained, config, lsp),
        {lsp: _share_kept(config, read, analysis, lsp) for lsp in lsps},
        (speed, device, num_ranks, tuple(lsps), len(sequences), "as read"),
    )


def _share_kept(
    config: RunConfig, sequences: SequenceABC[Sequence], analysis: Analysis, lsp: float
) -> float | None:
    """Share of the derived traces of which the run's own cut at this lsp keeps the derivation."""
    cut = Cut(config.truncation).at_lsp(lsp)
    kept = [
        cut.keeps_lead(sequence, reading.derivation_tokens)
        for sequence, reading in zip(sequences, analysis.readings, strict=True)
        if reading.derivation.status == "derived" and reading.derivation_tokens is not None
    ]
    return sum(kept) / len(kept) if kept else None


def plan_stated(
    config: RunConfig,
    num_traces: int,
    tokens: int,
    prompt_tokens: int,
    speed: SecondsModel | None = None,
    device: str = "cuda",
    num_ranks: int = 1,
    lsps: SequenceABC[float] | None = None,
) -> Plan:
    """Plan a run on data that is not at hand, from its stated size; see `plan_run`."""
    lsps = planned_lsps(config) if lsps is None else lsps
    if config.truncation.policy in OF_THE_TRACE:
        raise ConfigError(
            f"truncation.policy {config.truncation.policy} cuts each trace at its own place; its cost is "
            "known only where the traces can be read."
        )
    if len(config.all_teachers) > 1:
        raise ConfigError(
            "teachers: which rows each of several has is known only where the traces can be read."
        )
    return _plan(
        config,
        lambda lsp: stated_workload(num_traces, tokens, prompt_tokens, config, lsp),
        {},
        (speed, device, num_ranks, tuple(lsps), num_traces, f"stated as {tokens} tokens each"),
    )


def stated_size(
    config: RunConfig, num_traces: int | None = None, tokens: int | None = None
) -> tuple[int, int] | None:
    """How many traces of how many tokens to plan for where the data are not to be read.

    What is not stated is taken from `traces.sample`, less the validation share, and from
    `traces.max_tokens`, the most that a trace can have.

    Returns:
        None where nothing is stated and the traces lie on this machine.

    Raises:
        ConfigError: They do not, or only half of their size is known.
        DataError: The path names neither files nor a data set of the hub.
    """
    traces = config.traces
    is_stated = num_traces is not None or tokens is not None
    if not is_stated and local_files(traces.path) is not None:
        return None
    if num_traces is None and traces.sample is not None:
        num_traces = traces.sample - round(traces.sample * traces.validation_fraction)
    tokens = tokens or traces.max_tokens
    if num_traces is None or tokens is None:
        missing = "--num-traces" if num_traces is None else "--tokens"
        why = (
            f"{missing} must be given too"
            if is_stated
            else f"traces.path {traces.path} is not on this machine, and nothing is downloaded to plan"
        )
        raise ConfigError(f"{why}. State the data's size: --num-traces N --tokens T.")
    return num_traces, tokens


def _plan(
    config: RunConfig,
    workload: Callable[[float], Workload],
    survival: dict[float, float | None],
    setting: tuple[SecondsModel | None, str, int, tuple[float, ...], int, str],
) -> Plan:
    speed, device, num_ranks, lsps, num_traces, data = setting
    if config.truncation.lsp_end is not None:
        raise ConfigError(
            "truncation.lsp_end must be null to plan: a row is one lsp. Plan both ends of the schedule."
        )
    student = shape_of(config.student.path, config.student.revision)
    teachers = live_teacher_shapes(config)
    points = tuple(
        predict_cost(config, workload(lsp), student, teachers, speed, device, num_ranks)
        for lsp in lsps
    )
    return Plan(
        points=points,
        survival=survival,
        num_traces=num_traces,
        num_parameters=count_parameters(student).total,
        speed_source=speed.source if speed else None,
        device=device,
        data=data,
        notes=tuple(_notes(config, is_read=bool(survival))),
    )


def _notes(config: RunConfig, is_read: bool) -> Iterator[str]:
    if not is_read and any(each.system_prompt for each in config.all_teachers):
        yield "what teacher.system_prompt adds to the teacher's work is not counted"
    if config.rollout is not None:
        yield from _rollout_notes(config.rollout)


def _rollout_notes(rollout: RolloutConfig) -> Iterator[str]:
    horizon = {
        "constant": "the horizon",
        "linear": "the horizon at its mean over the training",
        "entropy": "the horizon at its mean if it grows at every validation, which is the most it can",
    }[rollout.schedule]
    yield f"rollouts are taken to be as long as their prompt's trace, or {horizon}"
    yield (
        "seconds leave the writing of rollouts out: it waits for memory, whose speed is not known"
    )
    if rollout.backend != "local":
        yield f"memory leaves out what backend {rollout.backend} takes to write"


def live_teacher_shapes(config: RunConfig) -> tuple[ModelShape | None, ...]:
    """Sizes of each teacher that is run beside the student; None for one that is not."""
    if config.loss.kd_ratio == 0:
        return ()
    return tuple(
        shape_of(each.path, each.revision) if each.is_live else None for each in config.all_teachers
    )


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
