"""What stands around CoT and answer: chat template, think markers, end of turn.

Knows templates and special tokens; knows nothing about traces or spans.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leadspan.chat import ChatTemplate, special_tokens
from leadspan.config import PLAIN, RenderConfig
from leadspan.errors import DataError, LeadspanError
from leadspan.models import end_of_turn_id
from leadspan.traces.think_block import (
    QUESTION,
    SWITCHES,
    ThinkBlock,
    closes_think,
    find_block,
    switched_on,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The fixed texts and ids around the parts of a trace."""

    chat: ChatTemplate | None
    """None renders prompts plainly, for base models without a template."""
    block: ThinkBlock
    """The think markers; the open one is left out behind a prompt that ends in it."""
    ending_ids: tuple[int, ...] = ()
    """What follows the answer: the end-of-turn token, and more only with `paper_compat`."""
    bos_ids: tuple[int, ...] = ()
    """Stands before a plain prompt, where the tokenizer adds a bos of its own."""

    @property
    def template(self) -> str | None:
        """The Jinja text."""
        return self.chat.text if self.chat else None

    @property
    def identity(self) -> list[Any]:
        """Everything that the text of a sequence depends on, as JSON."""
        chat, block = self.chat, self.block
        frame = [block.open, block.close, list(self.ending_ids)]
        return [*([chat.text, dict(chat.variables), chat.date] if chat else []), *frame]

    def open_before(self, cot: str) -> str:
        """The text between prompt and CoT, without newlines that the CoT brings itself."""
        return without_overlap(self.block.open, cot)

    def close_between(self, cot: str, answer: str) -> str:
        """The text between CoT and answer, without newlines that either brings itself."""
        core = self.block.close.lstrip()
        before = self.block.close[: len(self.block.close) - len(core)]
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
    text = _template(tokenizer, config)
    chat = None
    if text is not None:
        variables = {**special_tokens(tokenizer), **SWITCHES, **config.template_variables}
        chat = ChatTemplate(text, variables, str(config.dated().date))
    try:
        chat = chat and switched_on(chat)
        if chat and closes_think(chat):
            raise DataError(
                "chat template: its generation prompt must leave the think block open; got one that "
                "closes it. Switch thinking on with render.template_variables."
            )
        block = _own_markers(find_block(chat), config)
        ending = _ending(tokenizer, chat, config.paper_compat)
    except LeadspanError:
        raise
    except Exception as error:  # Jinja's own, and whatever a template raises
        raise DataError(
            f"chat template: must render a user and an assistant turn; {error}."
        ) from None
    return Layout(chat, block, ending, _own_bos(tokenizer) if chat is None else ())


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
    if not tokenizer.chat_template:
        return None
    try:
        text: str = tokenizer.get_chat_template()
    except ValueError as error:  # several by name, none of them the default
        raise DataError(f"chat template: must be one; {error} Give render.chat_template.") from None
    return text


def _own_markers(block: ThinkBlock, config: RenderConfig) -> ThinkBlock:
    if config.think_open is not None:
        block = replace(block, open=config.think_open, source="run.yaml")
    if config.think_close is not None:
        block = replace(block, close=config.think_close, source="run.yaml")
    for name, text in (("think_open", block.open), ("think_close", block.close)):
        if not text.strip():
            raise DataError(f"render.{name}: must hold a marker; got {text!r}.")
    return block


def _own_bos(tokenizer: Any) -> tuple[int, ...]:
    bos_id = tokenizer.bos_token_id
    first = tokenizer(QUESTION)["input_ids"][:1]
    return (bos_id,) if bos_id is not None and first == [bos_id] else ()


def _ending(tokenizer: Any, chat: ChatTemplate | None, paper_compat: bool) -> tuple[int, ...]:
    framed = copy.copy(tokenizer)
    framed.chat_template = chat and chat.text
    if not paper_compat or chat is None:
        return (end_of_turn_id(framed),)
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": QUESTION}]
    text = chat.render(turns, generation_prompt=True).rpartition(QUESTION)[2]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
