"""Exact FLOPs of dense decoder-only transformers, from their config alone.

Knows nothing about torch, weights, batches or time: a Hugging Face config (object or mapping) and
the lengths of some sequences go in, counts of floating-point operations come out. A multiply-add
counts as two; only matrix products are counted, as torch's `FlopCounterMode` does, because
norms, activations and softmax are bound by memory and not by arithmetic.

Pass padded lengths to count padding as work, real lengths for padding-free batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from leadspan.errors import ConfigError

Attention = Literal["full", "causal"]
"""`full` computes every pair of a T x T square (eager, SDPA with a mask); `causal` only the pairs
that are attended (flash attention)."""

DENSE_MODEL_TYPES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text"),
    *("smollm3", "phi3", "olmo2", "olmo3", "granite"),
)
"""Families whose layers are grouped-query attention plus a gated MLP."""
POST_NORM_MODEL_TYPES = ("gemma2", "gemma3", "gemma3_text", "olmo2", "olmo3")
"""Those that normalise after the MLP."""
QK_NORM_MODEL_TYPES = ("qwen3", "gemma3", "gemma3_text", "olmo2", "olmo3")
"""Those that normalise queries and keys."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a dense decoder-only transformer that decide its cost."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied_head: bool
    post_norm: bool
    """A norm follows the MLP, so that its output is kept for the backward pass."""
    qk_norm: bool
    """Queries and keys are normalised head by head."""
    windows: tuple[int | None, ...]
    """Per layer, how many tokens back it attends (itself included); None where it is global."""

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of each matrix of one layer: q, k, v, o, gate, up, down."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            (self.hidden, query),
            (self.hidden, key),
            (self.hidden, key),
            (query, self.hidden),
            (self.hidden, self.intermediate),
            (self.hidden, self.intermediate),
            (self.intermediate, self.hidden),
        )


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations by part."""

    projections: int = 0
    """Query, key, value and output matrices."""
    mlp: int = 0
    attention: int = 0
    """Scores and weighted values: the part that grows with the square of the length."""
    head: int = 0
    """Hidden states to logits, on scored rows only."""
    adapters: int = 0
    """LoRA matrices."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(getattr(self, part.name) for part in fields(self))

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            *(getattr(self, part.name) + getattr(other, part.name) for part in fields(self))
        )


def model_shape(model_config: Any) -> ModelShape:
    """Read the sizes from a Hugging Face config.

    Args:
        model_config: A `PretrainedConfig` or the mapping of a config.json; of a multimodal config,
            its `text_config` is read.

    Raises:
        ValueError: The architecture is not one of `DENSE_MODEL_TYPES`, or a size is missing.
    """
    config: Mapping[str, Any] = (
        model_config if isinstance(model_config, Mapping) else model_config.to_dict()
    )
    tied = config.get("tie_word_embeddings")
    if isinstance(config.get("text_config"), Mapping):
        config = config["text_config"]
        tied = config.get("tie_word_embeddings", tied)
    kind = config.get("model_type")
    if kind not in DENSE_MODEL_TYPES:
        raise ValueError(
            f"model config: model_type must be one of {', '.join(DENSE_MODEL_TYPES)}; got {kind!r}."
            " Its layers would be counted wrongly."
        )
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    missing = [name for name in (*needed, "vocab_size") if not config.get(name)]
    if missing:
        raise ValueError(f"model config: {', '.join(missing)} must be given; got nothing.")
    hidden, layers, heads, intermediate = (int(config[name]) for name in needed)
    return ModelShape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        intermediate=intermediate,
        vocabulary=int(config["vocab_size"]),
        tied_head=bool(tied) or (tied is None and kind.startswith("gemma")),
        post_norm=kind in POST_NORM_MODEL_TYPES,
        qk_norm=kind in QK_NORM_MODEL_TYPES,
        windows=_windows(config, layers),
    )


def check_flops_known(model_config: Any, path: str) -> None:
    """Check that a budget of FLOPs can be counted on this model.

    Raises:
        ConfigError: It cannot: counted as nothing, the budget would never be spent.
    """
    try:
        model_shape(model_config)
    except ValueError as error:
        raise ConfigError(
            f"training.budget.flops must be for models whose FLOPs are known; {path}: {error} Give "
            "training.budget.tokens, training.steps or training.epochs."
        ) from None


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    if not window or config.get("use_sliding_window") is False:
        return (None,) * layers
    if kinds:
        return tuple(int(window) if "sliding" in kind else None for kind in kinds)
    return (int(window),) * layers


def _pairs(length: int, window: int | None, attention: Attention) -> int:
    """How many (query, key) pairs of one head are computed."""
    if attention == "full":
        return length * length
    if window is None or length <= window:
        return length * (length + 1) // 2
    return window * (window + 1) // 2 + (length - window) * window


def _total(num_scored: int | Iterable[int]) -> int:
    return num_scored if isinstance(num_scored, int) else sum(int(count) for count in num_scored)


def _layer_parts(shape: ModelShape, lengths: Sequence[int], attention: Attention) -> Flops:
    """Forward FLOPs of all layers, without the head."""
    tokens = sum(lengths)
    sizes = [2 * tokens * inputs * outputs for inputs, outputs in shape.linears]
    pairs = sum(
        count * sum(_pairs(length, window, attention) for length in lengths)
        for window, count in _counted(shape.windows)
    )
    return Flops(
        projections=shape.layers * sum(sizes[:4]),
        mlp=shape.layers * sum(sizes[4:]),
        attention=2 * 2 * shape.heads * shape.head_dim * pairs,
    )


def _counted(windows: tuple[int | None, ...]) -> list[tuple[int | None, int]]:
    return [(window, windows.count(window)) for window in set(windows)]


def forward_parts(
    model_config: Any,
    lengths: Sequence[int],
    num_scored: int | Iterable[int],
    attention: Attention = "full",
) -> Flops:
    """FLOPs of one forward pass, by part; see `forward_flops`."""
    shape = _shape(model_config)
    head = Flops(head=2 * _total(num_scored) * shape.hidden * shape.vocabulary)
    return _layer_parts(shape, lengths, attention) + head


def training_parts(
    model_config: Any,
    lengths: Sequence[int],
    num_scored: int | Iterable[int],
    gradient_checkpointing: bool = False,
    attention: Attention = "full",
    lora_rank: int | None = None,
) -> Flops:
    """FLOPs of forward and backward, by part; see `training_flops`."""
    shape = _shape(model_config)
    layers = _layer_parts(shape, lengths, attention)
    head = 2 * _total(num_scored) * shape.hidden * shape.vocabulary
    # Backward computes a gradient for each of the two factors of a product, or for the input alone
    # where the weight is frozen.
    linear_passes = 3 if lora_rank is None else 2
    again = int(gradient_checkpointing)
    tokens = sum(lengths)
    # Recomputation stops once the backward pass has what it needs; where no norm follows, nothing
    # needs the output of the down projection, the layer's last product.
    last = 0 if shape.post_norm else shape.intermediate * shape.hidden
    skipped = again * 2 * tokens * shape.layers * last
    adapters = 0
    if lora_rank is not None:
        width = sum(inputs + outputs for inputs, outputs in shape.linears)
        adapters = (3 + again) * 2 * tokens * shape.layers * lora_rank * width
        skipped = 0  # the adapter stands after the base product, so that one is run again
    return Flops(
        projections=(linear_passes + again) * layers.projections,
        mlp=(linear_passes + again) * layers.mlp - skipped,
        attention=(3 + again) * layers.attention,
        head=linear_passes * head,
        adapters=adapters,
    )


def forward_flops(
    model_config: Any,
    lengths: Sequence[int],
    num_scored: int | Iterable[int],
    attention: Attention = "full",
) -> int:
    """FLOPs of one forward pass over `lengths`: a teacher's share of a step.

    Args:
        model_config: A Hugging Face config or a `ModelShape`.
        lengths: Tokens of each sequence; sequences do not attend to one another.
        num_scored: Rows that reach the head, in total or per sequence.
        attention: Which pairs the attention kernel computes.
    """
    return forward_parts(model_config, lengths, num_scored, attention).total


def generation_flops(
    model_config: Any,
    prompt_lengths: Sequence[int],
    new_lengths: Sequence[int],
    attention: Attention = "full",
    num_samples: int = 1,
) -> int:
    """FLOPs of writing answers token by token with a cache of keys and values.

    All but the last token of a prompt are read in one pass without the head, once for all its samples;
    each step then reads one token, looks back at all before it and applies the head.

    Args:
        model_config: A Hugging Face config or a `ModelShape`.
        prompt_lengths: Tokens of each answer's prompt.
        new_lengths: Tokens written behind it, an end token among them.
        attention: Which pairs the attention kernel computes in the pass over the prompt.
        num_samples: Answers of each prompt, which stand one behind another.
    """
    shape = _shape(model_config)
    read = [prompt - 1 for prompt in prompt_lengths]
    totals = [prompt + new for prompt, new in zip(read, new_lengths, strict=True)]
    prompts = _layer_parts(shape, read[::num_samples], attention).total
    whole, before = (_layer_parts(shape, lengths, "causal").total for lengths in (totals, read))
    head = 2 * sum(new_lengths) * shape.hidden * shape.vocabulary
    return prompts + whole - before + head


def training_flops(
    model_config: Any,
    lengths: Sequence[int],
    num_scored: int | Iterable[int],
    gradient_checkpointing: bool = False,
    attention: Attention = "full",
    lora_rank: int | None = None,
) -> int:
    """FLOPs of the student's forward and backward pass over `lengths`.

    Args:
        model_config: A Hugging Face config or a `ModelShape`.
        lengths: Tokens of each sequence; sequences do not attend to one another.
        num_scored: Rows that reach the head, in total or per sequence.
        gradient_checkpointing: Each layer's forward is run again in the backward pass
            (non-reentrant checkpointing, which stops before the layer's last product).
        attention: Which pairs the attention kernel computes.
        lora_rank: Rank of adapters on every linear layer, all else frozen; None trains everything.
    """
    return training_parts(
        model_config, lengths, num_scored, gradient_checkpointing, attention, lora_rank
    ).total


def _shape(model_config: Any) -> ModelShape:
    return model_config if isinstance(model_config, ModelShape) else model_shape(model_config)
