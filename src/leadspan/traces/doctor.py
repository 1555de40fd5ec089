"""What would go wrong with a run, found before a model is loaded, each with its mend.

Looks at tokenizers, templates, model configs (not weights) and real rows. `train` runs it first.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from leadspan.chat import assistant_messages
from leadspan.config import ModelConfig, RunConfig, TeacherConfig
from leadspan.errors import ConfigError, LeadspanError
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
from leadspan.records import Sequence, Trace
from leadspan.sizes import count_stored_parameters, run_folder_bytes
from leadspan.traces.cut import Cut, cut_point, report_cuts
from leadspan.traces.dataset import Annotate, build_sequences, iter_sequences
from leadspan.traces.prompts import Conversation, Prompt
from leadspan.traces.render import Renderer
from leadspan.traces.sections import FAMILIES
from leadspan.traces.sources import LoadedTraces
from leadspan.traces.template import QUESTION, Layout, opening_at_end

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
    findings += _head("student", config.student, real_vocab_size(tokenizer))
    findings += _budget(config)
    shared: SharedVocabulary | None = None
    if config.teacher is not None and config.teacher.cache is None:
        shared = _try(findings, "vocabularies", lambda: _shared(config, tokenizer))
        findings += _teacher(config.teacher, shared)
    renderer = _try(findings, "chat template", lambda: Renderer(tokenizer, config.render))
    if renderer is None:
        return findings
    tokenizer.chat_template = renderer.layout.template
    findings += [*_special_tokens(tokenizer), *_stop_tokens(config.student, tokenizer)]
    findings += _template(renderer)
    rows = _try(findings, "rows", lambda: _first_rows(config, renderer))
    if rows is not None:
        findings += _real_rows(renderer, rows)
        findings += _whole_set(config, tokenizer, annotate, shared)
    return [*findings, *_disk(config, output or Path())]


def _try(findings: list[Finding], check: str, work: Callable[[], Any]) -> Any:
    """The result of `work`, or None and an error among the findings."""
    try:
        return work()
    except LeadspanError as error:
        findings.append(Finding("error", check, str(error)))
        return None


def _tokenizer(model: ModelConfig) -> Any:
    return load_tokenizer(model)


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


def _head(name: str, model: ModelConfig, vocabulary: int) -> Findings:
    try:
        width = read_model_config(model).vocab_size
    except LeadspanError as error:
        yield Finding("error", f"{name} config", str(error))
        return
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


def _shared(config: RunConfig, student_tokenizer: Any) -> SharedVocabulary:
    teacher = config.teacher
    assert teacher is not None
    paths = config.student.path, teacher.path
    return check_same_vocabulary(student_tokenizer, _tokenizer(teacher), *paths)


def _teacher(teacher: ModelConfig, shared: SharedVocabulary | None) -> Findings:
    if shared is not None:
        yield Finding("ok", "vocabularies", str(shared))
        yield from _head("teacher", teacher, shared.size)


def _unshared(shared: SharedVocabulary, sequences: list[Sequence]) -> Finding:
    count = sum(bool((sequence.input_ids_T >= shared.size).any()) for sequence in sequences)
    said = f"{count:,} of {len(sequences):,} rows hold tokens that the teacher lacks"
    if not count:
        return Finding("ok", "shared tokens", said)
    mend = "Those labels are not scored, and rows that the teacher cannot read are left out."
    return Finding("warning", "shared tokens", f"{said}.", mend)


def _budget(config: RunConfig) -> Findings:
    """Whether a budget of FLOPs can be spent: what it runs must be of known cost."""
    if config.training.budget is None or config.training.budget.flops is None:
        return
    live = config.teacher if config.loss.kd_ratio > 0 else None
    for model in (config.student, live):
        if model is None or (isinstance(model, TeacherConfig) and model.cache is not None):
            continue
        try:
            check_flops_known(read_model_config(model), model.path)
        except ConfigError as error:
            yield Finding("error", "budget", str(error))
        except LeadspanError:  # there is no config: said by `_head`
            continue


def _template(renderer: Renderer) -> Findings:
    """Which think markers the student will learn, and what speaks against them."""
    layout = renderer.layout
    block, chat = layout.block, layout.chat
    markers = (block.open.strip(), block.close.strip())
    said = f"the student learns {block.open!r} and {block.close!r}, from {block.source}"
    rivals = _rivals(layout) if chat else []
    long = [text for text in markers if len(renderer.encoder.control(text)) > 1]
    if rivals:
        shown = ", ".join(map(repr, rivals))
        mend = "It will learn both; set render.think_open and render.think_close to the template's."
        yield Finding("warning", "think markers", f"{said}; the template names {shown}.", mend)
    elif long:
        counts = ", ".join(f"{text!r} is {len(renderer.encoder.control(text))}" for text in long)
        mend = "They are learnt as text; one token each would be cheaper."
        yield Finding("warning", "think markers", f"{said}; {counts} tokens.", mend)
    else:
        yield Finding("ok", "think markers", said)
    if chat is not None:
        keeps = "keeps" if block.shape is not None else "deletes"
        said = f"it {keeps} the CoT of assistant turns; completions are appended apart from it"
        yield Finding("ok", "template and CoT", said)


def _rivals(layout: Layout) -> list[str]:
    """Opening markers that the template writes and the student's CoT does not begin with."""
    assert layout.chat is not None
    own = layout.block.open + layout.block.close
    prompt = layout.chat.render([{"role": "user", "content": QUESTION}], generation_prompt=True)
    opened = opening_at_end(layout.chat, prompt).strip()
    named = [f.open for f in FAMILIES if f.open in layout.chat.text]
    return sorted({text for text in (opened, *named) if text and text not in own})


def _first_rows(config: RunConfig, renderer: Renderer) -> list[tuple[Trace, Sequence]]:
    traces = config.traces.model_copy(update={"sample": None, "num_processes": 1})
    return list(islice(iter_sequences(traces, renderer, LoadedTraces()), ROWS_LOOKED_AT))


def _real_rows(renderer: Renderer, rows: list[tuple[Trace, Sequence]]) -> Findings:
    yield _own_output(renderer, [trace for trace, _ in rows])
    failed = [t.trace_id for t, sequence in rows if renderer.round_trip(t, sequence) == "failed"]
    if failed:
        message = (
            f"{len(failed)} of {len(rows)} rows do not decode to their text, first {failed[0]}."
        )
        mend = "The tokenizer loses characters; look with `leadspan inspect`."
        yield Finding("warning", "round trip", message, mend)
    else:
        yield Finding("ok", "round trip", f"{len(rows)} rows decode to their text")


def _own_output(renderer: Renderer, traces: list[Trace]) -> Finding:
    """The rendering beside the template's own text of prompt and assistant turn."""
    prompts = renderer.prompts([Conversation.of(trace) for trace in traces])
    found = {
        trace.trace_id: compare_with_template(renderer, trace, prompt)
        for trace, prompt in zip(traces, prompts, strict=True)
        if isinstance(prompt, Prompt) and trace.closed
    }
    check, numbers = "template's own text", Counter(found.values())
    bad: tuple[tuple[Agreement, Literal["error", "warning"]], ...]
    bad = (("other prompt", "error"), ("other completion", "warning"))
    for agreement, level in bad:
        if numbers[agreement]:
            first = next(trace_id for trace_id, kind in found.items() if kind == agreement)
            share = f"{numbers[agreement]} of {len(found)} rows"
            said = f"{share} have {agreement.replace('other', 'another')}, first {first}."
            mend = "Its generation prompt and its assistant turns disagree; try another template."
            return Finding(level, check, said, mend)
    said = f"{len(found)} rows are what the template writes for the whole conversation"
    spaced = numbers["other white space"]
    return Finding("ok", check, said + (f", {spaced} but for white space" if spaced else ""))


def _whole_set(
    config: RunConfig, tokenizer: Any, annotate: Annotate | None, shared: SharedVocabulary | None
) -> Findings:
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
    if shared is not None and shared.student_only:
        yield _unshared(shared, sequences)
    yield from _cuts(config, sequences)


def _cuts(config: RunConfig, sequences: list[Sequence]) -> Findings:
    report = report_cuts(sequences, Cut(config.truncation, config.supervision))
    share = report.dropped / report.sequences
    message = f"{report.dropped:,} of {report.sequences:,} have no scored token at any moment of the training"
    level: Literal["ok", "warning", "error"]
    level = "error" if share == 1 else "warning" if share > 0.01 else "ok"
    yield Finding(level, "cut", message, "Raise truncation.lsp." if level != "ok" else "")
    yield from _cut_points(config, sequences)
    longest = report.longest_tokens
    for name, model in (("student", config.student), ("teacher", config.teacher)):
        if model is not None and (limit := _context_length(model)) is not None:
            message = f"longest kept sequence {longest:,} tokens, {name} takes {limit:,}"
            mend = "Set traces.max_tokens or truncation.max_tokens." if longest > limit else ""
            yield Finding("error" if longest > limit else "ok", "context length", message, mend)


def _cut_points(config: RunConfig, sequences: list[Sequence]) -> Findings:
    """How many traces bring a cut point of their own; the others are cut by `truncation.lsp`."""
    if config.truncation.column is None:
        return
    total, column = len(sequences), config.truncation.column
    without = [s.trace_id for s in sequences if cut_point(s.meta.get(column)) is None]
    message = f"{total - len(without):,} of {total:,} traces have a cut point in {column}"
    if without:
        message += f"; the others, first {without[0]}, are cut by lsp {config.truncation.lsp:g}"
    # That a derivation is not found in every trace is how it is; a column was written on purpose.
    is_odd = without and config.truncation.policy == "column"
    yield Finding("warning" if is_odd else "ok", "cut points", f"{message}.")


def _context_length(model: ModelConfig) -> int | None:
    try:
        length = getattr(read_model_config(model), "max_position_embeddings", None)
    except LeadspanError:  # said by `_head` already
        return None
    return int(length) if length else None


def _disk(config: RunConfig, output: Path) -> Findings:
    size = _student_size(config.student)
    if size is None:  # there are no weights, and loading them says so
        return
    there = next(p for p in (output.absolute(), *output.absolute().parents) if p.exists())
    free, needed = shutil.disk_usage(there).free, run_folder_bytes(config.student, size)
    message = f"the run needs up to {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    short = free < needed
    yield Finding("error" if short else "ok", "disk", message, "Make room." if short else "")


def _student_size(student: ModelConfig) -> ModelShape | int | None:
    """The student's shape, or, where its layers are not known, the parameters in its weights."""
    stored = count_stored_parameters(Path(student.path))
    if stored is None and Path(student.path).is_dir():
        return None
    try:
        return model_shape(read_model_config(student))
    except (LeadspanError, ValueError):
        return stored
