"""What stands around CoT and answer: chat template, think markers, end of turn.

Knows templates and special tokens; knows nothing about traces or spans.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leadspan.config import PLAIN, RenderConfig
from leadspan.errors import DataError, LeadspanError
from leadspan.models import end_of_turn_id
from leadspan.records import Turn

SENTINEL = "leadspan"
DEFAULT_VARIABLES = {
    "enable_thinking": True,
    "open_thinking": True,
    "thinking": True,
    "date_string": "26 Jul 2024",
}
"""Thinking is on, whatever a template calls it, and no template reads the clock."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fixed texts and ids around the parts of a trace."""

    template: str | None
    """Jinja text; None renders prompts plainly, for base models without a template."""
    variables: dict[str, Any]
    think_close: str
    """Text between CoT and answer."""
    think_open: str
    """Text between the prompt and the CoT; empty where the generation prompt writes it."""
    prompt_open: str = ""
    """The opening marker that the generation prompt writes; else empty."""
    ending_ids: tuple[int, ...] = ()
    """What follows the answer: the end-of-turn token, and more only with `paper_compat`."""
    bos_ids: tuple[int, ...] = ()
    """Stands before a plain prompt, where the tokenizer adds a bos of its own."""

    def prompt_texts(self, tokenizer: Any, conversations: Rows[tuple[Turn, ...]]) -> list[str]:
        """The texts that generation starts from, generation prompt included."""
        if self.template is None:
            return ["".join(f"{turn.content}\n" for turn in turns) for turns in conversations]
        return self.apply(tokenizer, conversations, generation_prompt=True)

    def apply(
        self,
        tokenizer: Any,
        conversations: Rows[tuple[Turn, ...]],
        generation_prompt: bool,
    ) -> list[str]:
        """The conversations through the chat template, as text."""
        texts: list[str] = tokenizer.apply_chat_template(
            [
                [{"role": turn.role, "content": turn.content} for turn in turns]
                for turns in conversations
            ],
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            **self.variables,
        )
        return texts

    def open_before(self, cot: str) -> str:
        """The text between prompt and CoT, without newlines that the CoT brings itself."""
        return without_overlap(self.think_open, cot)

    def close_between(self, cot: str, answer: str) -> str:
        """The text between CoT and answer, without newlines that either brings itself."""
        core = self.think_close.lstrip()
        before = self.think_close[: len(self.think_close) - len(core)]
        shared = max(k for k in range(len(before) + 1) if cot.endswith(before[:k]))
        return before[shared:] + without_overlap(core, answer)


def without_overlap(glue: str, text: str) -> str:
    """`glue` without the white space at its end with which `text` already starts."""
    most = len(glue) - len(glue.rstrip())
    shared = max(k for k in range(most + 1) if text.startswith(glue[len(glue) - k :]))
    return glue[: len(glue) - shared]


def build_layout(tokenizer: Any, config: RenderConfig) -> Layout:
    """Find out how this tokenizer and template frame a completion.

    Raises:
        DataError: The template cannot be read or fails, closes the think block before the model can
            think, or there is no end-of-turn token.
    """
    template = _template(tokenizer, config)
    think_open, think_close = _markers(template, config)
    layout = Layout(
        template=template,
        variables={**DEFAULT_VARIABLES, **config.template_variables},
        think_open=think_open,
        think_close=think_close,
        bos_ids=_own_bos(tokenizer) if template is None else (),
    )
    try:
        prompt = layout.prompt_texts(tokenizer, [(Turn("user", SENTINEL),)])[0].rstrip()
        layout = replace(layout, ending_ids=_ending(tokenizer, layout, config.paper_compat))
    except LeadspanError:
        raise
    except Exception as error:  # Jinja's own, and whatever a template raises
        raise DataError(
            f"chat template: must render a user and an assistant turn; {error}."
        ) from None
    if prompt.endswith(think_close.strip()):
        raise DataError(
            "chat template: its generation prompt must leave the think block open; got one that "
            f"ends in {think_close.strip()!r}. Switch thinking on with render.template_variables."
        )
    if prompt.endswith(think_open.strip()):
        return replace(layout, think_open="", prompt_open=think_open)
    return layout


def _template(tokenizer: Any, config: RenderConfig) -> str | None:
    if config.chat_template == PLAIN:
        return None
    if config.chat_template:
        try:
            return Path(config.chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"render.chat_template: must be a readable Jinja file or plain; "
                f"got {config.chat_template!r} ({error})."
            ) from None
    return tokenizer.chat_template or None


def _markers(template: str | None, config: RenderConfig) -> tuple[str, str]:
    """Newlines around the markers where the template has them, bare markers elsewhere."""
    spaced = template is not None and ("<think>\n" in template or "<think>\\n" in template)
    think_open = "<think>\n" if spaced else "<think>"
    think_close = "\n</think>\n\n" if spaced else "</think>"
    if config.think_open is not None:
        think_open = config.think_open
    if config.think_close is not None:
        think_close = config.think_close
    for name, text in (("think_open", think_open), ("think_close", think_close)):
        if not text.strip():
            raise DataError(f"render.{name}: must hold a marker; got {text!r}.")
    return think_open, think_close


def _own_bos(tokenizer: Any) -> tuple[int, ...]:
    bos_id = tokenizer.bos_token_id
    first = tokenizer(SENTINEL)["input_ids"][:1]
    return (bos_id,) if bos_id is not None and first == [bos_id] else ()


def _ending(tokenizer: Any, layout: Layout, paper_compat: bool) -> tuple[int, ...]:
    framed = copy.copy(tokenizer)
    framed.chat_template = layout.template
    if not paper_compat or layout.template is None:
        return (end_of_turn_id(framed),)
    turns = (Turn("user", "?"), Turn("assistant", SENTINEL))
    text = layout.apply(tokenizer, [turns], generation_prompt=True)[0].rpartition(SENTINEL)[2]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
