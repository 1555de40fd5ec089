"""`leadspan.distill`: a training run from what a Python program holds, instead of from a run.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceABC
from itertools import chain
from pathlib import Path
from typing import Any

from leadspan.config import LossConfig, ModelConfig, RenderConfig, RunConfig, TruncationConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.models import causal_lm_of, load_tokenizer
from leadspan.parallel import Ranks, join_ranks
from leadspan.pins import settled, with_revisions
from leadspan.progress import say
from leadspan.records import SECTIONS, Example, Sequence
from leadspan.traces.dataset import build_sequences
from leadspan.traces.rows import iter_given_rows
from leadspan.training.run import RunInputs, Sequences, TrainedRun, complete_run

KINDS = {Sequence: "sequences", Example: "examples", Mapping: "rows"}
MODEL_IN_MEMORY = "<model in memory>"
DEFAULT_SECTIONS = ("cot", "answer")
HOW = "Read a file with load_traces and render its traces, or give its rows."


def distill(
    data: Iterable[Any],
    *,
    student: Any,
    output: str | Path,
    teacher: Any = None,
    tokenizer: Any = None,
    validation: Iterable[Any] = (),
    loss: LossConfig | Mapping[str, Any] | None = None,
    truncation: TruncationConfig | Mapping[str, Any] | None = None,
    sections: SequenceABC[str] = DEFAULT_SECTIONS,
    render: RenderConfig | Mapping[str, Any] | None = None,
    traces: Mapping[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> TrainedRun:
    """Train a student, or go on where an earlier call with the same output was stopped.

    Args:
        data: Rows of a known trace format (a list of dicts or a `datasets.Dataset`), sequences from
            `render`, cut or not, or Examples, whose cut and labels stay as they are.
        student: Model folder or hub id, the keys of `StudentConfig`, or a transformers model in memory,
            of which a copy is trained.
        output: The run folder. Its run.yaml says where data and models came from; a run on models or
            data in memory cannot be started again from it alone.
        teacher: The same with `TeacherConfig`; not needed where `loss.kd_ratio` is 0. A model in memory
            must read the student's token ids, and is put into evaluation mode.
        tokenizer: The student's; None loads it from the student's folder.
        validation: Held-out data of any of these kinds; with none, the last weights are the result.
        loss: A LossConfig or its keys, such as `{"kd_ratio": 1.0}`.
        truncation: A TruncationConfig or its keys, such as `{"lsp": 0.5}`; None cuts nothing.
        sections: Which tokens are scored.
        render: A RenderConfig or its keys; for rows alone.
        traces: Keys of `TracesConfig` that say how rows are read and which of them are used; for rows
            alone, those of `validation` too. `validation_fraction` is 0 unless given here.
        seed: Of the data order.
        **training: Keys of `TrainingConfig`, such as `steps=100, learning_rate=3e-4`.

    Returns:
        The finished run: its folder, the trained student as an ordinary Hugging Face folder
        (`student_path`), and the manifest with losses, seconds and token counts.

    Raises:
        LeadspanError: An argument, the data, a model or the run folder is not fit for it.
        ValueError: `truncation` would cut a sequence that is cut already.

    Example:
        >>> run = distill(
        ...     rows, student="Qwen/Qwen3-0.6B-Base", teacher="Qwen/Qwen3-8B",
        ...     truncation={"lsp": 0.5}, output="runs/half", steps=100,
        ... )
        >>> AutoModelForCausalLM.from_pretrained(run.student_path)
    """
    kind, given = _told(data, "data")
    held_kind, held_out = _told(validation, "validation")
    if kind == "examples":
        if truncation is not None or tuple(sections) != DEFAULT_SECTIONS:
            raise ConfigError(
                "distill: truncation and sections say nothing with examples, which bring their own cut "
                "and labels; leave them out."
            )
        given = list(given)
        sections = _scored_sections(given)
    if "rows" not in (kind, held_kind) and (render is not None or traces is not None):
        raise ConfigError(f"distill: render and traces go with rows; got {kind}. Leave them out.")
    content = {
        "teacher": None if teacher is None else model_keys(teacher, "teacher", "distill"),
        "student": model_keys(student, "student", "distill"),
        "traces": {"validation_fraction": 0, **(traces or {}), "path": f"<{kind} in memory>"},
        "render": render or {},
        "truncation": truncation or {},
        "supervision": {"sections": list(sections)},
        "loss": loss or {},
        "training": training,
        "seed": seed,
    }
    config = validate(RunConfig, content, "distill")
    models = [model if is_model(model) else None for model in (student, teacher)]
    with join_ranks() as ranks:
        if ranks.size > 1 and models != [None, None]:
            raise ConfigError(
                "distill: a model in memory trains in one process. Save it and give its folder."
            )
        # A day is that of templates, which only rows meet.
        settle = settled if "rows" in (kind, held_kind) else with_revisions
        config = ranks.from_first(lambda: settle(config, Path(output)))
        tokenizer = _student_tokenizer(config, tokenizer)
        train, held, counts = _prepare(config, tokenizer, kind, given, "data", ranks)
        more, rest, held_counts = _prepare(
            config, tokenizer, held_kind, held_out, "validation", ranks
        )
        if held_counts:
            counts = {**counts, "validation_rows": held_counts}
        inputs = RunInputs(tokenizer, train, [*held, *more, *rest], counts, *models)
        return complete_run(config, Path(output), ranks, inputs)


def _told(data: Iterable[Any], name: str) -> tuple[str, Iterable[Any]]:
    """Of which kind the data is, by its first item; nothing at all counts as no sequences."""
    if isinstance(data, str | Path):
        raise ConfigError(f"distill: {name} must be in memory; got the path {str(data)!r}. {HOW}")
    items = iter(data)
    first = next(items, None)
    if first is None:
        return "sequences", ()
    kind = next((kind for of, kind in KINDS.items() if isinstance(first, of)), None)
    if kind is None:
        raise ConfigError(
            f"distill: {name} must hold {', '.join(KINDS.values())}; got {type(first).__name__}. {HOW}"
        )
    return kind, chain([first], items)


def _prepare(
    config: RunConfig, tokenizer: Any, kind: str, given: Iterable[Any], name: str, ranks: Ranks
) -> tuple[Sequences, Sequences, dict[str, Any]]:
    """What is trained on, the share of it that is held out, and what became of rows."""
    if kind == "rows":
        made = build_sequences(config, tokenizer, rows=iter_given_rows(given))
        if ranks.is_first and made.refused:
            reasons = ", ".join(
                f"{reason} {number} (first at {made.places.get(reason, '?')})"
                for reason, number in made.refused.most_common()
            )
            say(f"distill: {name}: {made.refused.total()} rows are not used: {reasons}")
        counts = {"refused": dict(made.refused), "notes": dict(made.notes)}
        return made.train, made.validation, counts
    items = list(given)
    (of,) = (of for of, its_kind in KINDS.items() if its_kind == kind)
    odd = next((one for one in items if not isinstance(one, of)), None)
    if odd is not None:
        raise ConfigError(
            f"distill: {name} must be of one kind; got {kind} and {type(odd).__name__}. {HOW}"
        )
    return items, (), {}


def _scored_sections(examples: Iterable[Any]) -> tuple[str, ...]:
    """The sections that hold a label of some example, for run.yaml; its default where there is none."""
    scored = set()
    for example in examples:
        if isinstance(example, Example):
            spans = ((name, example.sequence.span(name)) for name in SECTIONS)
            scored |= {name for name, at in spans if example.supervised_T[at.start : at.end].any()}
    return tuple(name for name in SECTIONS if name in scored) or DEFAULT_SECTIONS


def is_model(model: Any) -> bool:
    """A model in memory was given, not where one is to be found."""
    return model is not None and not isinstance(model, str | Path | Mapping | ModelConfig)


def model_keys(model: Any, name: str, where: str) -> Any:
    """What run.yaml says of a model.

    Raises:
        ConfigError: It is none; `where` and `name` say which argument.
    """
    if not is_model(model):
        return {"path": str(model)} if isinstance(model, str | Path) else model
    if not hasattr(model, "get_output_embeddings"):
        raise ConfigError(
            f"{where}: {name} must be a path, a hub id, keys of run.yaml or a causal language model of "
            f"transformers; got {type(model).__name__}."
        )
    attention = causal_lm_of(model).config._attn_implementation
    dtype = str(causal_lm_of(model).dtype).removeprefix("torch.")
    return {"path": MODEL_IN_MEMORY, "dtype": dtype, "attention": attention}


def _student_tokenizer(config: RunConfig, tokenizer: Any) -> Any:
    if tokenizer is not None:
        if config.render.chat_template is not None:
            raise ConfigError(
                "distill: give the chat template as tokenizer.chat_template or as render.chat_template, "
                "not both."
            )
        return tokenizer
    if config.student.path == MODEL_IN_MEMORY:
        raise ConfigError("distill: tokenizer is required with a student in memory.")
    return load_tokenizer(config.student, config.render)
