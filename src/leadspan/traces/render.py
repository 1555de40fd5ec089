"""Traces as tokens, with exact sections. Knows text and tokenizers, not files or cuts.

The parts prompt | open marker | CoT | close marker | answer | end token are tokenised apart and
concatenated, so a span is a sum of part lengths and the prompt's ids are exactly those that
generation feeds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from leadspan.config import RenderConfig
from leadspan.records import Sequence, Span, Trace, Turn
from leadspan.traces.layout import Layout, build_layout
from leadspan.traces.truncate import CLOSE_TOKENS

BATCH_ROWS = 256


class Renderer:
    """Renders many traces with one tokenizer and one template."""

    def __init__(self, tokenizer: Any, config: RenderConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config or RenderConfig()
        self.layout: Layout = build_layout(tokenizer, self.config)
        self._body = _continuation_encoder(tokenizer)
        self._open_ids = self._marker_ids(self.layout.think_open)
        self._close_ids = self._marker_ids(self.layout.think_close)
        # Words such as <|im_end|> inside a trace are text there, not control tokens.
        self._body.encode_special_tokens = True

    def render(self, traces: Iterable[Trace]) -> list[Sequence]:
        """Render in batches; the order is kept."""
        rows = iter(traces)
        rendered: list[Sequence] = []
        while batch := list(islice(rows, BATCH_ROWS)):
            rendered += self._render_batch(batch)
        return rendered

    def prompt_ids(self, conversations: list[tuple[Turn, ...]]) -> list[list[int]]:
        """What generation feeds for each conversation."""
        texts = self.layout.prompt_texts(self.tokenizer, [self._asked(c) for c in conversations])
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return encoded

    def _asked(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        if self.config.system_prompt == "keep":
            return turns
        return tuple(turn for turn in turns if turn.role != "system")

    def _marker_ids(self, text: str) -> list[int]:
        ids: list[int] = self._body.encode(text, add_special_tokens=False).ids if text else []
        return ids

    def _render_batch(self, traces: list[Trace]) -> list[Sequence]:
        prompts = self.prompt_ids([trace.turns for trace in traces])
        bodies = self._body.encode_batch_fast(
            [text for trace in traces for text in (trace.cot, trace.answer)],
            add_special_tokens=False,
        )
        return [
            self._join(trace, prompt, bodies[2 * row].ids, bodies[2 * row + 1].ids)
            for row, (trace, prompt) in enumerate(zip(traces, prompts, strict=True))
        ]

    def _join(self, trace: Trace, prompt: list[int], cot: list[int], answer: list[int]) -> Sequence:
        close = self._close_ids if trace.closed else []
        ending = [*answer, self.layout.end_id] if trace.closed else []
        cot_end = len(prompt) + len(self._open_ids) + len(cot) + len(close)
        ids = [*prompt, *self._open_ids, *cot, *close, *ending]
        meta = {**trace.meta, CLOSE_TOKENS: len(close)}
        if trace.gold is not None:
            meta["gold"] = trace.gold
        return Sequence(
            trace_id=trace.trace_id,
            input_ids_T=np.array(ids, dtype=np.int32),
            prompt=Span(0, len(prompt)),
            cot=Span(len(prompt), cot_end),
            answer=Span(cot_end, len(ids)),
            closed=trace.closed,
            meta=meta,
        )


def _continuation_encoder(tokenizer: Any) -> Any:
    """A copy of the fast tokenizer that continues a text: no dummy space at its start."""
    return copy.deepcopy(tokenizer.backend_tokenizer)


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
    """
    return Renderer(tokenizer, config).render(traces)


def render_prompt(
    turns: tuple[Turn, ...], tokenizer: Any, config: RenderConfig | None = None
) -> list[int]:
    """The token ids that generation feeds for a conversation, a true prefix of its training ids."""
    return Renderer(tokenizer, config).prompt_ids([turns])[0]
