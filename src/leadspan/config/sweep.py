"""A sweep file: many runs that differ in named keys."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from leadspan.config.part import Part


class CaptureConfig(Part):
    """How a sweep captures its teacher once for all its runs."""

    mode: Literal["topk", "hidden"] = "topk"
    """topk keeps the likeliest ids and the tail's mass; hidden the exact distribution."""
    k: int = Field(default=64, ge=1)
    """Kept ids a token, in mode topk."""


class SlurmConfig(Part):
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


class SweepConfig(Part):
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
