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
from leadspan.evaluation.answers import Generation, split_generation
from leadspan.evaluation.benchmarks import Problem
from leadspan.evaluation.requests import Backend, Request
from leadspan.identity import digest, model_fingerprint
from leadspan.records import Turn


@dataclass(frozen=True, slots=True)
class Prompt:
    """One problem as the student is asked it."""

    turns: tuple[Turn, ...]
    text: str
    ids: tuple[int, ...] = ()

    def request(self, key: str, seed: int) -> Request:
        """As a request for one answer."""
        return Request(key, self.ids, self.text, self.turns, seed)


class LocalStudent:
    """A model folder or hub id: prompts are rendered here, with its own tokenizer and template."""

    def __init__(self, path: str | Path, config: EvaluationConfig, render: RenderConfig) -> None:
        from leadspan.models import load_tokenizer
        from leadspan.traces.render import Renderer

        self._path, self._config = str(path), config
        self._tokenizer = load_tokenizer(self._path)
        self._renderer = Renderer(self._tokenizer, render)
        self._layout = self._renderer.layout
        self._opened = not self._layout.think_open
        self._open = (self._layout.think_open or self._layout.prompt_open).strip()
        self._close = self._layout.think_close.strip()
        self._end_id = self._layout.ending_ids[0]
        self._check_cue()

    @property
    def identity(self) -> dict[str, Any]:
        """What the student is and how it is asked."""
        layout = self._layout
        frame = [layout.template, layout.variables, layout.think_open, layout.think_close]
        return {
            "student": {
                "path": self._path,
                "fingerprint": model_fingerprint(self._path) or self._path,
            },
            "chat_template": digest(json.dumps(frame, sort_keys=True, default=str)),
            "backend": {"name": self._config.backend, "dtype": self._dtype},
        }

    @cached_property
    def _dtype(self) -> str:
        if self._config.backend == "endpoint":
            return "server"
        if self._config.dtype != "auto":
            return self._config.dtype
        import torch

        return "bfloat16" if torch.cuda.is_available() else "float32"

    def prompts(self, problems: Sequence[Problem]) -> list[Prompt]:
        """Each problem through the chat template."""
        keep = self._renderer.config.system_prompt == "keep"
        conversations = [
            tuple(turn for turn in problem.turns if keep or turn.role != "system")
            for problem in problems
        ]
        ids = self._renderer.prompt_ids(conversations)
        texts = self._layout.prompt_texts(self._tokenizer, conversations)
        return [
            Prompt(turns, text, tuple(row))
            for turns, text, row in zip(conversations, texts, ids, strict=True)
        ]

    def split(self, text: str, ended: bool) -> Generation:
        """What was generated, as CoT and answer."""
        return split_generation(text, self._open, self._close, self._opened, ended)

    def force(self, prompt: Prompt, text: str, cue: str) -> Prompt:
        """The prompt that goes on after `text` with the block closed and the cue written."""
        whole = f"{prompt.text}{text}{self._layout.think_close}{cue}"
        ids = self._tokenizer(whole, add_special_tokens=False)["input_ids"]
        return Prompt(prompt.turns, whole, tuple(ids))

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
            from leadspan.evaluation.served import EndpointBackend

            assert self._config.endpoint is not None
            added = self._tokenizer.decode(self._tokenizer("")["input_ids"])
            return EndpointBackend(self._config.endpoint, self._config.sampling, added_start=added)
        if self._config.backend == "vllm":
            from leadspan.evaluation.offline import VllmBackend

            return VllmBackend(self._path, self._config, frozenset({self._end_id}))
        return self._transformers()

    def _transformers(self) -> Backend:
        import torch

        from leadspan.evaluation.generate import TransformersBackend
        from leadspan.models import check_head_width, load_causal_lm

        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = ModelConfig.model_validate({"path": self._path, "dtype": self._dtype})
        model = load_causal_lm(loaded, device)
        check_head_width(model, self._tokenizer, self._path)
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
            Prompt(p.turns, "\n\n".join(f"{turn.role}: {turn.content}" for turn in p.turns))
            for p in problems
        ]

    def split(self, text: str, ended: bool) -> Generation:
        """What was generated, as CoT and answer."""
        return split_generation(text, "<think>", "</think>", opened=False, ended=ended)

    def force(self, prompt: Prompt, text: str, cue: str) -> Prompt:
        """Chat servers cannot go on with a text; the config refuses the combination before."""
        raise ConfigError(
            "evaluation.answer_forcing must be null with api chat: it cannot go on with a text."
        )

    @cached_property
    def backend(self) -> Backend:
        """The server."""
        from leadspan.evaluation.served import EndpointBackend

        return EndpointBackend(self._endpoint, self._config.sampling)


Student = LocalStudent | ServedStudent


def open_student(path: str | Path, config: EvaluationConfig, render: RenderConfig) -> Student:
    """The student by the back end that the config names; no model is loaded yet."""
    if config.backend == "endpoint" and config.endpoint and config.endpoint.api == "chat":
        return ServedStudent(config)
    return LocalStudent(path, config, render)
