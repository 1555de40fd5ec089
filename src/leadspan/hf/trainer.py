"""`LeadSpanTrainer`: the objective, batches and teachers of `leadspan train` inside transformers' Trainer.

The student stays an ordinary model: only while a batch is scored does its forward give the loss, so that
what DDP or FSDP hang around a forward pass runs as for any other. Knows nothing about the loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceABC
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from leadspan.config import LossConfig, RolloutConfig, RunConfig, TeacherConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.hf.rollouts import StepRollouts
from leadspan.hf.rows import COLUMNS, Collator, is_prepared
from leadspan.losses.heads import check_head
from leadspan.models import (
    add_adapters,
    causal_lm_of,
    check_head_width,
    load_student,
    load_tokenizer,
    real_vocab_size,
)
from leadspan.parallel import Ranks
from leadspan.teachers.cache import TeacherCache
from leadspan.teachers.live import TeacherSource, TeacherVocabulary
from leadspan.traces.batches import Batch, collate
from leadspan.training.distill import DEFAULT_SECTIONS, is_model, model_keys
from leadspan.training.objective import Objective
from leadspan.training.run import build_teacher
from leadspan.training.trainer import NUM_SUMS, section_means, section_sums

NAME = "LeadSpanTrainer"


class LeadSpanTrainer(Trainer):  # type: ignore[misc]
    """Train a student on the lead of reasoning traces with transformers' Trainer.

    The loss, its teachers and its batches are those of `leadspan train`: for the same rows in the same
    order and the same optimiser settings, both give the same losses and weights. Everything else is
    Trainer's: order of the rows, optimiser, schedule, checkpoints, callbacks, trackers, the hub.

    A step's loss is divided by its scored tokens, over all micro-batches and, with
    `average_tokens_across_devices` (the default), all ranks. `evaluate()` gives the token mean over the
    evaluation set. Logs hold cross-entropy and divergence by section besides (`ce_cot`, `kd_answer`, ...).

    What Trainer cannot do, and `leadspan train` does: go on bit by bit with another number of ranks (the
    rows of a step, the order and the random state belong to each rank); tell by `run.yaml` and
    fingerprints that data or models have changed since; pack sequences without padding; balance
    micro-batches by tokens; cuts that move over the training. At the end of an epoch, several ranks see
    some rows twice so that all have as many (`even_batches` of accelerate); an evaluation counts them once.

    Args:
        model: The student: a model in memory, which is trained itself, or a folder or hub id, loaded in
            float32.
        args: Trainer's own. `label_smoothing_factor` must be 0. Several GPUs: a process each, by DDP or
            FSDP2; no DeepSpeed.
        train_dataset: Rows of a known trace format, which `lead_span` cuts here, or rows that it prepared.
        eval_dataset: The same, or a dict of such data sets.
        processing_class: The student's tokenizer; None loads it from `model` where that is a path.
        teacher: A model in memory that reads the student's token ids, a folder, a hub id, or the keys of
            `TeacherConfig`; not needed where `loss.kd_ratio` is 0.
        teacher_cache: Instead of it, a folder written by `leadspan capture`.
        lsp: Share of each raw row's sequence that is kept; prepared rows are cut already.
        sections: Which tokens of raw rows are scored; None scores cot and answer.
        loss: A LossConfig or its keys, such as `{"kd_ratio": 1.0}`.
        peft_config: A config of peft; the student is trained through its adapters, which alone are saved.
        rollout: A RolloutConfig or its keys: the student writes a share of each step's rows. Each rank
            writes its own; whole micro-batches are rollouts or traces. A share of the trace's length, as
            `horizon` or `prefix`, is of what the row has, cut or not.
        **options: Trainer's others: `callbacks`, `optimizers`, `compute_metrics`, ... A
            `compute_loss_func` stands in for the objective and is called as Trainer calls it.

    Raises:
        LeadspanError: An argument, a model, a cache or a data set is not fit for it.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        teacher: Any = None,
        teacher_cache: str | Path | None = None,
        lsp: float | None = None,
        sections: SequenceABC[str] | None = None,
        loss: LossConfig | Mapping[str, Any] | None = None,
        peft_config: Any = None,
        rollout: RolloutConfig | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _check_arguments(args)
        rows_of_a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
        config = validate(
            RunConfig,
            {
                "student": model_keys(model, "model", NAME),
                "teacher": _teacher_keys(teacher, teacher_cache),
                "traces": {"path": "<train_dataset>", "validation_fraction": 0},
                "truncation": {} if lsp is None else {"lsp": lsp},
                "supervision": {"sections": tuple(sections or DEFAULT_SECTIONS)},
                "loss": loss or {},
                "rollout": rollout,
                "training": {"steps": 1, "batch_size": rows_of_a_step, "bf16": args.bf16},
                "seed": args.seed,
            },
            NAME,
        )
        self._ranks = Ranks(args.process_index, args.world_size, args.device)
        if processing_class is None:
            if is_model(model):
                raise ConfigError(
                    f"{NAME}: processing_class is required with a model in memory; give its tokenizer."
                )
            processing_class = load_tokenizer(config.student, config.render)
        student = model if is_model(model) else load_student(config.student)
        own_size = real_vocab_size(processing_class)
        check_head_width(student, own_size, config.student.path)
        check_head(causal_lm_of(student), config.student.path)
        if peft_config is not None:
            student = add_adapters(student, peft_config)
        self._lsp, self._sections, self._tokenizer = lsp, sections, processing_class
        self._teacher, vocabulary = self._build_teacher(config, teacher)
        self._loss = config.loss
        self._vocab_size = own_size if vocabulary is None else vocabulary.size
        self._check_said(train_dataset, eval_dataset)
        super().__init__(
            model=student,
            args=args,
            data_collator=Collator(vocabulary),
            train_dataset=self._prepared(train_dataset, "train_dataset"),
            eval_dataset=self._prepared(eval_dataset, "eval_dataset"),
            processing_class=processing_class,
            **options,
        )
        if self.is_deepspeed_enabled:
            raise ConfigError(f"{NAME}: DeepSpeed is not supported. Use DDP or FSDP.")
        if self.compute_loss_func is None:
            self.model_accepts_loss_kwargs = True  # so that Trainer counts a step's labels
        self._signature_columns = list(COLUMNS)
        if self.accelerator.dataloader_config.dispatch_batches is None:
            self.accelerator.dataloader_config.dispatch_batches = False  # it takes tensors alone
        self._train_sums, self._eval_sums = self._no_sums(), self._no_sums()
        self._rollouts: StepRollouts | None = None
        if config.rollout is not None:
            if self.is_fsdp_enabled:
                raise ConfigError(
                    f"{NAME}: rollout must be written by whole weights; got FSDP. Use DDP, or "
                    "`leadspan train`."
                )
            objective = self._objective_of(self.model)
            self._rollouts = StepRollouts(
                config,
                objective,
                processing_class,
                self.train_dataset,
                args.per_device_train_batch_size,
                args.device,
            )

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """As Trainer's; raw rows are cut first."""
        if eval_dataset is not None:
            eval_dataset = self._prepared(eval_dataset, "eval_dataset")
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        return metrics

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Any]:
        """A step's inputs, with its rollouts, and its scored tokens; the teacher is asked once for all."""
        inputs, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._rollouts is not None and inputs:
            inputs = self._rollouts.replace(inputs, self.state.global_step, self.state.max_steps)
            num_items = self._get_num_items_in_batch(inputs, device)
        if self._teacher is not None:
            self._teacher.prepare([each["batch"] for each in inputs])
        return inputs, num_items

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """A micro-batch's part of the step's loss: its sum over scored tokens, divided by all of the step."""
        batch: Batch | None = inputs.pop("batch", None)
        is_rollout = inputs.pop("is_rollout", False)
        if batch is None or self.compute_loss_func is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total, sums = self._score(model, batch, is_rollout)
        self._train_sums += sums
        if num_items_in_batch is None:
            loss = total / max(1, len(batch.labels_N))
        else:
            loss = total / num_items_in_batch.to(total.device).clamp(min=1)
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, Any, Any]:
        """The token mean of one batch's loss, and logits where something asks for them."""
        batch = inputs.pop("batch", None)
        if batch is None or self.compute_loss_func is not None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)  # type: ignore[no-any-return]
        batch = self._once(batch)
        if self._teacher is not None:
            self._teacher.prepare([batch], keep=True)
        with torch.no_grad():
            total, sums = self._score(model, batch)
        self._eval_sums += sums
        logits = labels = None
        if not prediction_loss_only:
            _, logits, labels = super().prediction_step(model, inputs, False, ignore_keys)
        return total.detach() / max(1, len(batch.labels_N)), logits, labels

    def evaluation_loop(
        self, *args: Any, metric_key_prefix: str = "eval", **options: Any
    ) -> EvalLoopOutput:
        """As Trainer's, with the loss as the mean over tokens instead of over batches."""
        self._eval_sums = self._no_sums()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        sums = self._ranks.sum(self._eval_sums)
        num_scored = float(sums[1:-2:3].sum())
        if num_scored:
            means = {"loss": float(sums[0]) / num_scored, **section_means(sums)}
            output.metrics.update({f"{metric_key_prefix}_{name}": v for name, v in means.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer's, with the means by section since the last log of the training loss."""
        if "loss" in logs:
            logs = {**logs, **section_means(self._ranks.sum(self._train_sums))}
            self._train_sums = self._no_sums()
        super().log(logs, start_time)

    def _build_teacher(
        self, config: RunConfig, given: Any
    ) -> tuple[TeacherSource | None, TeacherVocabulary | None]:
        """The teacher's rows and what it shares with the student; none where the loss has no use for it."""
        if not config.all_teachers:
            return None, None
        (wanted,) = config.all_teachers
        if wanted.system_prompt is not None:
            raise ConfigError(
                f"{NAME}: teacher.system_prompt must be left out: prepared rows hold no prompt of the "
                "teacher's own. Use `leadspan train`."
            )
        model = given if is_model(given) else None
        teacher, vocabulary = build_teacher(config, wanted, self._tokenizer, self._ranks, model)
        assert teacher is not None  # only the student as teacher has no source of its own
        return teacher, vocabulary

    def _check_said(self, *datasets: Any) -> None:
        """Refuse a cut of rows that are cut already."""
        parts = [part for dataset in datasets for _, part in _parts(dataset, "dataset")]
        said = self._lsp is not None or self._sections is not None
        if said and parts and all(is_prepared(part, "dataset") for part in parts):
            raise ConfigError(
                f"{NAME}: lsp and sections say nothing with prepared rows, which bring their own cut and "
                "labels; leave them out."
            )

    def _prepared(self, dataset: Any, name: str) -> Any:
        """The data set with the columns of prepared rows."""
        if dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, Mapping):
            parts = zip(dataset, _parts(dataset, name), strict=True)
            return {key: self._prepared(part, label) for key, (label, part) in parts}
        if is_prepared(dataset, name):
            return dataset
        if self._lsp is None:
            raise ConfigError(
                f"{NAME}: lsp is required where {name} holds raw rows. Write lsp=0.5 for half of each "
                "sequence, lsp=1.0 for all."
            )
        from leadspan import lead_span

        sections = tuple(self._sections or DEFAULT_SECTIONS)
        return lead_span(dataset, self._tokenizer, lsp=self._lsp, sections=sections)

    def _objective_of(self, student: Any) -> Objective:
        return Objective(student, self._loss, self._vocab_size)

    def _score(
        self, model: Any, batch: Batch, is_rollout: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed loss of a batch by one forward pass through `model`, and the sums for the log."""
        batch = batch.to(self.args.device)
        rows = self._teacher.rows(batch) if self._teacher is not None else None
        student = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        with _forward_of(student, partial(self._forward, student)):
            total, ce_N, kd_N, kept_N2 = model(batch, rows, is_rollout)
        sums = self._no_sums()
        sums[0] = total.detach()
        sums[1:-2] = section_sums(batch, ce_N, kd_N)
        if kept_N2 is not None:
            sums[-2:] = kept_N2.double().sum(dim=0)
        return total, sums

    def _forward(self, student: Any, *inputs: Any) -> Any:
        """What the student's forward is while it is scored."""
        with self.accelerator.autocast():
            total, *others = self._objective_of(student)(*inputs)
            # The loss reads the head's weight and never calls the head. FSDP may share it out together with
            # the last norm, and before torch 2.13 such a group is done only when each of it was called.
            head = causal_lm_of(student).get_output_embeddings()
            nothing_0V = head(head.weight.new_zeros(0, head.weight.shape[1]))
        return total + nothing_0V.sum(), *others

    def _once(self, batch: Batch) -> Batch:
        """The batch without the rows with which accelerate fills up the last one of an evaluation."""
        state, size = self.accelerator.gradient_state, len(batch.examples)
        if not state.end_of_dataloader or state.remainder <= 0:
            return batch
        num_real = min(size, max(0, state.remainder - self.args.process_index * size))
        return batch if num_real == size else collate(batch.examples[:num_real])

    def _no_sums(self) -> torch.Tensor:
        return torch.zeros(NUM_SUMS, dtype=torch.float64, device=self.args.device)


def _check_arguments(args: TrainingArguments) -> None:
    if args.label_smoothing_factor:
        raise ConfigError(
            f"{NAME}: args.label_smoothing_factor must be 0; got {args.label_smoothing_factor}. A teacher "
            "smooths by its distribution."
        )
    if args.n_gpu > 1:
        raise ConfigError(
            f"{NAME}: one process must have one GPU; got {args.n_gpu}. Start the script with torchrun or "
            "accelerate launch."
        )


def _teacher_keys(teacher: Any, cache: str | Path | None) -> Any:
    """What run.yaml says of the teacher; a cache knows whose it is."""
    if teacher is not None and cache is not None:
        raise ConfigError(f"{NAME}: give teacher or teacher_cache, not both.")
    if cache is not None:
        made = TeacherCache(cache).identity
        return {"path": made.teacher, "revision": made.revision, "cache": str(cache)}
    if isinstance(teacher, TeacherConfig):
        return teacher.model_dump(exclude_unset=True)
    return None if teacher is None else model_keys(teacher, "teacher", NAME)


def _parts(dataset: Any, name: str) -> list[tuple[str, Iterable[Mapping[str, Any]]]]:
    """A data set, or each of a dict of them, with its name."""
    if isinstance(dataset, Mapping):
        return [(f"{name}[{key!r}]", part) for key, part in dataset.items()]
    return [] if dataset is None else [(name, dataset)]


@contextmanager
def _forward_of(model: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, calling the model runs `forward` within its hooks; outside it is what it was."""
    own = model.__dict__.get("forward")
    model.forward = forward
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own
