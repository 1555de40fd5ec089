"""One training run: from run.yaml, or from what `training.distill` was given, to a student on disk."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from leadspan.config import PACKING, ModelConfig, RunConfig, TeacherConfig
from leadspan.display import counted, line
from leadspan.errors import DataError
from leadspan.extras import check_extras
from leadspan.identity import (
    digest,
    loaded_model_fingerprint,
    model_fingerprint,
    sequences_fingerprint,
)
from leadspan.integrity import write_checksums
from leadspan.losses.heads import check_head
from leadspan.models import (
    backbone_of,
    causal_lm_of,
    check_head_width,
    check_packing,
    export_adapter,
    export_student,
    load_student,
    load_tokenizer,
    real_vocab_size,
)
from leadspan.parallel import (
    Ranks,
    join_ranks,
    load_sharded,
    shard_student,
    shard_teacher,
)
from leadspan.pins import settled
from leadspan.precision import describe_precision, explain_bf16, resolve_bf16, settle_precision
from leadspan.progress import say, warn
from leadspan.records import Example, Sequence
from leadspan.runs import (
    RunFolder,
    describe_environment,
    lock_folder,
    replacing,
    write_json_atomic,
)
from leadspan.teachers.cache import TeacherCache, load_cached_teacher
from leadspan.teachers.cache_format import identity_json
from leadspan.teachers.live import (
    LiveTeacher,
    TeacherSource,
    TeacherVocabulary,
    check_given_teacher,
    joint_vocabulary,
    load_teacher,
    own_vocabulary,
    read_shared_vocabulary,
)
from leadspan.teachers.served import ServedTeacher
from leadspan.traces.cut import Cut
from leadspan.traces.dataset import Annotate, build_sequences
from leadspan.traces.horizon import check_context, num_most_tokens
from leadspan.traces.render import Renderer
from leadspan.training.checkpoint import gather_weights
from leadspan.training.data import ExampleSource, describe_cut, sequence_of
from leadspan.training.engines import build_engine
from leadspan.training.objective import Objective
from leadspan.training.rollouts import RolloutWriter, closing_ids
from leadspan.training.trainer import Trainer

Sequences = SequenceABC[Sequence | Example]


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A complete run."""

    path: Path
    student_path: Path
    """An ordinary Hugging Face folder."""
    manifest: Mapping[str, Any]

    def __repr__(self) -> str:
        losses = {"loss": "train_loss", "validation loss": "val_loss"}
        known = {name: self.manifest.get(key) for name, key in losses.items()}
        facts = [f"{name} {value:.4g}" for name, value in known.items() if value is not None]
        return line(self, str(self.path), counted(self.manifest.get("steps", 0), "step"), *facts)


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What a run is made of besides its config."""

    tokenizer: Any
    """The student's."""
    train: Sequences
    validation: Sequences = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What became of the rows, for the manifest."""
    student: Any = None
    """A model in memory, of which a copy is trained; None loads the one of the config."""
    teacher: Any = None
    """A model in memory; None loads the one of the config."""


def train(config: RunConfig, output: Path, annotate: Annotate | None = None) -> TrainedRun:
    """Train as run.yaml says, or go on where an earlier call was stopped.

    Args:
        config: The run.
        output: The run folder.
        annotate: Adds each trace's own cut point, where the cut asks for one.

    Raises:
        LeadspanError: Config, data, models or run folder are not fit for it.
    """
    check_extras(config)
    with join_ranks() as ranks:
        config = ranks.from_first(partial(settled, config, output))
        tokenizer = load_tokenizer(config.student, config.render)
        data = build_sequences(config, tokenizer, annotate)
        counts = {"refused": dict(data.refused), "notes": dict(data.notes)}
        inputs = RunInputs(tokenizer, data.train, data.validation, counts)
        return complete_run(config, output, ranks, inputs)


def complete_run(config: RunConfig, output: Path, ranks: Ranks, inputs: RunInputs) -> TrainedRun:
    """Claim the folder, and train in it unless it holds the complete run.

    Raises:
        LeadspanError: Config, inputs or folder are not fit for it.
    """
    folder = RunFolder(output)
    with lock_folder(output) if ranks.is_first else nullcontext():
        precision = describe_precision(config, ranks.device)
        if ranks.is_first:
            described = {**describe_environment(), **_describe_torch(), "precision": precision}
            for change in folder.claim(config, described):
                warn(f"{output}: the last bits may differ from what was begun: {change}")
            folder.claim_inputs(_fingerprints(config, inputs))
        ranks.barrier()
        if not folder.is_complete:
            config = _settle(folder, config, precision, ranks)
            return _train_in(folder, config, ranks, inputs)
        say(f"{output}: already complete.")
        return TrainedRun(output, folder.student_path, folder.manifest)


def _settle(folder: RunFolder, config: RunConfig, here: dict[str, Any], ranks: Ranks) -> RunConfig:
    """The config in the precision that the run was begun in, whatever this machine would choose."""
    begun: dict[str, Any] = folder.environment.get("precision") or here
    if ranks.is_first and begun != here:
        warn(
            f"{folder.path}: was begun with {begun} and goes on so; this machine would choose "
            f"{here}. Give another --output to train in that precision."
        )
    elif ranks.is_first and config.training.bf16 == "auto":
        why = explain_bf16("training.bf16", begun["bf16"], ranks.device)
        say(f"{folder.path}: {why}")
    return settle_precision(config, begun)


def _fingerprints(config: RunConfig, inputs: RunInputs) -> dict[str, str | None]:
    """Fingerprints of everything the weights depend on besides the config."""
    found = {
        "training sequences": sequences_fingerprint(inputs.train),
        "validation sequences": sequences_fingerprint(inputs.validation),
        "student": _model_fingerprint(config.student, inputs.student),
    }
    for place, teacher in enumerate(config.all_teachers):
        name = f"teacher {place}" if config.teachers else "teacher"
        if teacher.is_live:
            found[name] = _model_fingerprint(teacher, inputs.teacher)
        elif teacher.cache is not None:
            made = identity_json(TeacherCache(teacher.cache).identity)
            found["teacher cache"] = digest(json.dumps(made, sort_keys=True))
    return found  # a server keeps its weights to itself


def _model_fingerprint(config: ModelConfig, model: Any) -> str | None:
    if model is not None:
        return loaded_model_fingerprint(model)
    return model_fingerprint(config.path, config.revision)


def _train_in(folder: RunFolder, config: RunConfig, ranks: Ranks, inputs: RunInputs) -> TrainedRun:
    torch.manual_seed(config.seed)
    tokenizer = inputs.tokenizer
    built = [
        build_teacher(config, teacher, tokenizer, ranks, inputs.teacher)
        for teacher in config.all_teachers
    ]
    vocabulary = joint_vocabulary([each for _, each in built])
    cut = Cut(config.truncation, config.supervision)
    examples = ExampleSource(cut, inputs.train, vocabulary, config.takes_prompts)
    held_out = ExampleSource(cut, inputs.validation, vocabulary)
    validation = held_out.at(1.0)
    if not len(examples):
        raise DataError(
            f"{config.traces.path}: nothing is left to train on; of {len(inputs.train)} sequences "
            f"{examples.num_dropped} hold no scored token after the cut and {examples.num_unread} hold "
            "tokens that the teacher does not have. Raise truncation.lsp, score more sections, or take "
            "a teacher with the student's tokenizer."
        )
    own_size = real_vocab_size(tokenizer)
    vocab_size = vocabulary.size if vocabulary is not None else own_size
    unshared = {
        "vocabulary_shared": vocab_size,
        "unshared_labels": examples.num_with_unshared_labels + held_out.num_with_unshared_labels,
        "unread_by_teacher": examples.num_unread + held_out.num_unread,
    }
    if ranks.is_first and vocabulary is not None and vocab_size < own_size:
        say(
            f"{folder.path}: {vocabulary.described}. Rows with labels outside, which are not scored: "
            f"{unshared['unshared_labels']}; left out, the teacher cannot read them: "
            f"{unshared['unread_by_teacher']}."
        )
    for teacher, _ in built:
        if config.student.attention in PACKING and isinstance(teacher, LiveTeacher):
            check_packing(teacher.model_config, ranks.device, "teacher")
    objective = _load_objective(config, ranks, own_size, vocab_size, inputs.student)
    bf16 = resolve_bf16(config.training.bf16, ranks.device)
    teachers = [
        teacher or LiveTeacher(objective.student, bf16, without_adapter=True)
        for teacher, _ in built
    ]
    rollouts = build_rollouts(config, ranks, objective, tokenizer, inputs.train)
    measured = Trainer(
        config, folder, ranks, objective, teachers, examples, validation, rollouts
    ).run()
    manifest = {
        **measured,
        "kd_ratio": config.loss.kd_ratio,
        "num_train": len(examples),
        "num_validation": len(validation),
        "nothing_to_score": examples.num_dropped,
        **describe_cut(inputs.train, examples.at(0.0)),
        **unshared,
        **inputs.counts,
        "num_parameters": sum(parameter.numel() for parameter in objective.parameters()),
        "device": _device_name(ranks.device),
        "bf16": resolve_bf16(config.training.bf16, ranks.device),
        "num_ranks": ranks.size,
    }
    weights = gather_weights(objective) if ranks.size > 1 else None
    if ranks.is_first:
        if weights is not None:
            objective = Objective(load_student(config.student), config.loss, vocab_size)
            objective.load_state_dict(weights, strict=False)
        if config.student.lora is not None:
            with replacing(folder.adapter_path) as temporary:  # before its weights are merged
                export_adapter(objective.student, tokenizer, temporary)
                write_checksums(temporary)
        with replacing(folder.student_path) as temporary:
            export_student(objective.student, tokenizer, temporary)
            write_checksums(temporary)
        write_json_atomic(folder.manifest_path, manifest)
    ranks.barrier()
    return TrainedRun(folder.path, folder.student_path, manifest)


def build_rollouts(
    config: RunConfig,
    ranks: Ranks,
    objective: Objective,
    tokenizer: Any,
    given: Sequences,
) -> RolloutWriter | None:
    """What writes the run's rollouts, where it has any.

    Raises:
        ConfigError: Prompts and horizon do not fit the student, or see `build_engine`.
        DataError, RunError: See `build_engine`.
    """
    if config.rollout is None:
        return None
    sequences = [sequence_of(one) for one in given]
    check_context(config.rollout, sequences, objective.causal_lm.config, config.student.path)
    longest = max(num_most_tokens(config.rollout, one) for one in sequences)
    engine, stop_ids = build_engine(config, ranks, objective, tokenizer, longest)
    return RolloutWriter(
        config.rollout,
        engine,
        ranks,
        decode=partial(
            tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False
        ),
        vocab_size=objective.vocab_size,
        stop_ids=stop_ids,
        batch_size=config.training.batch_size,
        close_ids=closing_ids(Renderer(tokenizer, config.render)),
        seed=config.seed,
    )


def _load_objective(
    config: RunConfig, ranks: Ranks, own_size: int, vocab_size: int, given: Any = None
) -> Objective:
    """The student and its loss, checked, on this rank's device; sharded where there are several.

    Args:
        config: The run.
        ranks: Every rank calls this.
        own_size: Of the student's own vocabulary.
        vocab_size: Of what it shares with the teacher.
        given: A model in memory to train a copy of, instead of the one of the config.
    """

    def load(device: str) -> Objective:
        if given is None:
            student = load_student(config.student, device)
        else:
            student = copy.deepcopy(given).to(device).train()
        check_head_width(student, own_size, config.student.path)
        if device != "meta":
            check_head(causal_lm_of(student), config.student.path)
        if config.student.attention in PACKING:
            check_packing(causal_lm_of(student).config, ranks.device, "student")
        if config.training.gradient_checkpointing:
            student.gradient_checkpointing_enable({"use_reentrant": False})
        return Objective(student, config.loss, vocab_size)

    def shard(objective: Objective) -> None:
        bf16 = resolve_bf16(config.training.bf16, ranks.device)
        shard_student(objective, backbone_of(objective.student).layers, bf16)

    return load_sharded(load, shard, ranks) if ranks.size > 1 else load(str(ranks.device))


def build_teacher(
    config: RunConfig, teacher: TeacherConfig, tokenizer: Any, ranks: Ranks, given: Any = None
) -> tuple[TeacherSource | None, TeacherVocabulary]:
    """The source of a teacher's rows, and what it shares with the student's vocabulary.

    Args:
        config: The run.
        teacher: One of its teachers.
        tokenizer: The student's.
        ranks: Every rank calls this.
        given: A model in memory of the student's tokenizer, instead of the one of the config.

    Returns:
        No source where it is the student without its adapter, which is not loaded yet. FSDP would have
        to gather the layers for a module that is not its root, so on several ranks it is loaded again.
    """
    student_path = config.student.path
    if teacher.cache is not None:
        cached = load_cached_teacher(teacher, config.loss, tokenizer)
        return cached, cached.vocabulary()
    if teacher.endpoint is not None:
        shared = read_shared_vocabulary(teacher, tokenizer, student_path)
        return ServedTeacher(teacher.endpoint, shared.size), shared
    if teacher.source is not None and config.student.lora is not None and ranks.size == 1:
        return None, own_vocabulary(tokenizer)
    bf16 = resolve_bf16(config.training.bf16, ranks.device)
    if given is not None:
        vocabulary = check_given_teacher(given, tokenizer, teacher.path)
        if not getattr(given, "is_quantized", False):
            given.to(ranks.device)
        return LiveTeacher(given.eval(), bf16), vocabulary
    vocabularies: list[TeacherVocabulary] = []

    def load(device: str) -> Any:
        model, _, vocabulary = load_teacher(teacher, tokenizer, student_path, device)
        vocabularies.append(vocabulary)
        return model

    if teacher.shard and ranks.size > 1:
        model = load_sharded(load, lambda whole: shard_teacher(backbone_of(whole).layers), ranks)
    else:
        model = load(str(ranks.device))
    return LiveTeacher(model, bf16), vocabularies[0]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _describe_torch() -> dict[str, Any]:
    """What the last bits of a CPU result depend on, and the card."""
    return {
        "num_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
