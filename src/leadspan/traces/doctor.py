"""What would go wrong with a run, found before a model is loaded, each with its mend.

Looks at tokenizers, templates, model configs (not weights) and real rows. `train` runs it first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from leadspan.config import ModelConfig, RunConfig
from leadspan.errors import LeadspanError
from leadspan.models import (
    check_same_vocabulary,
    end_of_turn_id,
    load_tokenizer,
    read_model_config,
    read_stop_ids,
    real_vocab_size,
)
from leadspan.records import Sequence, Trace
from leadspan.traces.cut import Cut
from leadspan.traces.cut_report import report_cuts
from leadspan.traces.dataset import Annotate, build_sequences, iter_sequences
from leadspan.traces.layout import Layout
from leadspan.traces.render import Renderer
from leadspan.traces.sources import LoadedTraces

ROWS_LOOKED_AT = 64
REFUSED_WORTH_A_WARNING = 0.05
CHECKPOINT_COPIES = 4
"""float32 weights and two Adam moments of a resumable checkpoint, and the best weights."""
PROBE = "leadspan looks whether this thought survives"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at."""

    level: Literal["ok", "warning", "error"]
    check: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f" {self.mend}" if self.mend else ""
        return f"{self.level:7} {self.check}: {self.message}{mend}"


Findings = Iterator[Finding]


def examine(
    config: RunConfig, output: Path | None = None, annotate: Annotate | None = None
) -> list[Finding]:
    """Look at everything that can be known without loading weights.

    Args:
        config: The run.
        output: Its folder, for the room on its disk; the current folder where None.
        annotate: Adds each trace's own cut point, where the cut asks for one.
    """
    findings: list[Finding] = []
    tokenizer = _try(findings, "student tokenizer", lambda: _tokenizer(config.student))
    if tokenizer is None:
        return findings
    findings += _head("student", config.student, tokenizer)
    if config.teacher is not None and config.teacher.cache is None:
        findings += _teacher(config, tokenizer)
    renderer = _try(findings, "chat template", lambda: Renderer(tokenizer, config.render))
    if renderer is None:
        return findings
    tokenizer.chat_template = renderer.layout.template
    findings += [*_special_tokens(tokenizer), *_stop_tokens(config.student, tokenizer)]
    findings += _template(renderer, tokenizer)
    rows = _try(findings, "rows", lambda: _first_rows(config, renderer))
    if rows is not None:
        findings += _real_rows(renderer, rows)
        findings += _whole_set(config, tokenizer, annotate)
    return [*findings, *_disk(config, output or Path())]


def _try(findings: list[Finding], check: str, work: Callable[[], Any]) -> Any:
    """The result of `work`, or None and an error among the findings."""
    try:
        return work()
    except LeadspanError as error:
        findings.append(Finding("error", check, str(error)))
        return None


def _tokenizer(model: ModelConfig) -> Any:
    return load_tokenizer(model.path, model.revision)


def _special_tokens(tokenizer: Any) -> Findings:
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if pad is None:
        yield Finding("warning", "pad", "the tokenizer has none; eos pads, which the mask hides.")
    elif pad == eos:
        mend = "Trainers that mask by pad never learn to stop; this one masks by length."
        yield Finding("warning", "pad", f"pad and eos are both {tokenizer.pad_token!r}.", mend)
    else:
        yield Finding("ok", "pad", f"{tokenizer.pad_token!r}, eos {tokenizer.eos_token!r}")
    end = end_of_turn_id(tokenizer)
    name = tokenizer.convert_ids_to_tokens(end)
    if end == eos:
        yield Finding("ok", "end of turn", f"{name!r} is the eos")
    else:
        mend = "The exported student's generation_config stops at both."
        eos_name = tokenizer.eos_token
        yield Finding(
            "warning", "end of turn", f"turns end in {name!r}, eos is {eos_name!r}.", mend
        )
    if tokenizer.chat_template is None:
        mend = "Give render.chat_template to have another one."
        yield Finding("warning", "chat template", "none; prompts are rendered plainly.", mend)


def _head(name: str, model: ModelConfig, tokenizer: Any) -> Findings:
    try:
        width = read_model_config(model).vocab_size
    except LeadspanError as error:
        yield Finding("error", f"{name} config", str(error))
        return
    vocabulary = real_vocab_size(tokenizer)
    sizes = f"{vocabulary:,} tokens in a head of {width:,}"
    if width < vocabulary:
        yield Finding("error", f"{name} head", f"{sizes}.", "Resize the token embeddings.")
    else:
        yield Finding("ok", f"{name} head", sizes)


def _stop_tokens(model: ModelConfig, tokenizer: Any) -> Findings:
    stops, end = read_stop_ids(model), end_of_turn_id(tokenizer)
    if end in stops:
        yield Finding("ok", "generation_config", f"stops at the end of turn ({end})")
    elif stops:
        said = f"the student stops at {', '.join(map(str, stops))}, turns end in {end}."
        yield Finding("warning", "generation_config", said, "Repaired in the exported student.")


def _teacher(config: RunConfig, student_tokenizer: Any) -> Findings:
    teacher = config.teacher
    assert teacher is not None
    try:
        tokenizer = _tokenizer(teacher)
        check_same_vocabulary(student_tokenizer, tokenizer, config.student.path, teacher.path)
    except LeadspanError as error:
        yield Finding("error", "vocabularies", str(error))
        return
    yield Finding("ok", "vocabularies", f"{len(tokenizer):,} tokens agree one by one")
    yield from _head("teacher", teacher, tokenizer)


def _template(renderer: Renderer, tokenizer: Any) -> Findings:
    layout = renderer.layout
    for text in (layout.think_open or layout.prompt_open, layout.think_close):
        ids = renderer.encoder.control(text.strip())
        if len(ids) > 1:
            mend = "It is learnt as text; one token each would be cheaper."
            yield Finding(
                "warning", "think markers", f"{text.strip()!r} is {len(ids)} tokens.", mend
            )
    if layout.template is not None:
        yield _survival(layout, tokenizer)


def _survival(layout: Layout, tokenizer: Any) -> Finding:
    """Whether the template itself would have eaten the CoT."""
    from leadspan.records import Turn

    content = f"<think>\n{PROBE}\n</think>\n\nanswer"
    turns = (Turn("user", "?"), Turn("assistant", content))
    try:
        eaten = PROBE not in layout.apply(tokenizer, [turns], generation_prompt=False)[0]
    except Exception:
        eaten = True
    said = "deletes the CoT of assistant turns" if eaten else "keeps the CoT of the last turn"
    return Finding("ok", "template and CoT", f"it {said}; completions are appended apart from it")


def _first_rows(config: RunConfig, renderer: Renderer) -> list[tuple[Trace, Sequence]]:
    traces = config.traces.model_copy(update={"sample": None, "num_processes": 1})
    return list(islice(iter_sequences(traces, renderer, LoadedTraces()), ROWS_LOOKED_AT))


def _real_rows(renderer: Renderer, rows: list[tuple[Trace, Sequence]]) -> Findings:
    prompts = renderer.prompt_ids([trace.turns for trace, _ in rows]) if rows else []
    broken = [
        trace.trace_id
        for (trace, sequence), prompt in zip(rows, prompts, strict=True)
        if sequence.input_ids_T[: len(prompt)].tolist() != prompt
    ]
    if broken:
        yield Finding("error", "prompt prefix", f"{len(broken)} rows differ, first {broken[0]}.")
    else:
        yield Finding("ok", "prompt prefix", f"{len(rows)} rows begin with what generation feeds")
    failed = [t.trace_id for t, sequence in rows if renderer.round_trip(t, sequence) == "failed"]
    if failed:
        message = (
            f"{len(failed)} of {len(rows)} rows do not decode to their text, first {failed[0]}."
        )
        mend = "The tokenizer loses characters; look with `leadspan inspect`."
        yield Finding("warning", "round trip", message, mend)
    else:
        yield Finding("ok", "round trip", f"{len(rows)} rows decode to their text")


def _whole_set(config: RunConfig, tokenizer: Any, annotate: Annotate | None) -> Findings:
    try:
        made = build_sequences(config, tokenizer, annotate)
    except LeadspanError as error:
        yield Finding("error", "traces", str(error))
        return
    sequences = [*made.train, *made.validation]
    unusable = {
        k: n for k, n in made.refused.items() if not k.startswith(("where:", "not_sampled"))
    }
    refused, total = sum(unusable.values()), len(sequences) + sum(unusable.values())
    share = refused / total
    said = ", ".join(f"{reason} {number}" for reason, number in unusable.items())
    yield Finding(
        "warning" if share > REFUSED_WORTH_A_WARNING else "ok",
        "traces",
        f"{len(sequences):,} usable ({len(made.validation):,} held out), {refused:,} refused"
        + (f": {said}" if said else ""),
    )
    if not made.train:
        yield Finding(
            "error", "split", "no trace is left to train on.", "Lower validation_fraction."
        )
    yield from _cuts(config, sequences)


def _cuts(config: RunConfig, sequences: list[Sequence]) -> Findings:
    report = report_cuts(sequences, Cut(config.truncation, config.supervision))
    share = report.dropped / report.sequences
    message = f"{report.dropped:,} of {report.sequences:,} have no scored token at any moment of the training"
    level: Literal["ok", "warning", "error"]
    level = "error" if share == 1 else "warning" if share > 0.01 else "ok"
    yield Finding(level, "cut", message, "Raise truncation.lsp." if level != "ok" else "")
    longest = report.longest_tokens
    for name, model in (("student", config.student), ("teacher", config.teacher)):
        if model is not None and (limit := _context_length(model)) is not None:
            message = f"longest kept sequence {longest:,} tokens, {name} takes {limit:,}"
            mend = "Set traces.max_tokens or truncation.max_tokens." if longest > limit else ""
            yield Finding("error" if longest > limit else "ok", "context length", message, mend)


def _context_length(model: ModelConfig) -> int | None:
    try:
        length = getattr(read_model_config(model), "max_position_embeddings", None)
    except LeadspanError:  # said by `_head` already
        return None
    return int(length) if length else None


def _disk(config: RunConfig, output: Path) -> Findings:
    weights = sum(file.stat().st_size for file in Path(config.student.path).glob("*.safetensors"))
    if not weights:
        return
    there = next(p for p in (output.absolute(), *output.absolute().parents) if p.exists())
    free, needed = shutil.disk_usage(there).free, CHECKPOINT_COPIES * weights
    message = f"checkpoints need up to {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    short = free < needed
    yield Finding("error" if short else "ok", "disk", message, "Make room." if short else "")
