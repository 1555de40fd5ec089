"""The student as evaluation sees it: how it is asked, how its text is read, and what generates.

Loading the model waits until an answer is wanted, so a finished evaluation costs a tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leadspan.config import EvaluationConfig, ModelConfig, RenderConfig
from leadspan.errors import ConfigError
from leadspan.evaluation.benchmarks import Problem
from leadspan.generation.requests import Backend, Request
from leadspan.grading import Grade, Grader, check_kind
from leadspan.identity import digest, model_fingerprint
from leadspan.progress import say
from leadspan.records import Message
from leadspan.traces.prompts import Conversation
from leadspan.traces.render import Renderer, checked


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text as its two sections."""

    cot: str
    answer: str
    closed: bool
    """True where the think block was closed, or where there was none and the answer ended."""


def split_generation(
    text: str, think_open: str, think_close: str, opened: bool, ended: bool
) -> Generation:
    """Split at the first closing marker, as inference servers do.

    Args:
        text: What the model wrote, special tokens kept.
        think_open: The opening marker.
        think_close: The closing marker.
        opened: The prompt already ends in the opening marker.
        ended: The model ended its turn, rather than being cut off.
    """
    cot, marker, answer = text.partition(think_close)
    if marker:
        return Generation(cot.lstrip().removeprefix(think_open), answer, True)
    if opened or text.lstrip().startswith(think_open):
        return Generation(text.lstrip().removeprefix(think_open), "", False)
    return Generation("", text, ended)


def grade(completion: str, gold: str | Sequence[str], kind: str = "math") -> Grade:
    """Grade one completion. For many, keep one `Grader` open: it starts its workers once.

    Args:
        completion: The text that holds the answer; a CoT before it does no harm to `math`, which
            reads the last answer.
        gold: The accepted answer, or several of which any counts.
        kind: math, numeric, choice, exact, set or `module:function`.
    """
    with Grader(workers=1) as grader:
        return grader.grade(completion, gold, check_kind(kind))


@dataclass(frozen=True, slots=True)
class Prompt:
    """One problem as the student is asked it."""

    messages: tuple[Message, ...]
    text: str
    ids: tuple[int, ...] = ()
    opened: bool = False
    """It ends in the opening think marker."""

    def request(self, key: str, seed: int) -> Request:
        """As a request for one answer."""
        return Request(key, self.ids, self.text, self.messages, seed)


class LocalStudent:
    """A model folder or hub id: prompts are rendered here, with its own tokenizer and template."""

    def __init__(
        self,
        path: str | Path,
        config: EvaluationConfig,
        render: RenderConfig,
        revision: str | None = None,
    ) -> None:
        from leadspan.models import load_tokenizer

        self._path, self._revision, self._config = str(path), revision, config
        self._tokenizer = load_tokenizer(ModelConfig(path=self._path, revision=revision), render)
        self._renderer = Renderer(self._tokenizer, render)
        self._layout = self._renderer.layout
        self._block = self._layout.block
        self._end_id = self._layout.ending_ids[0]
        self._check_cue()

    @property
    def identity(self) -> dict[str, Any]:
        """What the student is and how it is asked."""
        fingerprint = model_fingerprint(self._path, self._revision) or self._path
        student = {"path": self._path, "fingerprint": fingerprint}
        if self._revision is not None:
            student["revision"] = self._revision
        return {
            "student": student,
            "chat_template": digest(json.dumps(self._layout.identity, sort_keys=True, default=str)),
            "date": self._layout.chat and self._layout.chat.date,
            "backend": {"name": self._config.backend, "dtype": self._dtype},
        }

    @cached_property
    def _dtype(self) -> str:
        if self._config.backend == "endpoint":
            return "server"
        from leadspan.precision import own_device, resolve_dtype

        return resolve_dtype(self._config.dtype, own_device())

    def prompts(self, problems: Sequence[Problem]) -> list[Prompt]:
        """Each problem through the chat template."""
        made = self._renderer.prompts([Conversation(problem.messages) for problem in problems])
        return [
            Prompt(problem.messages, prompt.text, tuple(prompt.ids), prompt.opened)
            for problem, one in zip(problems, made, strict=True)
            for prompt in [checked(one, f"problem {problem.problem_id}")]
        ]

    def split(self, text: str, ended: bool, opened: bool) -> Generation:
        """What was generated, as CoT and answer."""
        think_open, think_close = self._block.open.strip(), self._block.close.strip()
        return split_generation(text, think_open, think_close, opened, ended)

    def force(self, prompt: Prompt, text: str, cue: str) -> Prompt:
        """The prompt that goes on after `text` with the block closed and the cue written."""
        rest = f"{text}{self._block.close}{cue}"
        ids = (*prompt.ids, *self._renderer.encoder.control(rest))
        return Prompt(prompt.messages, prompt.text + rest, ids, prompt.opened)

    def _check_cue(self) -> None:
        if self._config.answer_forcing is None:
            return
        cue = self._config.answer_forcing.cue
        ids = self._tokenizer(cue, add_special_tokens=False)["input_ids"]
        back = self._tokenizer.decode(ids, skip_special_tokens=False)
        if "".join(back.split()) != "".join(cue.split()):
            raise ConfigError(
                f"evaluation.answer_forcing.cue must be text that the tokenizer can write; got "
                f"{cue!r}, which it reads as {back!r}. Give another cue, or an empty one."
            )

    @cached_property
    def backend(self) -> Backend:
        """What generates; loads the model on first use."""
        if self._config.backend == "endpoint":
            from leadspan.generation.served import EndpointBackend

            assert self._config.endpoint is not None
            added = self._tokenizer.decode(self._tokenizer("")["input_ids"])
            return EndpointBackend(self._config.endpoint, self._config.sampling, added_start=added)
        if self._config.backend == "vllm":
            from leadspan.generation.vllm import VllmBackend

            return VllmBackend(
                self._path,
                self._config.sampling,
                {self._end_id},
                "evaluation.backend",
                self._revision,
                dtype=self._config.dtype,
                tensor_parallel_size=self._config.tensor_parallel_size,
                max_num_seqs=self._config.batch_size,
                seed=self._config.sampling.seed,
            )
        return self._transformers()

    def _transformers(self) -> Backend:

        from leadspan.generation.local import TransformersBackend
        from leadspan.models import check_head_width, load_causal_lm, real_vocab_size
        from leadspan.precision import explain_bf16, own_device

        device = own_device()
        if self._config.dtype == "auto":
            say(
                f"{self._path}: {explain_bf16('evaluation.dtype', self._dtype == 'bfloat16', device)}"
            )
        content = {"path": self._path, "revision": self._revision, "dtype": self._dtype}
        loaded = ModelConfig.model_validate(content)
        model = load_causal_lm(loaded, device)
        check_head_width(model, real_vocab_size(self._tokenizer), self._path)
        sampling, size = self._config.sampling, self._config.batch_size
        return TransformersBackend(model, self._tokenizer, sampling, size, self._end_id)


class ServedStudent:
    """A model behind a chat server, which applies the template and may split the reasoning off."""

    def __init__(self, config: EvaluationConfig) -> None:
        assert config.endpoint is not None
        self._config, self._endpoint = config, config.endpoint

    @property
    def identity(self) -> dict[str, Any]:
        """What is known of a server."""
        return {
            "student": {"path": self._endpoint.base_url, "fingerprint": self._endpoint.model},
            "chat_template": "the server's",
            "backend": {"name": "endpoint", "dtype": "server"},
        }

    def prompts(self, problems: Sequence[Problem]) -> list[Prompt]:
        """Each problem as messages; the text is for the reader of samples.jsonl."""
        return [
            Prompt(p.messages, "\n\n".join(f"{turn.role}: {turn.content}" for turn in p.messages))
            for p in problems
        ]

    def split(self, text: str, ended: bool, opened: bool) -> Generation:
        """What was generated, as CoT and answer."""
        return split_generation(text, "<think>", "</think>", opened, ended)

    def force(self, prompt: Prompt, text: str, cue: str) -> Prompt:
        """Chat servers cannot go on with a text; the config refuses the combination before."""
        raise ConfigError(
            "evaluation.answer_forcing must be null with api chat: it cannot go on with a text."
        )

    @cached_property
    def backend(self) -> Backend:
        """The server."""
        from leadspan.generation.served import EndpointBackend

        return EndpointBackend(self._endpoint, self._config.sampling)


Student = LocalStudent | ServedStudent


def open_student(
    path: str | Path, config: EvaluationConfig, render: RenderConfig, revision: str | None = None
) -> Student:
    """The student by the back end that the config names; no model is loaded yet."""
    if config.backend == "endpoint" and config.endpoint and config.endpoint.api == "chat":
        return ServedStudent(config)
    return LocalStudent(path, config, render, revision)
