"""The `loss` and `training` parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leadspan.config.part import Part

Divergence = Literal[
    "forward_kl", "reverse_kl", "jsd", "skew_kl", "reverse_skew_kl", "total_variation", "mixed_kl"
]


class LossConfig(Part):
    """loss = (1 - kd_ratio) * CE + kd_ratio * KD, summed over scored tokens, divided by their count."""

    kd_ratio: float = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation term; 0 is plain fine-tuning and needs no teacher."""
    divergence: Divergence = "forward_kl"
    """The distillation term; forward_kl is KL(teacher || student)."""
    beta: float = Field(default=0.5, ge=0, le=1)
    """Parameter of jsd, skew_kl, reverse_skew_kl and mixed_kl; the others ignore it."""
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


class BudgetConfig(Part):
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


class TrainingConfig(Part):
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
    schedule: Literal["cosine", "one_cycle", "linear", "constant"] = "cosine"
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
