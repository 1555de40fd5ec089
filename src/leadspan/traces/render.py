"""Traces as tokens, with exact sections. Knows text and tokenizers, not files or cuts.

The parts prompt | open marker | CoT | close marker | answer | end token are tokenised apart and
concatenated, so a span is a sum of part lengths and the prompt's ids are exactly those that
generation feeds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

import numpy as np

from leadspan.config import RenderConfig
from leadspan.errors import DataError
from leadspan.records import Message, Sequence, Span, Trace
from leadspan.traces.cut import CLOSE_TOKENS, OPEN_TOKENS
from leadspan.traces.encoders import ContinuationEncoder
from leadspan.traces.prompts import PLACED_ANYWHERE, Conversation, Prompt, PromptRenderer, find_loss
from leadspan.traces.sections import SkippedRow
from leadspan.traces.template import build_layout

BATCH_ROWS = 256
RoundTrip = Literal["exact", "normalised", "failed"]
Made = TypeVar("Made", Prompt, Sequence)


class Renderer:
    """Renders many traces with one tokenizer and one template."""

    def __init__(self, tokenizer: Any, config: RenderConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = (config or RenderConfig()).dated()
        self.layout = build_layout(tokenizer, self.config)
        block = self.layout.block
        written = (self.layout.template or "", block.open, block.close)
        self.encoder = ContinuationEncoder(tokenizer, written)
        self._prompts = PromptRenderer(tokenizer, self.layout, self.encoder)
        self._marker = lru_cache(maxsize=64)(self.encoder.control)

    def prompts(self, conversations: list[Conversation]) -> list[Prompt | SkippedRow]:
        """What generation feeds for each conversation, or why it cannot be asked."""
        return self._prompts.render([self._asked(one) for one in conversations])

    def prompt_with_system(self, trace: Trace, text: str) -> Prompt | SkippedRow:
        """The prompt of a trace with `text` as its system turn, before its own where it has one."""
        asked = self._asked(Conversation.of(trace))
        first, *rest = asked.messages
        if first.role == "system":
            first = replace(first, content=f"{text}\n\n{first.content}")
        else:
            first, rest = Message("system", text), [first, *rest]
        (prompt,) = self._prompts.render([replace(asked, messages=(first, *rest))])
        return prompt

    def render_batch(self, traces: list[Trace]) -> list[Sequence | SkippedRow]:
        """Render a list that fits in memory as tokens."""
        prompts = self.prompts([Conversation.of(trace) for trace in traces])
        bodies = self.encoder.texts([text for t in traces for text in (t.cot, t.answer)])
        return [
            replace(prompt, where=trace.trace_id)
            if isinstance(prompt, SkippedRow)
            else self._join(trace, prompt, bodies[2 * row], bodies[2 * row + 1])
            for row, (trace, prompt) in enumerate(zip(traces, prompts, strict=True))
        ]

    def round_trip(self, trace: Trace, sequence: Sequence) -> RoundTrip:
        """Whether the sections of an uncut sequence decode to the text they came from."""
        start = sequence.cot.start + sequence.meta[OPEN_TOKENS]
        end = sequence.cot.end - sequence.meta[CLOSE_TOKENS]
        answer_end = len(sequence) - (len(self.layout.ending_ids) if sequence.closed else 0)
        parts = [(start, end), (sequence.answer.start, answer_end)]
        decoded = self.encoder.decode([sequence.input_ids_T[a:b].tolist() for a, b in parts])
        source = [trace.cot, trace.answer if trace.closed else ""]
        if self._lost_in_prompt(trace, sequence):
            return "failed"
        if decoded == source:
            return "exact"
        return "normalised" if decoded == list(map(self.encoder.normalize, source)) else "failed"

    def _lost_in_prompt(self, trace: Trace, sequence: Sequence) -> bool:
        """Whether the text of some turn is not in the decoded prompt."""
        (text,) = self.encoder.decode([sequence.input_ids_T[: sequence.prompt.end].tolist()])
        turns = self._asked(Conversation.of(trace)).messages
        asked = [{"role": turn.role, "content": turn.content} for turn in turns]
        if find_loss(text, asked)[0] is None:
            return False
        normal = [{**m, "content": self.encoder.normalize(m["content"])} for m in asked]
        return find_loss(text, normal)[0] is not None

    def positions_of(
        self, places: list[tuple[Trace, Sequence, int]], section: Literal["cot", "answer"] = "cot"
    ) -> list[int]:
        """How many tokens of each uncut sequence cover it up to a character of a section."""
        texts = [trace.cot if section == "cot" else trace.answer for trace, _, _ in places]
        counts = self.encoder.counts_before(texts, [offset for _, _, offset in places])
        starts = [
            sequence.cot.start + int(sequence.meta[OPEN_TOKENS])
            if section == "cot"
            else sequence.answer.start
            for _, sequence, _ in places
        ]
        return [start + count for start, count in zip(starts, counts, strict=True)]

    def _asked(self, conversation: Conversation) -> Conversation:
        if self.config.system_prompt == "keep":
            return conversation
        turns = tuple(turn for turn in conversation.messages if turn.role not in PLACED_ANYWHERE)
        return replace(conversation, messages=turns)

    def _join(self, trace: Trace, prompt: Prompt, cot: list[int], answer: list[int]) -> Sequence:
        # A rollout goes on right behind what generation feeds.
        opens = not (prompt.opened or trace.is_prompt)
        opening = self._marker(self.layout.open_before(trace.cot)) if opens else []
        closing, ending = [], []
        if trace.closed:
            closing = self._marker(self.layout.close_between(trace.cot, trace.answer))
            ending = [*answer, *self.layout.ending_ids]
        cot_start = len(prompt.ids)
        cot_end = cot_start + len(opening) + len(cot) + len(closing)
        ids = [*prompt.ids, *opening, *cot, *closing, *ending]
        meta = {**trace.meta, OPEN_TOKENS: len(opening), CLOSE_TOKENS: len(closing)}
        if trace.gold is not None:
            meta["gold"] = trace.gold
        return Sequence(
            trace_id=trace.trace_id,
            input_ids_T=np.array(ids, dtype=np.int32),
            prompt=Span(0, cot_start),
            cot=Span(cot_start, cot_end),
            answer=Span(cot_end, len(ids)),
            closed=trace.closed,
            meta=meta,
        )


def render(
    traces: Iterable[Trace], tokenizer: Any, config: RenderConfig | None = None
) -> list[Sequence]:
    """Turn traces into token sequences.

    Args:
        traces: Any iterable of traces.
        tokenizer: A fast Hugging Face tokenizer.
        config: The `render` part of run.yaml.

    Returns:
        One uncut sequence a trace, in order.

    Raises:
        DataError: The chat template cannot ask a prompt; `iter_rendered` refuses and counts it.
    """
    rendered = iter_rendered(traces, Renderer(tokenizer, config))
    return [checked(sequence, "trace") for _, sequence in rendered]


def checked(made: Made | SkippedRow, what: str) -> Made:
    """What was made of a prompt.

    Raises:
        DataError: It was refused.
    """
    if isinstance(made, SkippedRow):
        raise DataError(
            f"{what} {made.where}".rstrip() + ": the chat template must take its prompt; got "
            f"{made.reason}. See docs/data.md; render.system_prompt: drop leaves system turns out."
        )
    return made


def iter_rendered(
    traces: Iterable[Trace], renderer: Renderer, num_processes: int = 1
) -> Iterator[tuple[Trace, Sequence | SkippedRow]]:
    """Pair each trace with its sequence, in order, holding a few batches at a time."""
    rows = iter(traces)
    batches = iter(lambda: list(islice(rows, BATCH_ROWS)), [])
    if num_processes == 1:
        for batch in batches:
            yield from zip(batch, renderer.render_batch(batch), strict=True)
        return
    with ProcessPoolExecutor(
        num_processes,
        mp_context=get_context("forkserver"),
        initializer=_start_worker,
        initargs=(renderer.tokenizer, renderer.config),
    ) as pool:
        waiting: deque[tuple[list[Trace], Future[list[Sequence | SkippedRow]]]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(_render_in_worker, batch)))
            if len(waiting) > 2 * num_processes:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in waiting:
            yield from zip(done, future.result(), strict=True)


_worker_renderer: Renderer | None = None


def _start_worker(tokenizer: Any, config: RenderConfig) -> None:
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core a process
    global _worker_renderer
    _worker_renderer = Renderer(tokenizer, config)


def _render_in_worker(traces: list[Trace]) -> list[Sequence | SkippedRow]:
    assert _worker_renderer is not None
    return _worker_renderer.render_batch(traces)
