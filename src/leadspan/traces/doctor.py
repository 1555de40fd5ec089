"""What would go wrong with a run, found before a model is loaded, each with its mend.

Looks at tokenizers, templates, model configs (not weights) and real rows. `train` runs it first.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from leadspan.chat import assistant_messages
from leadspan.config import (
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    StudentConfig,
    TruncationConfig,
)
from leadspan.errors import ConfigError, LeadspanError
from leadspan.extras import iter_missing
from leadspan.flops import ModelShape, check_flops_known, model_shape
from leadspan.models import (
    SharedVocabulary,
    check_same_vocabulary,
    end_of_turn_id,
    load_tokenizer,
    read_model_config,
    read_stop_ids,
    real_vocab_size,
)
from leadspan.precision import has_bf16_units, memory_bytes, own_device, resolve_dtype
from leadspan.records import Sequence, Trace
from leadspan.sizes import count_stored_parameters, kv_cache_bytes, run_folder_bytes
from leadspan.traces.cut import Cut, cut_point, report_cuts
from leadspan.traces.dataset import Annotate, SequenceSet, build_sequences, iter_sequences
from leadspan.traces.horizon import check_context
from leadspan.traces.prompts import Conversation, Prompt
from leadspan.traces.render import Renderer
from leadspan.traces.sections import FAMILIES
from leadspan.traces.sources import LoadedTraces
from leadspan.traces.template import ASKED, Layout, opening_at_end

Agreement = Literal["same", "other white space", "other completion", "other prompt"]


def compare_with_template(renderer: Renderer, trace: Trace, prompt: Prompt) -> Agreement:
    """Hold prompt, CoT and answer of a trace against the template's own text of the conversation.

    A template that drops the CoT of assistant turns is held against prompt and answer alone.
    """
    chat, block = renderer.layout.chat, renderer.layout.block
    if chat is None:
        return "same"
    markers = (block.open.strip(), block.close.strip())
    start = prompt.text[: prompt.text.rindex(markers[0])] if prompt.opened else prompt.text
    reply = {"role": "assistant", "content": trace.answer}
    ours = start + trace.answer
    if block.shape is not None:
        reply = assistant_messages(trace.cot, trace.answer)[block.shape]
        opening = "" if prompt.opened else renderer.layout.open_before(trace.cot)
        close = renderer.layout.close_between(trace.cot, trace.answer)
        ours = f"{prompt.text}{opening}{trace.cot}{close}{trace.answer}"
    try:
        theirs = chat.render(
            [*prompt.messages, reply],
            generation_prompt=False,
            tools=trace.tools,
            variables=prompt.variables,
        )
    except Exception:  # a template that cannot write the turn
        return "other completion"
    if theirs.startswith(ours):
        return "same"
    if not _squeezed(theirs).startswith(_squeezed(start)):
        return "other prompt"
    if block.shape is None:  # it may write an empty block where it drops the CoT
        theirs = start + theirs[len(start) :].replace(markers[0], "").replace(markers[1], "")
    agrees = _squeezed(theirs).startswith(_squeezed(ours))
    return "other white space" if agrees else "other completion"


def _squeezed(text: str) -> str:
    return "".join(text.split())


ROWS_LOOKED_AT = 64
REFUSED_WORTH_A_WARNING = 0.05
DROPPED_WORTH_A_WARNING = 0.01
Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at."""

    level: Level
    check: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f" {self.mend}" if self.mend else ""
        return f"{self.level:7} {self.check}: {self.message}{mend}"


def _judged(check: str, said: str, wrong: Any, mend: str = "", level: Level = "warning") -> Finding:
    """`ok`, or what to do about it where it is `wrong`."""
    if not wrong:
        return Finding("ok", check, said)
    return Finding(level, check, f"{said}." if mend else said, mend)


Findings = Iterator[Finding]


def examine(
    config: RunConfig, output: Path | None = None, annotate: Annotate | None = None
) -> list[Finding]:
    """Look at everything that can be known without loading weights.

    Args:
        config: The run.
        output: Its folder, for the space on its disk; the current folder where None.
        annotate: Adds each trace's own cut point, where the cut asks for one.
    """
    findings: list[Finding] = [*_needs(config), *_precision(config)]
    student = config.student
    tokenizer = _try(findings, "student tokenizer", lambda: _tokenizer(student))
    if tokenizer is None:
        return findings
    findings += [*_head("student", student, real_vocab_size(tokenizer)), *_budget(config)]
    shared: SharedVocabulary | None = None
    for teacher in config.all_teachers:
        if teacher.cache is None:
            found = partial(_compare, student, teacher, tokenizer)
            shared = _try(findings, "vocabularies", found)
            if shared is not None:
                findings.append(Finding("ok", "vocabularies", str(shared)))
                findings += _head("teacher", teacher, shared.size) if teacher.is_live else ()
    renderer = _try(findings, "chat template", lambda: Renderer(tokenizer, config.render))
    if renderer is None:
        return findings
    tokenizer.chat_template = renderer.layout.template
    findings += [*_special_tokens(tokenizer), *_stop_tokens(student, tokenizer)]
    findings += _template(renderer)
    rows = _try(findings, "rows", lambda: _first_rows(config, renderer))
    if rows is not None:
        findings += [_own_output(renderer, [trace for trace, _ in rows]), _trips(renderer, rows)]
        made = _try(findings, "traces", lambda: build_sequences(config, tokenizer, annotate))
        if made is not None:
            findings += _whole_set(config, made, shared)
    findings += _evaluation_memory(student, config.evaluation)
    return [*findings, *_disk(student, output or Path())]


def _try(findings: list[Finding], check: str, work: Callable[[], Any]) -> Any:
    """The result of `work`, or None and an error among the findings."""
    try:
        return work()
    except LeadspanError as error:
        findings.append(Finding("error", check, str(error)))
        return None


def _needs(config: RunConfig) -> Findings:
    """Whether packages, keys and the card that the run asks for are here."""
    missing = list(iter_missing(config))
    yield from (Finding("error", "needs", each) for each in missing)
    if not missing:
        yield Finding("ok", "needs", "what the run asks for is installed")


def _precision(config: RunConfig) -> Findings:
    """Whether the device computes in what the run asks for."""
    device = own_device()
    asked = {
        "training.bf16": config.training.bf16 is True,
        "evaluation.dtype": config.evaluation.dtype == "bfloat16" and config.evaluation.benchmarks,
        "teacher.dtype": any(t.is_live and t.dtype == "bfloat16" for t in config.all_teachers),
    }
    keys = ", ".join(key for key, is_asked in asked.items() if is_asked)
    name = "GPU" if device == "cuda" else "CPU"
    said = f"{keys} asks for bfloat16" if keys else "as the device is good at it, or float32"
    wrong = keys and not has_bf16_units(device)
    said += f", for which this {name} has no units: it takes many times as long" if wrong else ""
    yield _judged("precision", said, wrong, "Write auto.")


def _compare(student: ModelConfig, teacher: ModelConfig, tokenizer: Any) -> SharedVocabulary:
    return check_same_vocabulary(tokenizer, _tokenizer(teacher), student.path, teacher.path)


def _tokenizer(model: ModelConfig) -> Any:
    return load_tokenizer(model)


def _special_tokens(tokenizer: Any) -> Findings:
    eos, pad, end = tokenizer.eos_token_id, tokenizer.pad_token_id, end_of_turn_id(tokenizer)
    if pad is None:
        yield Finding("warning", "pad", "the tokenizer has none; eos pads, which the mask hides.")
    elif pad == eos:
        mend = "Trainers that mask by pad never learn to stop; this one masks by length."
        yield Finding("warning", "pad", f"pad and eos are both {tokenizer.pad_token!r}.", mend)
    else:
        yield Finding("ok", "pad", f"{tokenizer.pad_token!r}, eos {tokenizer.eos_token!r}")
    name = tokenizer.convert_ids_to_tokens(end)
    said = f"{name!r} is the eos"
    if end != eos:
        said = f"turns end in {name!r}, eos is {tokenizer.eos_token!r}"
    mend = "The exported student's generation_config stops at both."
    yield _judged("end of turn", said, end != eos, mend)
    if tokenizer.chat_template is None:
        mend = "Give render.chat_template to have another one."
        yield Finding("warning", "chat template", "none; prompts are rendered plainly.", mend)


def _head(name: str, model: ModelConfig, vocabulary: int) -> Findings:
    try:
        width = read_model_config(model).vocab_size
    except LeadspanError as error:
        yield Finding("error", f"{name} config", str(error))
        return
    said, mend = f"{vocabulary:,} tokens in a head of {width:,}", "Resize the token embeddings."
    yield _judged(f"{name} head", said, width < vocabulary, mend, "error")


def _stop_tokens(student: ModelConfig, tokenizer: Any) -> Findings:
    stops, end = read_stop_ids(student), end_of_turn_id(tokenizer)
    if end in stops:
        yield Finding("ok", "generation_config", f"stops at the end of turn ({end})")
    elif stops:
        said = f"the student stops at {', '.join(map(str, stops))}, turns end in {end}."
        yield Finding("warning", "generation_config", said, "Repaired in the exported student.")


def _budget(config: RunConfig) -> Findings:
    """Whether a budget of FLOPs can be spent: what it runs must be of known cost."""
    if config.training.budget is None or config.training.budget.flops is None:
        return
    models: list[ModelConfig] = [config.student]
    models += [teacher for teacher in config.all_teachers if teacher.is_live]
    for model in models:
        try:
            check_flops_known(read_model_config(model), model.path)
        except ConfigError as error:
            yield Finding("error", "budget", str(error))
        except LeadspanError:  # there is no config: said by `_head`
            continue


def _template(renderer: Renderer) -> Findings:
    """Which think markers the student will learn, and what speaks against them."""
    block, chat = renderer.layout.block, renderer.layout.chat
    said = f"the student learns {block.open!r} and {block.close!r}, from {block.source}"
    counts = [
        (m.strip(), len(renderer.encoder.control(m.strip()))) for m in (block.open, block.close)
    ]
    long = ", ".join(f"{text!r} is {count}" for text, count in counts if count > 1)
    if rivals := ", ".join(map(repr, _rivals(renderer.layout))):
        mend = "It will learn both; set render.think_open and render.think_close to the template's."
        yield Finding("warning", "think markers", f"{said}; the template names {rivals}.", mend)
    elif long:
        mend = "They are learnt as text; one token each would be cheaper."
        yield Finding("warning", "think markers", f"{said}; {long} tokens.", mend)
    else:
        yield Finding("ok", "think markers", said)
    if chat is not None:
        keeps = "keeps" if block.shape is not None else "deletes"
        said = f"it {keeps} the CoT of assistant turns; completions are appended apart from it"
        yield Finding("ok", "template and CoT", said)


def _rivals(layout: Layout) -> list[str]:
    """Opening markers that the template writes and the student's CoT does not begin with."""
    if layout.chat is None:
        return []
    own = layout.block.open + layout.block.close
    prompt = layout.chat.render([ASKED], generation_prompt=True)
    opened = opening_at_end(layout.chat, prompt).strip()
    named = [f.open for f in FAMILIES if f.open in layout.chat.text]
    return sorted({text for text in (opened, *named) if text and text not in own})


def _first_rows(config: RunConfig, renderer: Renderer) -> list[tuple[Trace, Sequence]]:
    traces = config.traces.model_copy(update={"sample": None, "num_processes": 1})
    pairs = iter_sequences(traces, renderer, LoadedTraces(), takes_prompts=config.takes_prompts)
    return list(islice(pairs, ROWS_LOOKED_AT))


def _own_output(renderer: Renderer, traces: list[Trace]) -> Finding:
    """The rendering beside the template's own text of prompt and assistant turn."""
    prompts = renderer.prompts([Conversation.of(trace) for trace in traces])
    found = {
        trace.trace_id: compare_with_template(renderer, trace, prompt)
        for trace, prompt in zip(traces, prompts, strict=True)
        if isinstance(prompt, Prompt) and trace.closed
    }
    check, numbers = "template's own text", Counter(found.values())
    bad: dict[Agreement, Level] = {"other prompt": "error", "other completion": "warning"}
    for agreement, level in bad.items():
        if numbers[agreement]:
            first = next(trace_id for trace_id, kind in found.items() if kind == agreement)
            share = f"{numbers[agreement]} of {len(found)} rows"
            said = f"{share} have {agreement.replace('other', 'another')}, first {first}."
            mend = "Its generation prompt and its assistant turns disagree; try another template."
            return Finding(level, check, said, mend)
    said = f"{len(found)} rows are what the template writes for the whole conversation"
    spaced = numbers["other white space"]
    return Finding("ok", check, said + (f", {spaced} but for white space" if spaced else ""))


def _trips(renderer: Renderer, rows: list[tuple[Trace, Sequence]]) -> Finding:
    failed = [t.trace_id for t, sequence in rows if renderer.round_trip(t, sequence) == "failed"]
    said = f"{len(rows)} rows decode to their text"
    if failed:
        said = f"{len(failed)} of {len(rows)} rows do not decode to their text, first {failed[0]}"
    mend = "The tokenizer loses characters; look with `leadspan inspect`."
    return _judged("round trip", said, failed, mend)


def _whole_set(config: RunConfig, made: SequenceSet, shared: SharedVocabulary | None) -> Findings:
    sequences = [*made.train, *made.validation]
    unusable = {
        k: n for k, n in made.refused.items() if not k.startswith(("where:", "not_sampled"))
    }
    refused = sum(unusable.values())
    said = f"{len(sequences):,} usable ({len(made.validation):,} held out), {refused:,} refused"
    reasons = ", ".join(f"{reason} {number}" for reason, number in unusable.items())
    many = refused > REFUSED_WORTH_A_WARNING * (len(sequences) + refused)
    yield _judged("traces", f"{said}: {reasons}" if reasons else said, many)
    if not made.train:
        said = "no trace is left to train on."
        yield Finding("error", "split", said, "Lower validation_fraction.")
    if shared is not None and shared.student_only:
        count = sum(bool((sequence.input_ids_T >= shared.size).any()) for sequence in sequences)
        said = f"{count:,} of {len(sequences):,} rows hold tokens that the teacher lacks"
        mend = "Those labels are not scored, and rows that the teacher cannot read are left out."
        yield _judged("shared tokens", said, count, mend)
    prompts = [sequence for sequence in sequences if sequence.is_prompt]
    if prompts:
        said = f"{len(prompts):,} of {len(sequences):,} rows, which have no validation loss"
        yield Finding("ok", "prompts alone", said)
    if traces := [sequence for sequence in sequences if not sequence.is_prompt]:
        yield from _cut(config, traces)
    yield from _rollouts(config, made.train)


def _cut(config: RunConfig, sequences: list[Sequence]) -> Findings:
    report = report_cuts(sequences, Cut(config.truncation, config.supervision))
    share = report.dropped / report.sequences
    said = f"{report.dropped:,} of {report.sequences:,} have no scored token at any moment of the training"
    level: Level = "error" if share == 1 else "warning"
    yield _judged("cut", said, share > DROPPED_WORTH_A_WARNING, "Raise truncation.lsp.", level)
    if config.truncation.column is not None:
        yield _cut_points(config.truncation, config.truncation.column, sequences)
    longest = report.longest_tokens
    for name, model in _models(config):
        if (limit := _context_length(model)) is not None:
            said = f"longest kept sequence {longest:,} tokens, {name} takes {limit:,}"
            mend = "Set traces.max_tokens or truncation.max_tokens."
            yield _judged("context length", said, longest > limit, mend, "error")


def _rollouts(config: RunConfig, sequences: list[Sequence]) -> Findings:
    """Whether what the student may write fits both models."""
    for name, model in _models(config):
        if config.rollout is None or _context_length(model) is None:
            continue
        check = f"rollouts and {name}"
        try:
            check_context(config.rollout, sequences, read_model_config(model), model.path)
            yield Finding("ok", check, "the longest fits its context")
        except ConfigError as error:
            yield Finding("error", check, str(error))


def _cut_points(truncation: TruncationConfig, column: str, sequences: list[Sequence]) -> Finding:
    """How many traces bring a cut point of their own; the others are cut by `truncation.lsp`."""
    total = len(sequences)
    without = [s.trace_id for s in sequences if cut_point(s.meta.get(column)) is None]
    said = f"{total - len(without):,} of {total:,} traces have a cut point in {column}"
    if without:
        said += f"; the others, first {without[0]}, are cut by lsp {truncation.lsp:g}"
    # That a derivation is not found in every trace is how it is; a column was written on purpose.
    return _judged("cut points", said, without and truncation.policy == "column")


def _models(config: RunConfig) -> list[tuple[str, ModelConfig]]:
    return [("student", config.student), *(("teacher", each) for each in config.all_teachers)]


def _context_length(model: ModelConfig) -> int | None:
    try:
        length = getattr(read_model_config(model), "max_position_embeddings", None)
    except LeadspanError:  # said by `_head` already
        return None
    return int(length) if length else None


def _disk(student: StudentConfig, output: Path) -> Findings:
    size = _student_size(student)
    if size is None:  # there are no weights, and loading them says so
        return
    there = next(p for p in (output.absolute(), *output.absolute().parents) if p.exists())
    free, needed = shutil.disk_usage(there).free, run_folder_bytes(student, size)
    said = f"the run needs up to {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    yield _judged("disk", said, free < needed, "Make room.", "error")


def _evaluation_memory(student: StudentConfig, evaluation: EvaluationConfig) -> Findings:
    """Whether the keys and values of the answers fit, where they are generated in this process."""
    shape = _shape_of(student)
    if evaluation.backend != "transformers" or not evaluation.benchmarks or shape is None:
        return
    device = own_device()
    rows, tokens = evaluation.batch_size, evaluation.sampling.max_new_tokens
    width = 2 if resolve_dtype(evaluation.dtype, device) == "bfloat16" else 4
    needed, whole = kv_cache_bytes(shape, rows, tokens, width), memory_bytes(device)
    said = (
        f"{rows} answers of {tokens:,} tokens side by side need up to {needed / 2**30:.1f} GiB of keys "
        f"and values, the {'card' if device == 'cuda' else 'machine'} has {whole / 2**30:.1f} GiB"
    )
    mend = "Lower evaluation.batch_size, or set evaluation.backend: vllm."
    yield _judged("evaluation memory", said, needed > whole, mend)


def _student_size(student: ModelConfig) -> ModelShape | int | None:
    """The student's shape, or, where its layers are not known, the parameters in its weights."""
    stored = count_stored_parameters(Path(student.path))
    if stored is None and Path(student.path).is_dir():
        return None
    return _shape_of(student) or stored


def _shape_of(model: ModelConfig) -> ModelShape | None:
    """Its sizes; None for an architecture whose layers are not known, or without a config."""
    try:
        return model_shape(read_model_config(model))
    except (LeadspanError, ValueError):
        return None
