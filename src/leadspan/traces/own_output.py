"""A rendered trace beside what its chat template writes for the whole conversation by itself.

Generation sees the template's generation prompt; the model's makers trained on the template's own
assistant turns. Where the two disagree, a student learns a format that nobody else writes.
"""

from __future__ import annotations

from typing import Literal

from leadspan.chat import assistant_messages
from leadspan.records import Trace
from leadspan.traces.prompts import Prompt
from leadspan.traces.render import Renderer

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
