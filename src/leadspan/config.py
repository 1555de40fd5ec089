"""The models of run.yaml: frozen, every key known, the docstring under a field its only help text.

Knows nothing about files, torch or tokenizers.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leadspan.records import SECTIONS, Section

Share = Annotated[float, Field(gt=0, le=1)]


class ConfigModel(BaseModel):
    """What every part of run.yaml has in common."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )


class MarkersConfig(ConfigModel):
    """Think markers of one's own."""

    open: str = Field(min_length=1)
    """Text that opens the CoT."""
    close: str = Field(min_length=1)
    """Text that closes it."""
    answer_open: str = ""
    """Text that opens the answer, where it is marked too."""
    answer_close: str = ""
    """Text that ends the answer."""


class OverlapConfig(ConfigModel):
    """A benchmark whose problems must not be trained on."""

    path: str
    """A registered name (`aime24`, `math500`, ...), a local file or a hub dataset id."""
    config: str | None = None
    """Hub dataset configuration."""
    split: str = "test"
    """Hub dataset split."""
    revision: str | None = None
    """Hub revision (commit, tag or branch); null takes the newest commit at the first start and keeps it."""
    column: str | None = None
    """Column of the problem text; null takes the first of problem, question, prompt."""


class TracesConfig(ConfigModel):
    """The reasoning traces and which of them are used."""

    path: str
    """A JSONL, JSON, CSV, TSV (.gz, .zst), Parquet or Arrow file, a folder, a glob, or a hub dataset id."""
    config: str | None = None
    """Hub dataset configuration."""
    split: str = "train"
    """Hub dataset split."""
    revision: str | None = None
    """Hub revision (commit, tag or branch); null takes the newest commit at the first start and keeps it."""
    format: str = "auto"
    """Row format, one of docs/data.md; `auto` detects it from each row's columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Your columns for ours: any of prompt, cot, answer, completion, messages, system, gold, id;
    for example `{prompt: question, completion: response}`. Replaces `format`."""
    markers: str | MarkersConfig = "auto"
    """Family of think markers in the text, your own `{open, close}`, or `auto`."""
    generations: Literal["first_correct", "all_correct", "first", "all"] = "first_correct"
    """Which generations to use where a row holds several."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Conditions on columns: `{task_type: verifiable_math}`; a list allows each of its values."""
    only_closed: bool = False
    """Use only traces whose think block was closed."""
    only_with_gold: bool = False
    """Use only traces with a known correct answer."""
    only_correct: bool = False
    """Use only traces whose final answer grades as correct; the others are counted by outcome."""
    drop_duplicates: bool = True
    """Use only the first of several traces with the same prompt, CoT and answer."""
    decontaminate: tuple[OverlapConfig, ...] = ()
    """Drop traces whose prompt shares `decontaminate_ngram` words in a row with one of these."""
    decontaminate_ngram: int = Field(default=13, ge=1)
    """Length of that run of words; a shorter problem must stand in the prompt as a whole."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Use only traces whose uncut sequence has at most this many tokens."""
    sample: int | None = Field(default=None, ge=1)
    """Use this many traces, those with the lowest draw by id and seed; null uses all."""
    sample_fraction: Share = 1.0
    """Use this share, by the same draw; no appended row ever changes who is in it."""
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the traces held out for the validation loss, chosen by a hash of their ids; prompts alone
    are never held out."""
    seed: int = 42
    """Seeds sample and validation split, apart from the seed of the training."""
    num_processes: int = Field(default=1, ge=1)
    """Processes that render; changes speed, not results."""


PLAIN = "plain"
"""Instead of a chat template: each turn and a newline."""


class RenderConfig(ConfigModel):
    """How a trace becomes tokens."""

    chat_template: str | None = None
    """A Jinja file used instead of the tokenizer's own chat template, or `plain` for none: each turn
    and a newline."""
    template_variables: dict[str, Any] = Field(default_factory=dict)
    """Variables handed to the chat template, on top of those that switch thinking on."""
    date: datetime.date | None = None
    """The day, such as 2026-11-25, that templates read instead of the clock; null takes the day the
    run is first started and keeps it in the run's own run.yaml."""
    system_prompt: Literal["keep", "drop"] = "keep"
    """Keep or drop the trace's system turn."""
    think_open: str | None = None
    """Text before the CoT; null takes what the chat template itself writes there, else `<think>`."""
    think_close: str | None = None
    """Text between CoT and answer; null takes what the chat template itself writes there, else
    `</think>`."""
    paper_compat: bool = False
    """Append the generation prompt behind the whole conversation, as the published runs did."""

    def dated(self, *kept: str | None) -> RenderConfig:
        """These settings with a date: their own, else the first that was kept, else today's."""
        if self.date is not None:
            return self
        date = next((one for one in kept if one), None) or datetime.date.today().isoformat()
        return self.model_copy(update={"date": datetime.date.fromisoformat(date)})


DERIVATION_COLUMN = "derivation_end"
"""Key of a trace's `meta` under which its cut point stands for `truncation.policy: derivation`."""
OF_THE_TRACE = ("column", "derivation")
"""Policies that cut each trace at a place of its own."""


class TruncationConfig(ConfigModel):
    """What of each sequence goes through the model."""

    policy: Literal["span", "end_of_cot", "bridge", "column", "derivation"] = "span"
    """span keeps a share (`lsp`, `keep`, `of`); end_of_cot drops the answer; bridge cuts the tail of
    the CoT but keeps close marker and answer; column cuts each trace where `column` says; derivation
    cuts each trace after its own first derivation of the gold plus `margin`."""
    lsp: Share = 1.0
    """Lead-Span Proportion: share of each sequence that is kept."""
    lsp_end: Share | None = None
    """With it, the share moves linearly from `lsp` to this over the training."""
    keep: Literal["lead", "middle", "tail"] = "lead"
    """Which part is kept."""
    of: Literal["sequence", "cot"] = "sequence"
    """What `lsp` is a share of; `cot` keeps the prompt and that share of the CoT."""
    keep_prompt: bool = True
    """Whether middle and tail keep the prompt in context (it counts as kept) or cut it away, as the
    paper's code does."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Keep at most this many tokens of each sequence, after every other cut."""
    column: str | None = None
    """Key of the trace's `meta` that holds its own cut point; traces without it are cut by `lsp`."""
    column_unit: Literal["tokens", "characters", "fraction"] = "tokens"
    """tokens of the sequence, characters of the CoT, or share of the CoT's tokens."""
    margin: float = Field(default=0.0, ge=0, le=1)
    """Keep this share of the CoT's tokens beyond the column's cut point."""

    @model_validator(mode="after")
    def _fits(self) -> TruncationConfig:
        if self.policy == "derivation":
            object.__setattr__(self, "column", DERIVATION_COLUMN)
            object.__setattr__(self, "column_unit", "characters")
        elif (self.policy == "column") != (self.column is not None):
            raise ValueError("give column with policy: column, and only there")
        if self.of == "cot" and self.keep != "lead":
            raise ValueError("of: cot goes with keep: lead")
        self._refuse_ignored()
        return self

    def _refuse_ignored(self) -> None:
        """Refuse what the policy would not read: half a setting is no setting."""
        if self.policy != "span" and self.keep != "lead":
            raise ValueError(
                f"keep must be lead with policy {self.policy}, which chooses the tokens itself; "
                f"got {self.keep!r}"
            )
        if self.policy == "end_of_cot" and (self.lsp != 1.0 or self.lsp_end is not None):
            raise ValueError("lsp and lsp_end say nothing with policy end_of_cot; leave them out")
        if self.policy not in OF_THE_TRACE and (self.margin or self.column_unit != "tokens"):
            raise ValueError("margin and column_unit go with policy column or derivation")

    def effective(self) -> TruncationConfig:
        """The same cut with each key that changes nothing at its default, to tell cuts apart by."""
        plain: dict[str, object] = {}
        if self.lsp_end == self.lsp:
            plain["lsp_end"] = None
        if self.keep == "lead":
            plain["keep_prompt"] = True
        if self.policy == "end_of_cot":
            plain["of"] = "sequence"
        keeps_all = self.policy in ("span", "bridge") and self.lsp == 1.0
        if keeps_all and self.lsp_end in (None, 1.0):
            plain |= {"policy": "span", "keep": "lead", "keep_prompt": True, "of": "sequence"}
        return self.model_copy(update=plain)


class SupervisionConfig(ConfigModel):
    """Which tokens are scored."""

    sections: tuple[Section, ...] = Field(default=("cot", "answer"), min_length=1)
    """Any non-empty subset of prompt, cot, answer."""
    mask_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the scored tokens that is left out at random, the same ones in every epoch."""
    mask_seed: int = 0
    """Seed of that choice."""

    @model_validator(mode="after")
    def _order(self) -> SupervisionConfig:
        ordered = tuple(section for section in SECTIONS if section in self.sections)
        object.__setattr__(self, "sections", ordered)
        return self


class EndpointConfig(ConfigModel):
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


PACKING = ("flex_attention", "flash_attention_2")
"""Attentions of transformers that skip what lies across two sequences; the others would mask it."""


class ModelConfig(ConfigModel):
    """Where a model comes from and how it is loaded."""

    path: str
    """A local folder or a hub id."""
    revision: str | None = None
    """Hub revision (commit, tag or branch); null takes the newest commit at the first start and keeps it."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the weights in memory; auto is bfloat16 where `training.bf16: auto` is on, else float32."""
    attention: Literal["sdpa", "eager", "flex_attention", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers. With one of the last two (on a GPU; the last needs the
    `flash-attn` package) student and live teacher run on packed sequences without padding."""


class ServedTeacherConfig(EndpointConfig):
    """A server that scores token ids, by vLLM's `prompt_logprobs` or by `echo` with `logprobs`."""

    estimator: Literal["topk", "sampled"] = "topk"
    """topk: the k likeliest ids, and all others as one class, so that the divergence is less than the
    whole one and its gradient biased. sampled: the log-probability of the token that the student sampled,
    an unbiased estimate of the gradient of the reverse KL, with the variance of one sample."""
    k: int = Field(default=64, ge=1)
    """Of topk. A vLLM server needs `--max-logprobs` of as many."""


class TeacherConfig(ModelConfig):
    """The model whose distributions the student learns."""

    quantization: Literal["8bit", "4bit"] | None = None
    """Load the live teacher quantised (needs `bitsandbytes` and a GPU)."""
    shard: bool = False
    """Under torchrun, share the layers out over the ranks instead of a copy on each."""
    cache: str | None = None
    """Folder written by `leadspan capture`; the teacher model is then never loaded."""
    endpoint: ServedTeacherConfig | None = None
    """A server that has the model (extra `endpoint`); `path` then lends its tokenizer alone."""
    source: Literal["student"] | None = Field(default=None, alias="from")
    """`from: student`, instead of `path`: the student's own weights as they are before training. With
    `student.lora` in one process they are the student's without its adapter, and no second copy is held."""
    adapter: Literal[False] = False
    """off: with `from: student`, the teacher never has the student's adapter."""
    system_prompt: str | None = None
    """A system turn that the teacher alone reads before the prompt, such as `The answer is {gold}.`; {gold},
    {cot} and {answer} stand for those of the trace. Joined to the trace's own system turn."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherConfig:
        if self.cache is not None and self.endpoint is not None:
            raise ValueError("give cache or endpoint, not both")
        if self.source is not None and not (self.is_live and self.system_prompt):
            raise ValueError(
                "from: student needs system_prompt, and neither cache nor endpoint: the same weights that "
                "read the same prompt have nothing to teach"
            )
        if self.system_prompt is not None and not self.is_live:
            raise ValueError("system_prompt needs a live teacher, without cache or endpoint")
        return self

    @property
    def is_live(self) -> bool:
        """The model is loaded and run in this process."""
        return self.cache is None and self.endpoint is None


class RoutedTeacherConfig(TeacherConfig):
    """One of several teachers, and the rows that it teaches."""

    where: dict[str, Any] = Field(default_factory=dict)
    """Conditions on columns, as in `traces.where`; none claims every row. The first teacher of the list that
    claims a row has it."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of the loss of its rows."""


class LoraConfig(ConfigModel):
    """Low-rank adapters instead of full fine-tuning (extra `lora`)."""

    rank: int = Field(default=32, ge=1)
    """Rank of the adapters."""
    alpha: float = Field(default=64.0, gt=0)
    """Scale numerator; the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Names of the adapted modules."""
    dora: bool = False
    """Use weight-decomposed adapters (DoRA)."""


class StudentConfig(ModelConfig):
    """The model that is trained; its weights are kept in `dtype`, float32 by default."""

    dtype: Literal["float32", "bfloat16"] = "float32"  # type: ignore[mutable-override]
    """Dtype of the master weights; compute runs in bfloat16 under autocast when `training.bf16`."""
    lora: LoraConfig | None = None
    """Adapters; null trains every weight."""


Divergence = Literal[
    "forward_kl",
    "reverse_kl",
    "jsd",
    "skew_kl",
    "reverse_skew_kl",
    "total_variation",
    "mixed_kl",
    "entropy_gated_kl",
]


DIVERGENCE_PARAMETER = {
    "jsd": ("beta", "beta"),
    "mixed_kl": ("beta", "beta"),
    "skew_kl": ("beta", "alpha"),
    "reverse_skew_kl": ("beta", "alpha"),
    "entropy_gated_kl": ("entropy_threshold", "threshold"),
}
"""Of each divergence with a parameter: the key of `LossConfig` that holds it, and its name in the formula."""


class LossConfig(ConfigModel):
    """loss = (1 - kd_ratio) * CE + kd_ratio * KD, summed over scored tokens, divided by their count."""

    kd_ratio: float = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation term; 0 is plain fine-tuning and needs no teacher."""
    divergence: Divergence = "forward_kl"
    """The distillation term; forward_kl is KL(teacher || student)."""
    beta: float = Field(default=0.5, ge=0, le=1)
    """Parameter of jsd, skew_kl, reverse_skew_kl and mixed_kl; the others ignore it."""
    entropy_threshold: float = Field(default=0.5, ge=0)
    """Of entropy_gated_kl: forward KL where the teacher's entropy is above this many nats, reverse KL
    elsewhere (arXiv:2603.07079)."""
    sparse_target: Literal["tail", "renormalised"] = "tail"
    """With a top-k cache: the tail as one extra class, or the kept part scaled to sum to 1 (biased)."""
    kd_temperature: float = Field(default=1.0, gt=0)
    """Softens both distributions; the term is multiplied by its square."""

    @model_validator(mode="after")
    def _divergence(self) -> LossConfig:
        if self.divergence == "jsd" and self.beta in (0, 1):
            raise ValueError(
                f"beta must be in (0, 1) for jsd; got {self.beta:g}. "
                "Use forward_kl or reverse_kl for the ends"
            )
        if "skew" in self.divergence and self.beta == 1:
            raise ValueError(f"beta must be below 1 for {self.divergence}; got 1. Write 0.1")
        if self.sparse_target == "renormalised" and self.divergence != "forward_kl":
            raise ValueError(
                f"sparse_target renormalised needs divergence forward_kl; got {self.divergence!r}. "
                "Use sparse_target: tail"
            )
        return self


class BudgetConfig(ConfigModel):
    """A cost at which training ends, so that cuts compare at equal cost: more traces, each shorter."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens forwarded through the student."""
    flops: float | None = Field(default=None, gt=0)
    """Floating-point operations of student and live teacher."""

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("give exactly one of tokens and flops")
        return self


class TrainingConfig(ConfigModel):
    """The optimisation. Its length is exactly one of `epochs`, `steps` and `budget`."""

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training traces."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps."""
    budget: BudgetConfig | None = None
    """Tokens or FLOPs; the number of steps follows from the data and the cut."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per optimiser step, over all ranks."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Tokens per forward pass, padding included; a longer sequence goes alone."""
    learning_rate: float = Field(default=4e-6, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay, on matrices only."""
    adam_betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's two decay rates."""
    lr_schedule: Literal["cosine", "one_cycle", "linear", "constant"] = "cosine"
    """Shape of the learning rate after warm-up; one_cycle anneals by cosine on both sides."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps spent warming up."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Clip the global gradient norm to this."""
    bf16: bool | Literal["auto"] = "auto"
    """Compute in bfloat16 under autocast; auto does on a GPU that supports it and on a CPU with AMX or
    AVX-512 bf16, and not elsewhere, where it would take up to a hundred times as long."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    validate_every_epochs: float = Field(default=0.1, gt=0)
    """Validate, and keep the checkpoint if it is the best, this often."""
    checkpoint_every_steps: int = Field(default=200, ge=1)
    """Write a resumable checkpoint this often."""

    @model_validator(mode="after")
    def _length(self) -> TrainingConfig:
        if [self.epochs, self.steps, self.budget].count(None) != 2:
            raise ValueError("give exactly one of epochs, steps and budget")
        return self


class SamplingConfig(ConfigModel):
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


class BenchmarkConfig(ConfigModel):
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
    """Hub revision (commit, tag or branch); null takes the newest commit at the first start and keeps it."""
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


class AnswerForcingConfig(ConfigModel):
    """A second chance for an answer that reached its limit inside the think block."""

    cue: str = "The final answer is \\boxed{"
    """Written after the close marker."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens for the answer."""


class EvaluationConfig(ConfigModel):
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
    tensor_parallel_size: int = Field(default=1, ge=1)
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


class CaptureConfig(ConfigModel):
    """How a sweep captures its teacher once for all its runs."""

    mode: Literal["topk", "hidden"] = "topk"
    """topk keeps the likeliest ids and the tail's mass; hidden the exact distribution."""
    k: int = Field(default=64, ge=1)
    """Kept ids a token, in mode topk."""


class SlurmConfig(ConfigModel):
    """What each job of `sweep --launcher slurm` asks for (extra `slurm`)."""

    partition: str | None = None
    """Slurm partition; null is the cluster's default."""
    gpus: int = Field(default=1, ge=0)
    """GPUs a job, the capture's too; with more than one it is shared over them, a rank each, as under
    torchrun."""
    cpus: int = Field(default=8, ge=1)
    """Cores a job."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory a job; null is the cluster's default."""
    minutes: int = Field(default=24 * 60, ge=1)
    """Time limit; a job that reaches it is queued again and goes on."""
    container: str | None = None
    """Container image, for clusters whose Slurm starts containers."""


class SweepConfig(ConfigModel):
    """Many runs that differ in named keys."""

    base: dict[str, Any]
    """The keys of a run.yaml that all runs share."""
    grids: tuple[dict[str, tuple[Any, ...]], ...] = Field(min_length=1)
    """Each grid maps keys (`truncation.lsp`, or the short `lsp`, `keep`, `sections`) to lists; its
    points are their product. Points that resolve to the same config are run once."""
    capture: CaptureConfig | None = None
    """Run the teacher once and share its distributions; null runs it live in every run."""
    slurm: SlurmConfig = SlurmConfig()
    """For `--launcher slurm`."""
    reference_models: bool = True
    """Evaluate each untrained student and each teacher too, as rows of their own."""
    tags: dict[str, str | int | float] = Field(default_factory=dict)
    """Labels of the whole sweep, copied into its table."""


Length = Annotated[int, Field(ge=1)] | Share
"""A whole number of tokens, or a share (0.5, and 1.0 for all of it)."""


class RolloutConfig(ConfigModel):
    """On-policy sequences: the student writes, the teacher scores each token (docs/on-policy.md)."""

    share: Share = 1.0
    """Share of each step's sequences that the student writes; the others are traces (GKD's lambda). At 1,
    rows that are prompts alone are read too."""
    horizon: Length = 1.0
    """Completion tokens that are sampled and scored: a number of tokens, or a share of the length of
    each prompt's own trace; a number where a row is a prompt alone."""
    horizon_start: Length | None = None
    """Where the horizon begins with schedule linear or entropy; of the same kind as `horizon`."""
    schedule: Literal["constant", "linear", "entropy"] = "constant"
    """How the horizon grows from `horizon_start` to `horizon`: linearly over the training, or at each
    validation after which the student's mean token entropy is healthy (`entropy_floor`)."""
    entropy_floor: Share = 0.8
    """With schedule entropy, the horizon grows only while the mean entropy of the sampled tokens since
    the last validation is above this share of what it was before the first (arXiv:2605.16826)."""
    prefix: Annotated[int, Field(ge=0)] | Share = 0
    """Lead of the trace's completion that stands in context, unscored, before the student goes on: a
    number of tokens, or a share of the completion."""
    sampling_temperature: float = Field(default=1.0, gt=0)
    """Of the student's sampling; 1 samples the distribution that is trained."""
    top_p: Share = 1.0
    """Nucleus sampling."""
    top_k: int = Field(default=0, ge=0)
    """Sample among this many of the likeliest tokens; 0 is all."""
    num_samples: int = Field(default=1, ge=1)
    """Rollouts of each prompt in a step."""
    refresh_every_steps: int = Field(default=1, ge=1)
    """Steps whose rollouts are written in one call, by the weights before the first of them; above 1 the
    rollouts of the later steps are off-policy by as many steps as `staleness` in metrics.jsonl says."""
    max_concurrent: int = Field(default=64, ge=1)
    """Rollouts that are written side by side; with backend endpoint, `endpoint.concurrency` says so."""
    backend: Literal["local", "vllm", "endpoint"] = "local"
    """What writes: the weights in training by transformers; vLLM on the same GPU, given them before it
    writes (one rank, extra `vllm`); or a server, whose weights are its own and are not those in
    training, so that its rollouts are off-policy and estimates from them biased (extra `endpoint`)."""
    vllm_memory_fraction: Share = 0.3
    """Share of the GPU's memory that vLLM takes while it writes."""
    endpoint: EndpointConfig | None = None
    """The server of backend endpoint; `api: completions`, and it must return token ids (vLLM does)."""

    @model_validator(mode="after")
    def _backend(self) -> RolloutConfig:
        if (self.backend == "endpoint") != (self.endpoint is not None):
            raise ValueError("endpoint goes with backend endpoint, and only there")
        if self.endpoint is not None and self.endpoint.api != "completions":
            raise ValueError(
                "endpoint.api must be completions, which takes prompts as tokens; got "
                f"{self.endpoint.api!r}"
            )
        if self.backend != "local" and self.schedule == "entropy":
            raise ValueError(
                "schedule entropy needs backend local: others do not give entropies; got "
                f"{self.backend!r}. Use schedule linear"
            )
        return self

    @model_validator(mode="after")
    def _grows(self) -> RolloutConfig:
        if (self.schedule == "constant") != (self.horizon_start is None):
            raise ValueError("horizon_start goes with schedule linear or entropy, and only there")
        if self.horizon_start is not None and type(self.horizon_start) is not type(self.horizon):
            raise ValueError(
                "horizon_start must be of the kind of horizon, both tokens or both shares; got "
                f"{self.horizon_start!r} and {self.horizon!r}. Write 1.0 for the whole length"
            )
        return self


class TrackingConfig(ConfigModel):
    """An experiment tracker beside metrics.jsonl (extra `track`)."""

    tracker: Literal["trackio", "wandb", "tensorboard"] | None = None
    """Which one; keys and addresses come from its own environment variables."""
    project: str = "leadspan"
    """Project in trackio and wandb."""


class RunConfig(ConfigModel):
    """One run: train a student on traces, then evaluate it."""

    teacher: TeacherConfig | None = None
    """Needed unless loss.kd_ratio is 0."""
    teachers: tuple[RoutedTeacherConfig, ...] = ()
    """Several teachers instead, each with the rows that it teaches; a row that none claims is refused."""
    student: StudentConfig
    """The model to train."""
    traces: TracesConfig
    """The data."""
    render: RenderConfig = RenderConfig()
    """Text to tokens."""
    truncation: TruncationConfig = TruncationConfig()
    """Which tokens go through the model."""
    supervision: SupervisionConfig = SupervisionConfig()
    """Which tokens are scored."""
    loss: LossConfig = LossConfig()
    """The objective."""
    rollout: RolloutConfig | None = None
    """Sequences that the student writes during training; null trains on traces alone."""
    training: TrainingConfig
    """The optimisation."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The test."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the metrics go besides."""
    seed: int = 0
    """Seeds data order and every random choice of training."""

    @property
    def takes_prompts(self) -> bool:
        """Rows without a completion are data: the student writes all that is scored."""
        return self.rollout is not None and self.rollout.share == 1.0

    @model_validator(mode="before")
    @classmethod
    def _student_as_teacher(cls, content: Any) -> Any:
        """Where a teacher is the student, it is loaded as the student is."""
        student = content.get("student") if isinstance(content, dict) else None
        if not isinstance(student, dict):
            return content
        own = {key: student[key] for key in ModelConfig.model_fields if key in student}
        own.setdefault("dtype", StudentConfig.model_fields["dtype"].default)

        def filled(teacher: Any) -> Any:
            is_student = isinstance(teacher, dict) and teacher.get("from") == "student"
            return {**own, **teacher} if is_student else teacher

        changed = {"teacher": filled(content.get("teacher"))}
        if isinstance(content.get("teachers"), list | tuple):
            changed["teachers"] = [filled(teacher) for teacher in content["teachers"]]
        return {**content, **changed}

    @property
    def all_teachers(self) -> tuple[TeacherConfig, ...]:
        """Those that the loss asks for; none where `loss.kd_ratio` is 0."""
        if self.loss.kd_ratio == 0:
            return ()
        return self.teachers or ((self.teacher,) if self.teacher is not None else ())

    @model_validator(mode="after")
    def _teacher(self) -> RunConfig:
        if self.training.budget is not None and self.truncation.lsp_end is not None:
            raise ValueError("truncation.lsp_end needs training.steps or epochs; got a budget")
        if self.teacher is not None and self.teachers:
            raise ValueError("give teacher, or teachers for several, not both")
        if self.loss.kd_ratio > 0 and not self.all_teachers:
            raise ValueError(
                "teacher is required when loss.kd_ratio > 0; set loss.kd_ratio to 0 for SFT"
            )
        if any(teacher.cache is not None for teacher in self.teachers):
            raise ValueError("teachers must be live or served; a cache goes with a single teacher")
        if self.rollout is not None:
            self._check_rollout(self.rollout)
        for teacher in self.all_teachers:
            self._check_teacher(teacher)
        return self

    def _check_teacher(self, teacher: TeacherConfig) -> None:
        packs = teacher.is_live and self.student.attention in PACKING
        if packs and teacher.attention not in PACKING:
            raise ValueError(
                f"teacher.attention must be {' or '.join(PACKING)} beside a student whose "
                f"{self.student.attention} packs sequences; got {teacher.attention!r}"
            )
        if teacher.endpoint is not None:
            self._check_served(teacher.endpoint)
        own = (self.student.path, self.student.revision)
        if teacher.source is not None and (teacher.path, teacher.revision) != own:
            raise ValueError(
                "teacher.path and revision must be the student's with from: student; got "
                f"{teacher.path!r}. Leave them out"
            )
        is_told = teacher.system_prompt is not None
        if is_told and ("prompt" in self.supervision.sections or not self.truncation.keep_prompt):
            raise ValueError(
                "teacher.system_prompt gives the teacher another prompt than the student's: score cot "
                "and answer alone, and keep the prompt (truncation.keep_prompt)"
            )

    def _check_served(self, served: ServedTeacherConfig) -> None:
        if self.loss.kd_temperature != 1.0:
            raise ValueError(
                "loss.kd_temperature must be 1 with teacher.endpoint: a server gives a part of the "
                f"distribution, and the rest cannot be softened; got {self.loss.kd_temperature:g}"
            )
        if served.estimator == "topk":
            return
        rollout = self.rollout
        if (
            self.loss.divergence != "reverse_kl"
            or rollout is None
            or (rollout.share, rollout.sampling_temperature, rollout.top_p, rollout.top_k)
            != (1.0, 1.0, 1.0, 0)
            or rollout.backend == "endpoint"
            or rollout.refresh_every_steps > 1
        ):
            raise ValueError(
                "teacher.endpoint.estimator sampled estimates the reverse KL from the student's own samples: "
                "it needs loss.divergence reverse_kl, rollout.share 1, sampling_temperature 1, top_p 1, "
                "top_k 0, refresh_every_steps 1, and the student's own weights as rollout.backend. Use "
                "estimator topk otherwise"
            )
        if self.traces.validation_fraction:
            raise ValueError(
                "traces.validation_fraction must be 0 with teacher.endpoint.estimator sampled: traces are "
                f"not the student's samples; got {self.traces.validation_fraction:g}"
            )

    def _check_rollout(self, rollout: RolloutConfig) -> None:
        cached = self.teacher is not None and self.teacher.cache is not None
        if cached or not (self.teacher or self.teachers):
            raise ValueError(
                "rollout needs a teacher that is asked during training: a cache holds distributions of the "
                "traces alone. Give teacher.path without teacher.cache, or teacher.endpoint"
            )
        if rollout.share == 1.0 and self.loss.kd_ratio < 1.0:
            raise ValueError(
                "loss.kd_ratio must be 1 with rollout.share 1: cross-entropy needs a label, and a "
                f"rollout has none but its own sample; got {self.loss.kd_ratio:g}"
            )
        if self.loss.kd_ratio == 0:
            raise ValueError(
                "loss.kd_ratio must be above 0 with rollout, whose loss is the teacher's"
            )
        if rollout.backend == "vllm" and self.student.lora is not None:
            raise ValueError(
                "rollout.backend must be local with student.lora: adapters are not handed to vLLM; "
                "got 'vllm'"
            )
        num_rollouts = round(rollout.share * self.training.batch_size)
        if num_rollouts == 0 or num_rollouts % rollout.num_samples:
            raise ValueError(
                "rollout.share * training.batch_size must be a positive multiple of "
                f"rollout.num_samples ({rollout.num_samples}); got {rollout.share:g} * "
                f"{self.training.batch_size} = {num_rollouts}"
            )
        if rollout.schedule == "entropy" and self.traces.validation_fraction == 0:
            raise ValueError(
                "rollout.schedule entropy needs traces.validation_fraction above 0: the horizon grows "
                "at validations"
            )
        budget = self.training.budget
        if budget is not None and (budget.flops is None or rollout.schedule != "constant"):
            raise ValueError(
                "training.budget with rollout must be of flops, at a constant horizon; give "
                "training.steps or epochs otherwise"
            )
