"""Harmony, the text that gpt-oss writes, as its messages. Knows nothing about sections or rows.

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...<|return|>

A header names the channel (analysis, commentary, final), and for a tool call whom it goes to:
`<|channel|>commentary to=functions.add <|constrain|>json<|message|>{...}<|call|>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANALYSIS = "<|channel|>analysis"
FINAL = "<|start|>assistant<|channel|>final"
_HEADER = re.compile(
    r"(?:<\|start\|>(?P<role>[^<]{0,80}))?<\|channel\|>(?P<channel>[^<]{1,80})"
    r"(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
)
_END = re.compile(r"<\|(?:end|return|call|endoftext)\|>")
_TO = re.compile(r"to=(\S+)")


@dataclass(frozen=True, slots=True)
class HarmonyMessage:
    """One message of a completion."""

    channel: str
    text: str
    recipient: str
    """The tool that it calls; empty for none."""
    ended: bool
    """Whether its end token is there."""


def messages_of(text: str) -> list[HarmonyMessage] | None:
    """The messages of a completion; None where text stands outside of any.

    A completion whose prompt had opened the analysis starts within it.
    """
    headers = list(_HEADER.finditer(text))
    starts = [0, *(header.end() for header in headers)]
    ends = [*(header.start() for header in headers), len(text)]
    found = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        body, ended, after = _ended(text[start:end])
        if number == 0:
            if not body.strip() and not ended:
                continue
            if not ended:
                return None
            found.append(HarmonyMessage("analysis", body, "", ended))
        else:
            header = headers[number - 1]
            named = f"{header['role'] or ''} {header['channel']}"
            to = _TO.search(named)
            channel = header["channel"].split(maxsplit=1)
            found.append(
                HarmonyMessage(channel[0] if channel else "", body, to[1] if to else "", ended)
            )
        if after.strip():
            return None
    return found or None


def _ended(text: str) -> tuple[str, bool, str]:
    """A message's text up to its end token, whether that is there, and what follows."""
    end = _END.search(text)
    if end is None:
        return text, False, ""
    return text[: end.start()], True, _END.sub("", text[end.end() :])
