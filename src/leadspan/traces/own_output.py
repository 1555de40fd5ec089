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

Agreement = Literal["same", "other white space", "differs"]


def compare_with_template(renderer: Renderer, trace: Trace, prompt: Prompt) -> Agreement:
    """Hold prompt, CoT and answer of a trace against the template's own text of the conversation.

    A template that drops the CoT of assistant turns is held against prompt and answer alone.
    """
    chat, block = renderer.layout.chat, renderer.layout.block
    if chat is None:
        return "same"
    start, close = prompt.text, renderer.layout.close_between(trace.cot, trace.answer)
    if block.shape is None:
        start = start[: start.rindex(block.open.strip())] if prompt.opened else start
        reply, thought = {"role": "assistant", "content": trace.answer}, ""
    else:
        reply = assistant_messages(trace.cot, trace.answer)[block.shape]
        opening = "" if prompt.opened else renderer.layout.open_before(trace.cot)
        thought = f"{opening}{trace.cot}{close}"
    ours = f"{start}{thought}{trace.answer}"
    try:
        theirs = chat.render(
            [*prompt.messages, reply],
            generation_prompt=False,
            tools=trace.tools,
            variables=prompt.variables,
        )
    except Exception:  # a template that cannot write the turn agrees with nothing
        return "differs"
    if theirs.startswith(ours):
        return "same"
    squeezed = "".join(theirs.split()).startswith("".join(ours.split()))
    return "other white space" if squeezed else "differs"
