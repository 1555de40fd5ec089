"""The `teacher` and `student` parts: where models come from and how they are loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leadspan.config.part import Part

PACKING = ("flex_attention", "flash_attention_2")
"""Attentions of transformers that skip what lies across two sequences; the others would mask it."""


class ModelConfig(Part):
    """Where a model comes from and how it is loaded."""

    path: str
    """A local folder or a hub id."""
    revision: str | None = None
    """Hub revision (commit, tag or branch)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the weights in memory; auto is bfloat16 where `training.bf16: auto` is on, else float32."""
    attention: Literal["sdpa", "eager", "flex_attention", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers. With one of the last two (on a GPU; the last needs the
    `flash-attn` package) student and live teacher run on packed sequences without padding."""


class TeacherConfig(ModelConfig):
    """The model whose distributions the student learns."""

    quantization: Literal["8bit", "4bit"] | None = None
    """Load the live teacher quantised (needs `bitsandbytes` and a GPU)."""
    shard: bool = False
    """Under torchrun, share the layers out over the ranks instead of a copy on each."""
    cache: str | None = None
    """Folder written by `leadspan capture`; the teacher model is then never loaded."""


class LoraConfig(Part):
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
