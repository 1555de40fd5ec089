"""The `evaluation` part: benchmarks, sampling, back end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leadspan.config.part import Part, Share


class SamplingConfig(Part):
    """How answers are generated; part of a result's identity."""

    max_new_tokens: int = Field(default=4096, ge=1)
    """Most tokens generated for one answer."""
    sampling_temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: Share = 1.0
    """Nucleus sampling."""
    top_k: int = Field(default=0, ge=0)
    """Sample among this many of the likeliest tokens; 0 is all."""
    num_samples: int = Field(default=1, ge=1)
    """Answers per problem."""
    seed: int = 0
    """Seed of the sampling."""

    @model_validator(mode="after")
    def _samples_differ(self) -> SamplingConfig:
        if self.num_samples > 1 and self.sampling_temperature == 0:
            raise ValueError(
                "num_samples must be 1 at sampling_temperature 0, where every sample is the same; got "
                f"{self.num_samples}. Set sampling_temperature, 0.6 for example"
            )
        return self


class BenchmarkConfig(Part):
    """A set of problems with golds. What stays null comes from the registered benchmark, if any."""

    path: str
    """A registered name (docs/evaluation.md lists them), a local file or a hub dataset id."""
    name: str | None = None
    """Name in tables; the file's stem by default. A registered name lends a local copy its rules."""
    config: str | None = None
    """Hub dataset configuration."""
    split: str | None = None
    """Hub dataset split; null is the registered one, or test."""
    revision: str | None = None
    """Hub dataset revision."""
    prompt_column: str | None = None
    """Column of the problem text; null uses the registered or usual one."""
    gold_column: str | None = None
    """Column of the gold answer; null uses the registered or usual one."""
    id_column: str | None = None
    """Column of the problem's id; null uses the usual one, or the row's number."""
    choices_column: str | None = None
    """Column of the options of a multiple choice; they are lettered in their order."""
    difficulty_column: str | None = None
    """Column by which results are also broken down; null uses `level` or `difficulty` where there."""
    grading: str | None = None
    """math, numeric, choice, exact, set or `module:function`; null uses the registered one, or math."""
    answer_pattern: str | None = None
    r"""Regular expression that finds the answer (its last match, first group), e.g. `o (\d+)`."""
    prompt_template: str | None = None
    """The user turn; `{problem}` stands for the problem's text."""
    system_prompt: str | None = None
    """A system turn before it."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first problems."""


class EndpointConfig(Part):
    """An OpenAI-compatible server (extra `endpoint`). The key comes from the environment."""

    base_url: str
    """Up to and with the version, such as http://localhost:8000/v1."""
    model: str
    """The model's name on the server."""
    api: Literal["chat", "completions"] = "chat"
    """chat lets the server apply its chat template; completions sends the prompt rendered here."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server without keys needs none."""
    concurrency: int = Field(default=32, ge=1)
    """Calls under way at one time."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """Most seconds of one attempt, streaming or not."""
    max_retries: int = Field(default=5, ge=0)
    """Further attempts after an overload, a lost connection, a time-out or garbage."""


class AnswerForcingConfig(Part):
    """A second chance for an answer that reached its limit inside the think block."""

    cue: str = "The final answer is \\boxed{"
    """Written after the close marker."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens for the answer."""


class EvaluationConfig(Part):
    """What the trained student is tested on."""

    benchmarks: tuple[BenchmarkConfig, ...] = ()
    """The benchmarks; none trains without evaluating."""
    sampling: SamplingConfig = SamplingConfig()
    """Generation settings."""
    batch_size: int = Field(default=64, ge=1)
    """Answers generated side by side; changes speed, not results."""
    backend: Literal["transformers", "endpoint", "vllm"] = "transformers"
    """What generates: transformers here, a server, or vLLM here (extra `vllm`)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the weights; auto is bfloat16 where `training.bf16: auto` is on, else float32."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one model (vllm)."""
    endpoint: EndpointConfig | None = None
    """The server, for backend endpoint."""
    answer_forcing: AnswerForcingConfig | None = None
    """Also report what cut-off answers become when the think block is closed for them."""
    unclosed: Literal["no_answer", "whole_text"] = "no_answer"
    """How an unclosed think block is graded: as no answer, or by its whole text as lighteval does."""
    pass_at: tuple[int, ...] = ()
    """Further k for pass@k and maj@k; each at most sampling.num_samples."""
    grading_limit_seconds: float = Field(default=10.0, gt=0)
    """Seconds after which the grading of one answer is stopped and counted as a time-out."""

    @model_validator(mode="after")
    def _together(self) -> EvaluationConfig:
        over = [k for k in self.pass_at if not 1 <= k <= self.sampling.num_samples]
        if over:
            raise ValueError(
                f"pass_at must be within 1 and sampling.num_samples = "
                f"{self.sampling.num_samples}; got {over[0]}. Draw more samples or ask a smaller k"
            )
        if self.backend == "endpoint" and self.endpoint is None:
            raise ValueError("endpoint is required when backend is endpoint")
        if self.answer_forcing and self.endpoint and self.endpoint.api == "chat":
            raise ValueError(
                "answer_forcing continues a text, which a chat server cannot; "
                "set endpoint.api to completions"
            )
        return self
