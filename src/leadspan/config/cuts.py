"""The `truncation` and `supervision` parts: what goes through the model and what is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leadspan.config.part import Part, Share
from leadspan.records import SECTIONS, Section

DERIVATION_COLUMN = "derivation_end"
"""Key of a trace's `meta` under which its cut point stands for `truncation.policy: derivation`."""
OF_THE_TRACE = ("column", "derivation")
"""Policies that cut each trace at a place of its own."""


class TruncationConfig(Part):
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


class SupervisionConfig(Part):
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
