"""What stands around CoT and answer: chat template, think markers, end of turn.

Knows templates and special tokens; knows nothing about traces or spans.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadspan.config import RenderConfig
from leadspan.errors import DataError
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
    think_open: str
    """Text between the prompt and the CoT; empty where the generation prompt writes it."""
    think_close: str
    end_id: int
    bos: str = ""
    """Written before a plain prompt, where the tokenizer adds a bos of its own."""

    def prompt_texts(self, tokenizer: Any, conversations: Rows[tuple[Turn, ...]]) -> list[str]:
        """The texts that generation starts from, generation prompt included."""
        if self.template is None:
            return [
                self.bos + "".join(turn.content + "\n" for turn in turns) for turns in conversations
            ]
        texts: list[str] = tokenizer.apply_chat_template(
            [
                [{"role": turn.role, "content": turn.content} for turn in turns]
                for turns in conversations
            ],
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=True,
            **self.variables,
        )
        return texts


def build_layout(tokenizer: Any, config: RenderConfig) -> Layout:
    """Find out how this tokenizer and template frame a completion.

    Raises:
        DataError: The template cannot be read, closes the think block before the model can think,
            or there is no end-of-turn token.
    """
    template = _template(tokenizer, config)
    variables = {**DEFAULT_VARIABLES, **config.template_variables}
    think_open, think_close = _markers(template, config)
    layout = Layout(template, variables, think_open, think_close, 0)
    bos = _own_bos(tokenizer) if template is None else ""
    prompt = layout.prompt_texts(tokenizer, [(Turn("user", SENTINEL),)])[0]
    if prompt.rstrip().endswith(think_close.strip()):
        raise DataError(
            "chat template: its generation prompt must leave the think block open; got one that "
            f"ends in {think_close.strip()!r}. Set render.template_variables to switch thinking on."
        )
    if prompt.rstrip().endswith(think_open.strip()):
        think_open = ""
    return Layout(template, variables, think_open, think_close, _end_id(tokenizer, template), bos)


def _template(tokenizer: Any, config: RenderConfig) -> str | None:
    if config.chat_template == "plain":
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
    return think_open, think_close


def _own_bos(tokenizer: Any) -> str:
    bos_id = tokenizer.bos_token_id
    with_special = tokenizer(SENTINEL)["input_ids"]
    return tokenizer.bos_token if bos_id is not None and with_special[:1] == [bos_id] else ""


def _end_id(tokenizer: Any, template: str | None) -> int:
    """The end of turn under `template`, which need not be the tokenizer's own."""
    framed = copy.copy(tokenizer)
    framed.chat_template = template
    return end_of_turn_id(framed)
