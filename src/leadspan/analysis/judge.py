"""Ask an LLM, at an OpenAI-compatible endpoint, what the paper asked one.

Three questions a trace: does the CoT entail the prompt, does it entail the answer, and after which
words does it first derive the gold. Prompts stand in PROMPTS; answers are cached by content, so a
second call asks nothing twice. Needs the `endpoint` extra.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from leadspan.analysis.values import find_spelled
from leadspan.config import EndpointConfig
from leadspan.endpoint import Answer, Call, Endpoint
from leadspan.messages import Unusable, read_message
from leadspan.records import Trace
from leadspan.runs import cache_root, write_json_atomic

Question = Literal["prompt", "answer", "derivation"]

PROMPTS: dict[Question, str] = {
    "prompt": (
        "Below are a PROBLEM and a REASONING written about it. Could a careful reader who sees only "
        "the REASONING reconstruct every condition and the question of the PROBLEM?\n"
        "Reply with one word, yes or no.\n\nPROBLEM:\n{prompt}\n\nREASONING:\n{cot}"
    ),
    "answer": (
        "Below are a REASONING and an ANSWER. Does the REASONING already establish everything that "
        "the ANSWER concludes, with the same final result?\n"
        "Reply with one word, yes or no.\n\nREASONING:\n{cot}\n\nANSWER:\n{answer}"
    ),
    "derivation": (
        "Below are a PROBLEM, its correct RESULT and a REASONING. Find the first place where the "
        "REASONING derives the RESULT: where it is computed or concluded as the answer, not where "
        "the same number is given, guessed, or an intermediate value.\n"
        "Reply with the shortest exact quotation of the REASONING that ends with that first derived "
        "result, between <quote> and </quote>, or <quote></quote> if there is none.\n\n"
        "PROBLEM:\n{prompt}\n\nRESULT: {gold}\n\nREASONING:\n{cot}"
    ),
}
ANSWER_TOKENS: dict[Question, int] = {"prompt": 4, "answer": 4, "derivation": 120}
CHARACTERS_PER_TOKEN = 3.5
"""For the estimate of the cost alone."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking costs, before it is asked."""

    calls: int
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said about one trace; None where it was not asked or not understood."""

    trace_id: str
    entails_prompt: bool | None
    entails_answer: bool | None
    derivation_end: int | None
    """Character after the quotation in the CoT; None where it quoted nothing that stands there."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All verdicts, and how many answers could not be used."""

    verdicts: tuple[Verdict, ...]
    unusable: dict[str, int]
    num_asked: int
    """Calls made; the others came from the cache."""

    def summary(self) -> dict[str, Any]:
        """Shares over the traces with a usable answer."""
        return {
            "asked": True,
            "traces": len(self.verdicts),
            "calls": self.num_asked,
            "entails_prompt": _share([v.entails_prompt for v in self.verdicts]),
            "entails_answer": _share([v.entails_answer for v in self.verdicts]),
            "located": sum(v.derivation_end is not None for v in self.verdicts),
            "unusable": self.unusable,
        }


def estimate(traces: Sequence[Trace]) -> Estimate:
    """Calls and tokens that judging these traces takes without a cache."""
    texts = [(question, text) for trace in traces for question, text in _questions(trace)]
    characters = sum(len(text) for _, text in texts)
    return Estimate(
        calls=len(texts),
        prompt_tokens=round(characters / CHARACTERS_PER_TOKEN),
        answer_tokens=sum(ANSWER_TOKENS[question] for question, _ in texts),
    )


def judge_traces(
    traces: Sequence[Trace], endpoint: EndpointConfig, cache: Path | None = None
) -> Judgement:
    """Ask about each trace what is not in the cache yet.

    Args:
        traces: What to read.
        endpoint: The server; temperature is 0.
        cache: Folder of the answers; `judge` in the user's leadspan cache by default.

    Raises:
        ConfigError: The `endpoint` extra is missing.
        RunError: The server cannot be reached or refuses.
    """
    folder = cache or cache_root() / "judge"
    questions = {
        _key(endpoint, text): (trace, question, text)
        for trace in traces
        for question, text in _questions(trace)
    }
    known = {key: text for key in questions if (text := _read_cached(folder, key)) is not None}
    missing = {key: entry for key, entry in questions.items() if key not in known}
    unusable: Counter[str] = Counter()
    if missing:
        for answer in _ask(endpoint, missing):
            text = _text_of(answer)
            if text is None:
                unusable["no_answer"] += 1
                continue
            known[answer.key] = text
            write_json_atomic(folder / f"{answer.key}.json", {"text": text})
    replies = {(questions[key][0].trace_id, questions[key][1]): text for key, text in known.items()}
    verdicts = tuple(_verdict(trace, replies, unusable) for trace in traces)
    return Judgement(verdicts, dict(unusable), len(missing))


def _questions(trace: Trace) -> Iterator[tuple[Question, str]]:
    fields = {"prompt": trace.prompt, "cot": trace.cot, "answer": trace.answer, "gold": trace.gold}
    yield "prompt", PROMPTS["prompt"].format(**fields)
    if trace.answer.strip():
        yield "answer", PROMPTS["answer"].format(**fields)
    if trace.gold:
        yield "derivation", PROMPTS["derivation"].format(**fields)


def _key(endpoint: EndpointConfig, text: str) -> str:
    return hashlib.sha256(f"{endpoint.base_url}\n{endpoint.model}\n{text}".encode()).hexdigest()[
        :32
    ]


def _read_cached(folder: Path, key: str) -> str | None:
    try:
        content = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    text = content.get("text") if isinstance(content, dict) else None
    return text if isinstance(text, str) else None


def _ask(
    config: EndpointConfig, missing: dict[str, tuple[Trace, Question, str]]
) -> Iterator[Answer]:
    endpoint = Endpoint(config)
    endpoint.check()
    calls = (
        Call(
            key,
            "/chat/completions",
            {
                "model": config.model,
                "messages": [{"role": "user", "content": text}],
                "temperature": 0.0,
                "max_tokens": 8 * ANSWER_TOKENS[question],
            },
        )
        for key, (_, question, text) in missing.items()
    )
    yield from endpoint.ask_many(calls)


def _text_of(answer: Answer) -> str | None:
    try:
        message = (answer.body or {})["choices"][0]["message"]
        return read_message(message, "assistant").text or None
    except (KeyError, IndexError, TypeError, Unusable):
        return None


def _verdict(
    trace: Trace, replies: dict[tuple[str, Question], str], unusable: Counter[str]
) -> Verdict:
    return Verdict(
        trace_id=trace.trace_id,
        entails_prompt=_yes_or_no(replies.get((trace.trace_id, "prompt")), unusable),
        entails_answer=_yes_or_no(replies.get((trace.trace_id, "answer")), unusable),
        derivation_end=_quoted_end(trace, replies.get((trace.trace_id, "derivation")), unusable),
    )


def _yes_or_no(text: str | None, unusable: Counter[str]) -> bool | None:
    if text is None:
        return None
    words = re.findall(r"\b(?:yes|no)\b", text.lower())
    if not words:
        unusable["neither_yes_nor_no"] += 1
        return None
    return bool(words[-1] == "yes")


def _quoted_end(trace: Trace, text: str | None, unusable: Counter[str]) -> int | None:
    if text is None:
        return None
    _, opened, rest = text.partition("<quote>")
    quote, closed, _ = rest.partition("</quote>")
    if not (opened and closed):
        unusable["no_quotation"] += 1
        return None
    if not quote.strip():
        return None
    found = find_spelled(trace.cot, quote)
    if not found:
        unusable["quotation_not_in_cot"] += 1
    return found[0][1] if found else None


def _share(values: list[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
