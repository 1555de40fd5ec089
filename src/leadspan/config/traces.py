"""The `traces` and `render` parts: which rows are used and how they become tokens."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import Field

from leadspan.config.part import Part, Share


class MarkersConfig(Part):
    """Think markers of one's own."""

    open: str = Field(min_length=1)
    """Text that opens the CoT."""
    close: str = Field(min_length=1)
    """Text that closes it."""
    answer_open: str = ""
    """Text that opens the answer, where it is marked too."""
    answer_close: str = ""
    """Text that ends the answer."""


class OverlapConfig(Part):
    """A benchmark whose problems must not be trained on."""

    path: str
    """A registered name (`aime24`, `math500`, ...), a local file or a hub dataset id."""
    config: str | None = None
    """Hub dataset configuration."""
    split: str = "test"
    """Hub dataset split."""
    revision: str | None = None
    """Hub dataset revision."""
    column: str | None = None
    """Column of the problem text; null takes the first of problem, question, prompt."""


class TracesConfig(Part):
    """The reasoning traces and which of them are used."""

    path: str
    """A JSONL, JSON, CSV, TSV (.gz, .zst), Parquet or Arrow file, a folder, a glob, or a hub dataset id."""
    config: str | None = None
    """Hub dataset configuration."""
    split: str = "train"
    """Hub dataset split."""
    revision: str | None = None
    """Hub dataset revision."""
    format: str = "auto"
    """Row format, one of docs/data.md; `auto` detects it from each row's columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Your columns for ours: any of prompt, cot, answer, completion, messages, system, gold, id;
    for example `{prompt: question, completion: response}`. Replaces `format`."""
    markers: str | MarkersConfig = "auto"
    """Family of think markers in the text, your own `{open, close}`, or `auto`."""
    generations: Literal["first_correct", "all_correct", "first", "all"] = "first_correct"
    """Which generations to use where a row holds several."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Conditions on columns: `{task_type: verifiable_math}`; a list allows each of its values."""
    only_closed: bool = False
    """Use only traces whose think block was closed."""
    only_with_gold: bool = False
    """Use only traces with a known correct answer."""
    only_correct: bool = False
    """Use only traces whose final answer grades as correct; the others are counted by outcome."""
    drop_duplicates: bool = True
    """Use only the first of several traces with the same prompt, CoT and answer."""
    decontaminate: tuple[OverlapConfig, ...] = ()
    """Drop traces whose prompt shares `decontaminate_ngram` words in a row with one of these."""
    decontaminate_ngram: int = Field(default=13, ge=1)
    """Length of that run of words; a shorter problem must stand in the prompt as a whole."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Use only traces whose uncut sequence has at most this many tokens."""
    sample: int | None = Field(default=None, ge=1)
    """Use this many traces, those with the lowest draw by id and seed; null uses all."""
    sample_fraction: Share = 1.0
    """Use this share, by the same draw; no appended row ever changes who is in it."""
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the traces held out for the validation loss, chosen by a hash of their ids."""
    seed: int = 42
    """Seeds sample and validation split, apart from the seed of the training."""
    num_processes: int = Field(default=1, ge=1)
    """Processes that render; changes speed, not results."""


PLAIN = "plain"
"""Instead of a chat template: each turn and a newline."""


class RenderConfig(Part):
    """How a trace becomes tokens."""

    chat_template: str | None = None
    """A Jinja file used instead of the tokenizer's own chat template, or `plain` for none: each turn
    and a newline."""
    template_variables: dict[str, Any] = Field(default_factory=dict)
    """Variables handed to the chat template, on top of those that switch thinking on."""
    date: datetime.date | None = None
    """The day, such as 2026-11-25, that templates read instead of the clock; null takes the day the
    run is first started and keeps it in the run's own run.yaml."""
    system_prompt: Literal["keep", "drop"] = "keep"
    """Keep or drop the trace's system turn."""
    think_open: str | None = None
    """Text before the CoT; null takes what the chat template itself writes there, else `<think>`."""
    think_close: str | None = None
    """Text between CoT and answer; null takes what the chat template itself writes there, else
    `</think>`."""
    paper_compat: bool = False
    """Append the generation prompt behind the whole conversation, as the published runs did."""

    def dated(self, *kept: str | None) -> RenderConfig:
        """These settings with a date: their own, else the first that was kept, else today's."""
        if self.date is not None:
            return self
        date = next((one for one in kept if one), None) or datetime.date.today().isoformat()
        return self.model_copy(update={"date": datetime.date.fromisoformat(date)})
