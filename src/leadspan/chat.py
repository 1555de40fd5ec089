"""One conversation through one chat template, as text. Knows nothing about traces or think markers.

The template is compiled by transformers, in its sandbox, and rendered here: that way a template reads
the date of the run instead of the clock, and special tokens that a tokenizer lacks are empty text.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from leadspan.config import PLAIN, RenderConfig
from leadspan.errors import DataError

SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")
CLOCKS = ("now", "datetime", "today", "today_date", "current_date", "current_datetime", "date")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""What templates call the CoT of an assistant turn."""

ChatMessage = dict[str, Any]


class FrozenClock(str):
    """Midnight of one day, whatever a template asks: `now()`, `datetime.now()`, a format, plain text."""

    __slots__ = ()

    def now(self, *_: Any) -> FrozenClock:
        """The same moment, always."""
        return self

    utcnow = today = __call__ = now

    @property
    def datetime(self) -> FrozenClock:
        """For templates that write `datetime.datetime.now()`."""
        return self

    def __getattr__(self, name: str) -> Any:
        """`strftime`, `year` and all else that the moment knows."""
        return getattr(datetime.datetime.fromisoformat(self), name)


def clock_variables(date: str) -> dict[str, Any]:
    """Every name under which templates read the time, held at `date` (ISO, such as 2026-11-25)."""
    clock = FrozenClock(date)
    return {
        "strftime_now": clock.strftime,
        "date_string": clock.strftime("%d %b %Y"),
        "current_time": clock.strftime("%H:%M:%S"),
        **dict.fromkeys(CLOCKS, clock),
    }


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template and the variables that it is given with every conversation."""

    text: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Special tokens, thinking switches, settings of the run."""
    run_date: str | None = None
    """ISO date at which clocks stand; None leaves them running."""

    @cached_property
    def _compiled(self) -> Any:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        return _compile_jinja_template(self.text)

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables that the template reads and does not set itself, global functions included."""
        from jinja2.meta import find_undeclared_variables
        from jinja2.nodes import Name

        environment = self._compiled.environment
        tree = environment.parse(self.text)
        read = {node.name for node in tree.find_all(Name)}
        return frozenset(find_undeclared_variables(tree) | (read & environment.globals.keys()))

    @cached_property
    def clocks(self) -> dict[str, Any]:
        """The clocks that the template reads, standing still."""
        known = clock_variables(self.run_date) if self.run_date else {}
        return {name: value for name, value in known.items() if name in self.names}

    @cached_property
    def date(self) -> str | None:
        """The date that the text may depend on; None where the template reads no clock."""
        return self.run_date if self.clocks else None

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as text.

        Raises:
            Exception: Whatever the template raises.
        """
        text: str = self._compiled.render(
            {
                **self.clocks,
                **self.variables,
                **(variables or {}),
                "messages": list(messages),
                "tools": list(tools) or None,
                "documents": None,
                "add_generation_prompt": generation_prompt,
            }
        )
        return text


def choose_template(tokenizer: Any, config: RenderConfig) -> str | None:
    """The Jinja text that prompts go through: `render.chat_template`, else the tokenizer's own.

    Returns:
        None where prompts are rendered plainly.

    Raises:
        DataError: The file cannot be read, or the tokenizer has several templates and no default.
    """
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


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """The special tokens by the names that templates use; empty text for those that do not exist."""
    return {**dict.fromkeys(SPECIAL_NAMES, ""), **tokenizer.special_tokens_map}


def assistant_messages(cot: str, answer: str) -> tuple[ChatMessage, ChatMessage]:
    """An assistant turn with its CoT, in the two shapes that templates know: fields and parts."""
    parts = [{"type": "thinking", "thinking": cot}, {"type": "text", "text": answer}]
    fields = dict.fromkeys(REASONING_FIELDS, cot)
    return (
        {"role": "assistant", "content": answer, **fields},
        {"role": "assistant", "content": parts},
    )


def with_parts(message: ChatMessage) -> ChatMessage:
    """The message with its text as a list of parts, for templates that read nothing else."""
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return {**message, "content": [{"type": "text", "text": content}]}
