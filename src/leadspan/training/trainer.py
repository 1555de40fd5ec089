"""The training loop: steps, validation, checkpoints, and the summary that a run leaves behind.

Every loss is a sum divided by the scored tokens of the whole optimiser step, however the step is
shared out over forward passes and ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, NoReturn

import torch

from leadspan.config import PACKING, RunConfig
from leadspan.errors import RunError, RunStopped
from leadspan.flops import check_flops_known
from leadspan.parallel import Ranks
from leadspan.precision import bf16_products, resolve_bf16
from leadspan.progress import progress, say
from leadspan.records import SECTIONS, Example, Sequence
from leadspan.runs import RunFolder
from leadspan.teachers.live import TeacherSource
from leadspan.traces.batches import (
    Batch,
    collate,
    compute_order,
    num_forwarded_tokens,
    plan_micro_batches,
)
from leadspan.traces.taught import as_teacher_reads, teacher_of
from leadspan.training.checkpoint import (
    best_folder,
    drop_old,
    load_best,
    load_last,
    save_checkpoint,
    step_folder,
)
from leadspan.training.data import ExampleSource, compute_budget_steps, compute_num_steps
from leadspan.training.metering import (
    FlopsMeter,
    PeakMemory,
    Totals,
    describe_seconds,
    device_peak,
    probe_example,
    time_probe,
)
from leadspan.training.objective import Objective
from leadspan.training.optimizer import build_optimizer, compute_lr_factor
from leadspan.training.rollout_log import RolloutLog, by_decile, describe_rollout, describe_step
from leadspan.training.rollouts import Rollout, RolloutWriter
from leadspan.training.stopping import stop_requests
from leadspan.training.tracking import Log, open_tracker

NUM_SUMS = 1 + 3 * len(SECTIONS) + 2
"""Length of that vector."""


def section_sums(batch: Batch, ce_N: torch.Tensor, kd_N: torch.Tensor) -> torch.Tensor:
    """Count, cross-entropy and divergence summed by section, [3 * sections], float64."""
    values = torch.stack([torch.ones_like(ce_N), ce_N, kd_N]).double()
    sums = torch.zeros(3, len(SECTIONS), dtype=torch.float64, device=ce_N.device)
    return sums.index_add_(1, batch.sections_N, values).T.flatten()


def section_means(sums: torch.Tensor) -> Mapping[str, float]:
    """Token means by section, for the sections that were scored, and of the kept masses."""
    by_section = sums[1:-2].view(-1, 3).tolist()
    means = {}
    for section, (count, ce, kd) in zip(SECTIONS, by_section, strict=True):
        if count:
            means[f"ce_{section}"] = ce / count
            means[f"kd_{section}"] = kd / count
    teacher_kept, student_kept = sums[-2:].tolist()
    if teacher_kept:
        num_scored = sum(count for count, _, _ in by_section)
        means["teacher_mass_kept"] = teacher_kept / num_scored
        means["student_mass_kept"] = student_kept / num_scored
    return means


TAIL_SHARE = 0.1
"""The reported training loss is the token mean over this last share of the steps."""


class Trainer:
    """One run of the loop on one rank. Build it, then call `run` once."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        ranks: Ranks,
        objective: Objective,
        teachers: SequenceABC[TeacherSource],
        examples: ExampleSource,
        validation: SequenceABC[Example],
        rollouts: RolloutWriter | None = None,
    ) -> None:
        self._config = config
        self._training = config.training
        self._folder = folder
        self._ranks = ranks
        self._objective = objective
        self._teachers = teachers
        self._weights = [teacher.weight for teacher in config.teachers] or [1.0]
        self._examples = examples
        self._validation = validation
        self._rollouts = rollouts
        self._rollout_log = RolloutLog(folder.rollouts_path)
        self._packed = config.student.attention in PACKING
        teacher_configs = [teacher.model_config for teacher in teachers]
        self._flops = FlopsMeter(config, objective.student.config, teacher_configs)
        if self._training.budget is not None and self._training.budget.flops is not None:
            check_flops_known(objective.student.config, config.student.path)
            for each, teacher in zip(teacher_configs, config.all_teachers, strict=True):
                if each is not None:
                    check_flops_known(each, teacher.path)
        num_examples = len(examples)
        self._steps_per_epoch = num_examples / self._training.batch_size
        self._num_steps = self._compute_num_steps()
        self._order = compute_order(
            num_examples, self._num_steps * self._training.batch_size, config.seed
        )
        self._optimizer = build_optimizer(objective, self._training, ranks.device)
        self._totals = Totals()
        self._before_step: dict[str, Any] | None = None
        """State at the beginning of the step under way; None between steps."""
        self._saved_step: int | None = None
        """Of the checkpoint that holds what is in memory now."""
        self._peak_memory = PeakMemory(ranks.device)
        self._bf16 = resolve_bf16(config.training.bf16, ranks.device)
        self._peak_flops = device_peak(ranks.device, self._bf16)
        every_steps = self._training.validate_every_epochs * self._steps_per_epoch
        self._validation_steps = (
            compute_validation_steps(self._num_steps, every_steps) if validation else frozenset()
        )

    def run(self) -> dict[str, Any]:
        """Train to the end, going on from the last checkpoint if there is one.

        Returns:
            The part of the manifest that training measured.

        Raises:
            RunError: The loss is not finite, or the disk is full.
            RunStopped: The run was told to stop.
        """
        self._resume()
        first = self._totals.step
        label = self._folder.path.name
        if first < self._num_steps:
            self._say_estimate(first)
        with (
            stop_requests(self._ranks.is_first) as stop,
            progress(label, self._num_steps - first) as advance,
            self._tracker() as self._log,
        ):
            for step in range(first, self._num_steps):
                record = self._step(step)
                self._peak_memory.note_step()
                note = f"loss {record['loss']:.4f}"
                if step + 1 in self._validation_steps:
                    note += f", val {self._validate():.4f}"
                if step == first or step + 1 in self._validation_steps:
                    self._peak_memory.reset_for_steps()
                if self._ranks.agree(stop()):
                    self._stop_early()
                if (step + 1) % self._training.checkpoint_every_steps == 0:
                    self._save_step()
                advance(note=note)
        self._save_step()
        return self._summary()

    def _resume(self) -> None:
        folder, is_first = self._folder, self._ranks.is_first

        def check(state: Mapping[str, Any]) -> None:
            if is_first:
                folder.check_metrics(state["metrics"])

        state = load_last(
            folder.checkpoints_path, self._ranks, self._objective, self._optimizer, check
        )
        if state is not None:
            self._totals = Totals(**state["totals"])
            if self._rollouts is not None:
                self._rollouts.restore(state["rollouts"])
            self._saved_step = self._totals.step
        if is_first:
            folder.restore_metrics(state["metrics"]["size"] if state is not None else 0)
        self._ranks.barrier()

    def _say_estimate(self, first: int) -> None:
        """Say how long the steps from `first` on will take, by a timed pass."""
        examples = self._examples.at(first / self._num_steps)
        if self._rollouts is not None and self._config.takes_prompts:
            everything = self._examples.sequences(range(len(examples)))
            examples = self._rollouts.expected(everything)
        device = self._ranks.device
        probe = probe_example(examples[self._order[0]], self._objective.vocab_size, device)
        seconds = time_probe(lambda: self._run_passes([probe], 1, backward=True), device)
        self._optimizer.zero_grad(set_to_none=True)
        validations = sum(step > first for step in self._validation_steps)
        steps = self._num_steps - first
        share = steps * self._training.batch_size / len(examples)
        # A validation is a forward pass alone, a third of the work.
        cost = share * self._cost(examples) + validations / 3 * self._cost(self._validation)
        left = seconds * cost / max(1.0, self._cost([probe])) / self._ranks.size
        on_top = "" if self._rollouts is None else " Writing rollouts comes on top."
        if self._ranks.is_first:
            say(
                f"{self._folder.path}: about {describe_seconds(left)} for {steps} steps and "
                f"{validations} validations on {device.type}, by a timed pass over "
                f"{len(probe.sequence)} tokens.{on_top}"
            )

    def _cost(self, examples: SequenceABC[Example]) -> float:
        """FLOPs of training on some examples, or their tokens where FLOPs are not known."""
        if self._flops.knows_all:
            flops = self._flops.compute(examples)
            return flops.student + flops.teacher
        return sum(map(num_forwarded_tokens, examples))

    def _step(self, step: int) -> dict[str, Any]:
        started = time.perf_counter()
        self._before_step = self._state()
        members = self._members(step)
        written = self._write_rollouts(step)
        num_rollouts = len(written)
        rolled = [rollout.example for rollout in written]
        chosen = self._examples.at_step(step, self._num_steps, members[num_rollouts:])
        num_scored = max(1, sum(example.num_scored_tokens for example in [*rolled, *chosen]))
        sums = self._run_passes(chosen, num_scored, backward=True)
        about_rollouts: Mapping[str, Any] = {}
        if rolled:
            kds: list[tuple[int, list[float]]] = []
            sums = sums + self._run_passes(rolled, num_scored, backward=True, rollout_kds=kds)
            about_rollouts = self._log_rollouts(step, written, kds)
        loss = float(sums[0]) / num_scored
        factor = compute_lr_factor(step, self._num_steps, self._training)
        for group in self._optimizer.param_groups:
            group["lr"] = self._training.learning_rate * factor
        norm = torch.nn.utils.clip_grad_norm_(
            [p for p in self._objective.parameters() if p.requires_grad],
            self._training.max_grad_norm,
        )
        grad_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            rows = ", ".join(example.sequence.trace_id for example in [*rolled, *chosen])
            raise RunError(
                f"{self._folder.path}: step {step + 1} has loss {loss} and gradient norm {grad_norm}; "
                f"its rows are {rows}. Look at them, or lower training.learning_rate."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._ranks.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        chosen = [*rolled, *chosen]
        speed = self._count(step, chosen, loss, num_scored, seconds)
        record = {
            "kind": "train",
            "step": step + 1,
            "epoch": (step + 1) / self._steps_per_epoch,
            "loss": loss,
            **section_means(sums),
            "learning_rate": self._training.learning_rate * factor,
            "grad_norm": grad_norm,
            "tokens_forwarded": sum(map(num_forwarded_tokens, chosen)),
            "tokens_scored": num_scored,
            **about_rollouts,
            "seconds": seconds,
            **speed,
        }
        self._append(record)
        self._before_step = None
        return record

    def _run_passes(
        self,
        examples: SequenceABC[Example],
        num_scored: int,
        backward: bool,
        rollout_kds: list[tuple[int, list[float]]] | None = None,
    ) -> torch.Tensor:
        """Forward (and backward) this rank's share of `examples`.

        Args:
            examples: Of the step, the same on every rank.
            num_scored: Scored tokens of the whole step; the loss is divided by it.
            backward: Compute gradients too.
            rollout_kds: The examples are rollouts; receives the index of each of this rank's and its
                divergence by decile.

        Returns:
            float64 sums over all ranks: loss, for each section its count, cross-entropy and KD, and the
            mass of teacher and student on a sparse teacher's kept ids.
        """
        sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=self._ranks.device)
        for place in sorted({teacher_of(example.sequence) for example in examples}):
            teacher = self._teachers[place] if self._teachers else None
            factor = self._weights[place] if self._teachers else 1.0
            passes = self._passes(examples, place)
            batches = [collate([examples[i] for i in members], self._packed) for members in passes]
            if teacher is not None:
                self._prepare_teacher(teacher, batches, keep=not backward)
            for members, collated in zip(passes, batches, strict=True):
                batch = collated.to(self._ranks.device)
                teacher_rows = teacher.rows(batch) if teacher is not None else None
                with bf16_products(self._ranks.device, self._bf16):
                    total, ce_N, kd_N, kept_N2 = self._objective(
                        batch, teacher_rows, is_rollout=rollout_kds is not None
                    )
                if backward:
                    (factor * total / num_scored).backward()
                sums[0] += factor * total.detach().double()
                sums[1:-2] += section_sums(batch, ce_N, kd_N)
                if kept_N2 is not None:
                    sums[-2:] += kept_N2.double().sum(dim=0)
                if rollout_kds is not None:
                    parts = kd_N.cpu().split([one.num_scored_tokens for one in batch.examples])
                    rollout_kds += zip(members, map(by_decile, parts), strict=True)
        return self._ranks.sum(sums)

    def _passes(self, examples: SequenceABC[Example], place: int) -> list[list[int]]:
        """This rank's forward passes over the examples of one teacher, as indices into `examples`."""
        taught = [i for i, each in enumerate(examples) if teacher_of(each.sequence) == place]
        plan = plan_micro_batches(
            [num_forwarded_tokens(examples[index]) for index in taught],
            self._training.micro_batch_tokens,
            self._ranks.size,
            self._packed,
        )[self._ranks.rank]
        return [[taught[index] for index in members] for members in plan]

    def _prepare_teacher(
        self, teacher: TeacherSource, batches: SequenceABC[Batch], keep: bool
    ) -> None:
        """Have the teacher answer for the batches of a pass; one that does not is asked once more."""
        try:
            self._ranks.together(lambda: teacher.prepare(batches, keep))
        except RunError as error:
            say(f"{self._folder.path}: {error} Asking once more.")
            try:
                self._ranks.together(lambda: teacher.prepare(batches, keep))
            except RunError as again:
                self._stop_without("teacher rows", again)

    def _members(self, step: int) -> list[int]:
        """Indices of the step's examples."""
        size = self._training.batch_size
        members: list[int] = self._order[step * size : (step + 1) * size].tolist()
        return members

    def _prompts(self, members: SequenceABC[int]) -> list[Sequence]:
        """Whose rollouts a step has: the first of its members are prompts, not traces."""
        if self._rollouts is None:
            return []
        return self._examples.sequences(members[: self._rollouts.num_prompts])

    def _write_rollouts(self, step: int) -> list[Rollout]:
        """The rollouts of a step; those of the steps that share its weights are written with them."""
        if self._rollouts is None:
            return []
        started = time.perf_counter()
        if not self._rollouts.is_written(step):
            steps = range(self._num_steps)[step : step + self._rollouts.refresh_every_steps]
            prompts = {each: self._prompts(self._members(each)) for each in steps}
            try:
                self._rollouts.write(prompts, self._num_steps, len(self._validation_steps))
            except RunError as error:
                self._stop_without("rollouts", error)
        written = self._rollouts.take(step, self._prompts(self._members(step)))
        examples = [one.example for one in written]
        flops = self._flops.compute_rollouts(examples)
        totals = self._totals
        totals.tokens_sampled += sum(example.num_scored_tokens for example in examples)
        totals.rollout_flops += flops
        totals.student_flops += flops
        totals.useful_flops += flops
        totals.rollout_seconds += time.perf_counter() - started
        return written

    def _log_rollouts(
        self, step: int, written: SequenceABC[Rollout], kds: list[tuple[int, list[float]]]
    ) -> Mapping[str, Any]:
        """Put the step's rollouts into `rollouts.jsonl`; gives what metrics.jsonl says of them."""
        by_index = dict(pair for part in self._ranks.gather(kds) for pair in part)
        records = [
            describe_rollout(step + 1, rollout, by_index[place])
            for place, rollout in enumerate(written)
        ]
        if self._ranks.is_first:
            self._rollout_log.add(records)
        return describe_step(records)

    @torch.no_grad()
    def _validate(self) -> float:
        started = time.perf_counter()
        self._objective.eval()
        sums = self._run_passes(self._validation, 1, backward=False)
        self._objective.train()
        loss = float(sums[0]) / max(1.0, float(sums[1:-2:3].sum()))
        if not math.isfinite(loss):
            raise RunError(f"{self._folder.path}: the validation loss is {loss}.")
        totals = self._totals
        if totals.best_val_loss is None or loss < totals.best_val_loss:
            totals.best_val_loss, totals.best_step = loss, totals.step
            state = {"step": totals.step, "val_loss": loss}
            folder = best_folder(self._folder.checkpoints_path, totals.step)
            save_checkpoint(folder, self._ranks, self._objective, None, state)
            self._drop_old()
        totals.validation_seconds += time.perf_counter() - started
        if self._rollouts is not None:
            self._rollouts.note_validation()
        self._append(
            {"kind": "validation", "step": totals.step, "val_loss": loss, **section_means(sums)}
        )
        return loss

    def _compute_num_steps(self) -> int:
        if self._training.budget is None:
            return compute_num_steps(self._training, len(self._examples))

        def cost_of(indices: SequenceABC[int]) -> float:
            rolled = self._rollouts.expected(self._prompts(indices)) if self._rollouts else []
            chosen = self._examples.at(0.0, indices[len(rolled) :])
            if self._training.budget and self._training.budget.tokens:
                return sum(map(num_forwarded_tokens, chosen))
            flops = self._flops.compute([*rolled, *chosen])
            return flops.student + flops.teacher + self._flops.compute_rollouts(rolled)

        return compute_budget_steps(self._training, len(self._examples), self._config.seed, cost_of)

    def _count(
        self, step: int, chosen: list[Example], loss: float, num_scored: int, seconds: float
    ) -> dict[str, float]:
        """Add a step to the totals; gives its speed."""
        totals = self._totals
        totals.step = step + 1
        totals.train_seconds += seconds
        num_forwarded = sum(map(num_forwarded_tokens, chosen))
        totals.tokens_forwarded += num_forwarded
        totals.tokens_scored += num_scored
        totals.teacher_tokens_forwarded += sum(
            num_forwarded_tokens(as_teacher_reads(example))
            for example in chosen
            if self._teachers
            and self._teachers[teacher_of(example.sequence)].model_config is not None
        )
        flops = self._flops.compute(chosen)
        totals.student_flops += flops.student
        totals.teacher_flops += flops.teacher
        totals.useful_flops += flops.useful
        if step >= (1 - TAIL_SHARE) * self._num_steps - 1:
            totals.tail_loss += loss * num_scored
            totals.tail_tokens += num_scored
        return self._speed(num_forwarded, flops.useful, seconds)

    def _speed(self, num_tokens: int, useful_flops: int, seconds: float) -> dict[str, float]:
        """Tokens a second over all ranks, and the share of their peak (MFU) where that is known."""
        seconds = max(seconds, 1e-9)
        speed = {"tokens_per_second": num_tokens / seconds}
        peak = self._peak_flops if self._flops.knows_all else None
        if peak is not None:
            speed["mfu"] = useful_flops / seconds / peak / self._ranks.size
        return speed

    def _tracker(self) -> AbstractContextManager[Log]:
        tracking = self._config.tracking
        return open_tracker(
            tracking.tracker if self._ranks.is_first else None,
            self._folder.path,
            tracking.project,
            self._config.model_dump(mode="json"),
        )

    def _append(self, record: dict[str, Any]) -> None:
        if self._ranks.is_first:
            self._folder.append_metrics(record)
            numbers = {
                f"{record['kind']}/{name}": value
                for name, value in record.items()
                if isinstance(value, int | float)  # trackers take no lists
            }
            self._log(numbers, record["step"])

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights and optimiser, but for the log."""
        return {
            "totals": asdict(self._totals),
            "rollouts": self._rollouts.state() if self._rollouts is not None else None,
        }

    def _save_step(self, state: dict[str, Any] | None = None) -> None:
        """Write a checkpoint of the last step, with the state as it is now if none is given."""
        if self._saved_step == self._totals.step:
            return
        folder = step_folder(self._folder.checkpoints_path, self._totals.step)
        metrics = self._folder.describe_metrics() if self._ranks.is_first else None
        state = {**(state or self._state()), "metrics": metrics}
        save_checkpoint(folder, self._ranks, self._objective, self._optimizer, state)
        self._saved_step = self._totals.step
        self._drop_old()

    def _drop_old(self) -> None:
        if self._ranks.is_first:
            drop_old(self._folder.checkpoints_path, self._totals.best_step)

    def _stop_early(self) -> None:
        self._save_step()
        raise RunStopped(
            f"{self._folder.path}: stopped at step {self._totals.step} of {self._num_steps}, "
            "checkpoint written. The same command goes on from there."
        )

    def _stop_without(self, missing: str, error: RunError) -> NoReturn:
        """A server gave up, before the step has changed any weight: keep what was before the step."""
        if self._totals.step and self._before_step is not None:
            self._save_step(self._before_step)
        raise RunError(
            f"{self._folder.path}: no {missing} for step {self._totals.step + 1}: {error} The same "
            "command goes on from the last checkpoint."
        ) from error

    def _summary(self) -> dict[str, Any]:
        totals = self._totals
        if totals.best_step is not None:
            folder = self._folder.checkpoints_path
            load_best(folder, self._ranks, self._objective, totals.best_step)
        total_gib, step_gib = self._peak_memory.read()
        flops = totals.student_flops + totals.teacher_flops
        return {
            "steps": totals.step,
            "train_loss": totals.tail_loss / max(1, totals.tail_tokens),
            "val_loss": totals.best_val_loss,
            "best_step": totals.best_step,
            "train_seconds": totals.train_seconds,
            "validation_seconds": totals.validation_seconds,
            "mfu": None,
            **self._speed(totals.tokens_forwarded, totals.useful_flops, totals.train_seconds),
            "peak_memory_gib": total_gib,
            "peak_step_memory_gib": step_gib,
            "train_flops": flops if self._flops.knows_student else None,
            "teacher_flops": totals.teacher_flops,
            "flops_attention": self._flops.attention,
            "tokens_forwarded": totals.tokens_forwarded,
            "tokens_scored": totals.tokens_scored,
            "teacher_tokens_forwarded": totals.teacher_tokens_forwarded,
            "tokens_sampled": totals.tokens_sampled,
            "rollout_flops": totals.rollout_flops,
            "rollout_seconds": totals.rollout_seconds,
        }


def compute_validation_steps(num_steps: int, every_steps: float) -> frozenset[int]:
    """After which steps to validate: at each multiple of `every_steps`, rounded, and at the end."""
    count = math.floor(num_steps / every_steps)
    steps = {max(1, round(every_steps * place)) for place in range(1, count + 1)}
    return frozenset(steps | {num_steps})
