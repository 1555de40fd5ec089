"""A first run.yaml for one's own teacher, student and traces, with comments, sized for a card.

Knows nothing about the command line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from leadspan.analysis.fit import CACHE_FOLDER, MICRO_BATCH_TOKENS, Fit, fit_to_card
from leadspan.config import EvaluationConfig, RunConfig
from leadspan.config_io import validate
from leadspan.config_reference import SCHEMA_FILE, build_run_schema, write_full_yaml
from leadspan.runs import write_text_atomic

HEAD = """\
# yaml-language-server: $schema={schema}
# A run of leadspan: {student} learns from {teacher} on {traces}.
# Check it before a GPU is busy:  leadspan doctor {path}
# Train, and evaluate:            leadspan train {path}
# Change one key for one run:     leadspan train {path} --set {key}
"""
BODY = """\

teacher:
  path: {teacher}        # folder or hub id; not needed with loss.kd_ratio 0
{cache}student:
  path: {student}        # folder or hub id
{lora}traces:
  path: {traces}         # JSONL, Parquet, folder, glob or hub id; the format is detected
  max_tokens: 4096       # longer traces are left out and counted
  validation_fraction: 0.05
{sample}{sequences}training:
{length}  learning_rate: {learning_rate}
  gradient_checkpointing: {checkpointing}
evaluation:
  benchmarks: []         # for example [{{path: gsm8k}}] or [{{path: my_problems.jsonl}}]
  batch_size: {answers:<11}# answers written side by side
  sampling:
    max_new_tokens: 4096
seed: 0
"""
CACHE = f"""\
  cache: {CACHE_FOLDER}   # written once by: leadspan capture {{path}} --output {CACHE_FOLDER}
"""
LORA = """\
  dtype: bfloat16        # of the frozen weights, which lose nothing by it
  lora:
    rank: 32
    alpha: 64            # the adapters' update is multiplied by alpha / rank
"""
OFF_POLICY = """\
truncation:
  lsp: 0.5               # Lead-Span Proportion: the share of each sequence that is kept
{cut}supervision:
  sections: [cot, answer]    # any of prompt, cot, answer
loss:
  kd_ratio: 0.5          # (1 - kd_ratio) * CE + kd_ratio * KD; 0 is plain fine-tuning
  divergence: forward_kl # KL(teacher || student)
"""
ON_POLICY = """\
rollout:                 # the student writes, the teacher scores every token: docs/on-policy.md
  share: 1.0             # of each step's sequences; below 1 the others are traces
{horizon}  num_samples: 1         # rollouts of each prompt in a step
loss:
  kd_ratio: 1.0          # a rollout has no label: the teacher's term is the whole loss
  divergence: forward_kl # or reverse_kl, entropy_gated_kl, jsd, ...
"""
WHOLE_RUN = {
    "sample": "",
    "cut": "",
    "horizon": "  horizon: 0.5           # most tokens: a number, or a share of the prompt's own trace\n",
    "length": """\
  epochs: 2
  batch_size: 8          # sequences per optimiser step
  micro_batch_tokens: {tokens}  # padded tokens per forward pass: lower it if memory is short
""",
    "checkpointing": "{recomputes}",
}
FIRST_RUN = {
    "horizon": "  horizon: 64            # most tokens, of a first run; 0.5 is half of the trace\n",
    "sample": "  sample: 40             # of a first run; delete the line to use all traces\n",
    "cut": "  max_tokens: 384        # of a first run, after lsp; delete the line to keep the whole lead\n",
    "length": """\
  steps: 4               # of a first run on a CPU; for a real one on a GPU write epochs: 2 instead,
  batch_size: 2          # 8,
  micro_batch_tokens: 768    # 16384,
  validate_every_epochs: 1   # 0.1,
""",
    "checkpointing": "false  # and true",
}
"""Sized so that a 0.6B student and a 1.7B teacher should end within ten minutes on two CPU cores."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a first run is to be."""

    teacher: str
    """Folder or hub id."""
    student: str
    """Folder or hub id."""
    traces: str
    """File, folder or hub id."""
    on_policy: bool = False
    """The student writes the sequences."""
    lora: bool = False
    """Adapters, whether or not all weights would fit."""
    first_run: bool = False
    """A few short steps that a CPU gets through, to see every part at work."""


def fit_wishes(wishes: Wishes, card_gib: float) -> Fit:
    """Settings with which the run fits a card; see `analysis.fit`."""
    return fit_to_card(_read(_body("run.yaml", wishes)), card_gib)


def write_starter(path: Path, wishes: Wishes, fit: Fit | None = None, full: bool = False) -> Path:
    """Write run.yaml, and beside it the schema that its first line names.

    Args:
        path: Where.
        wishes: What the run is to be.
        fit: Its settings for a card; None takes those of a large one.
        full: Every key with its default and its help.

    Returns:
        Where the schema is.
    """
    body = _body(str(path), wishes, None if fit is None else fit.config)
    assert fit is None or _read(body) == fit.config
    head = HEAD.format(
        schema=SCHEMA_FILE,
        path=path,
        student=wishes.student,
        teacher=wishes.teacher,
        traces=wishes.traces,
        key="rollout.horizon=0.25" if wishes.on_policy else "truncation.lsp=0.25",
    )
    sized = "" if fit is None else "".join(f"# {line}\n" for line in describe_fit(fit))
    schema = path.with_name(SCHEMA_FILE)
    write_text_atomic(schema, json.dumps(build_run_schema(), indent=1) + "\n")
    write_text_atomic(
        path, head + sized + (write_full_yaml(yaml.safe_load(body)) if full else body)
    )
    return schema


def describe_fit(fit: Fit) -> list[str]:
    """What the card holds, and why each setting is as it is."""
    tokens = fit.config.traces.max_tokens
    lsp = "" if fit.config.takes_prompts else ", at any lsp"
    return [
        f"Sized for a card of {fit.card_gib:g} GiB: predicted to need {fit.needed_gib:.1f} GiB",
        f"- traces are taken to be {tokens} tokens long (traces.max_tokens){lsp}",
        *(f"- {reason}" for reason in fit.reasons),
    ]


def _read(text: str) -> RunConfig:
    return validate(RunConfig, yaml.safe_load(text), "init")


def _body(path: str, wishes: Wishes, fitted: RunConfig | None = None) -> str:
    """The keys, as wished, or as they fit."""
    has_cache = fitted is not None and fitted.teacher is not None and not fitted.teacher.is_live
    has_lora = wishes.lora or (fitted is not None and fitted.student.lora is not None)
    training = None if fitted is None else fitted.training
    size = FIRST_RUN if wishes.first_run else WHOLE_RUN
    sequences = ON_POLICY if wishes.on_policy else OFF_POLICY
    recomputes = training is None or training.gradient_checkpointing
    return BODY.format(
        teacher=wishes.teacher,
        student=wishes.student,
        traces=wishes.traces,
        cache=CACHE.format(path=path) if has_cache else "",
        lora=LORA if has_lora else "",
        sample=size["sample"],
        sequences=sequences.format(**size),
        length=size["length"].format(
            tokens=MICRO_BATCH_TOKENS[0] if training is None else training.micro_batch_tokens
        ),
        answers=(EvaluationConfig() if fitted is None else fitted.evaluation).batch_size,
        learning_rate="1.0e-4" if has_lora else "4.0e-6",
        checkpointing=size["checkpointing"].format(recomputes=str(recomputes).lower()),
    )
