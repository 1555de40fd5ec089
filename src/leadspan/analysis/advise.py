"""Which cut these traces allow, with the reasons in numbers. Knows readings and shares, not models.

A fractional cut is fine where a lead of at most half of each sequence still keeps the first
derivation of most traces: in the paper, p = 0.5 keeps 91 % of the accuracy on data whose derivation
lies at or before the middle in about two traces of three, and fails on data that reasons late.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leadspan.analysis.analyze import LSP_GRID, Analysis, summarise

LEAST_SHARE = 0.6
"""A fractional cut is fine where one of at most LARGEST_CUT_LSP keeps this share of derivations."""
LARGEST_CUT_LSP = 0.5
"""The paper's own cut; one that keeps more saves little."""
RECOMMENDED_SHARE = 0.75
"""The recommended lsp is the smallest that keeps the derivation of this share of the traces in which
one was found: at the paper's p = 0.5 real R1 traces keep theirs in 80 % of cases, by our count."""
FEW_TRACES = 20
"""Below this many derived traces the shares are uncertain by more than 20 points."""
KNOWN_SHARE = 0.5
"""Below this share of traces with a known derivation the advice says so."""
LITTLE_TO_SAVE = 0.9
"""Share of the tokens from which a cut is hardly one."""
MARGIN = 0.1
"""Margin of the adaptive cut that is proposed."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with these traces."""

    fractional_cut_ok: bool
    """Some lsp of at most LARGEST_CUT_LSP keeps LEAST_SHARE of the derivations."""
    recommended_lsp: float | None
    """The smallest lsp of the grid that keeps RECOMMENDED_SHARE; None where no cut is fine."""
    adaptive_cut: dict[str, Any] | None
    """`truncation` keys of the cut that follows each trace's own derivation, where that helps."""
    kept_tokens_fraction: float | None
    """Share of all tokens that the recommended cut (fractional or adaptive) keeps."""
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "reasons": list(self.reasons)}


def advise(analysis: Analysis) -> Advice:
    """Recommend a cut, or advise against one."""
    is_ok = (analysis.survival(LARGEST_CUT_LSP) or 0.0) >= LEAST_SHARE
    smallest = next(
        (lsp for lsp in LSP_GRID if (analysis.survival(lsp) or 0.0) >= RECOMMENDED_SHARE), None
    )
    adaptive = None
    if analysis.derived and not is_ok:
        adaptive = {"policy": "derivation", "margin": MARGIN}
    kept = smallest if is_ok else _adaptive_share(analysis) if adaptive else None
    return Advice(
        fractional_cut_ok=is_ok,
        recommended_lsp=smallest if is_ok else None,
        adaptive_cut=adaptive,
        kept_tokens_fraction=None if kept is None else round(kept, 4),
        reasons=tuple(_reasons(analysis, smallest, is_ok, kept)),
    )


def _adaptive_share(analysis: Analysis) -> float:
    """Share of all tokens kept by each derived trace's own cut; the others are kept whole."""
    total = sum(reading.num_tokens for reading in analysis.readings)
    kept = 0
    for reading in analysis.readings:
        point = reading.derivation_tokens if reading.derivation.status == "derived" else None
        cut = reading.num_tokens if point is None else point + int(MARGIN * reading.cot_tokens)
        kept += min(cut, reading.num_tokens)
    return kept / total


def _reasons(
    analysis: Analysis, smallest: float | None, is_ok: bool, kept: float | None
) -> list[str]:
    summary = summarise(analysis)
    reasons = []
    if not analysis.derived:
        reasons.append(
            "nothing is known about where these traces derive their answers, so no cut can be "
            "recommended: give golds, or compare lsp 0.5 with 1.0 on a small run"
        )
    else:
        half = analysis.survival(LARGEST_CUT_LSP) or 0.0
        reasons.append(
            f"the first derivation ends at a median of {summary['median_fraction']:.0%} of the "
            f"sequence; lsp {LARGEST_CUT_LSP:g} keeps it in {half:.0%} of {summary['derived']} traces"
        )
        if is_ok and smallest is not None:
            survival = analysis.survival(smallest) or 0.0
            reasons.append(
                f"lsp {smallest:g} is the smallest that keeps the derivation of at least "
                f"{RECOMMENDED_SHARE:.0%} ({survival:.0%}); it saves {1 - smallest:.0%} of the tokens"
            )
        else:
            reasons.append(
                f"no lsp up to {LARGEST_CUT_LSP:g} keeps the derivation of {LEAST_SHARE:.0%}: these "
                "traces reason late, and a fractional cut would train on reasoning without its result"
            )
            if kept is not None:
                reasons.append(
                    f"cut each trace after its own derivation (policy: derivation, margin {MARGIN:g}), "
                    f"which keeps {kept:.0%} of the tokens, or do not cut"
                    + (": there is little to save" if kept > LITTLE_TO_SAVE else "")
                )
    return reasons + _caveats(summary)


def _caveats(summary: dict[str, Any]) -> list[str]:
    """What the advice cannot know."""
    caveats = []
    total, derived = summary["traces"], summary["derived"]
    if summary["no_gold"]:
        caveats.append(f"{summary['no_gold']} of {total} traces have no gold: unknown")
    if summary["gold_in_prompt"]:
        caveats.append(
            f"{summary['gold_in_prompt']} of {total} traces have a gold that stands in the prompt: a "
            "mention is no evidence there, so they are left out"
        )
    if summary["not_found"]:
        caveats.append(
            f"{summary['not_found']} of {total} traces never reach their gold: wrong or unreadable"
        )
    if 0 < derived < FEW_TRACES:
        caveats.append(f"only {derived} traces speak, so these shares are rough")
    if derived and derived / total < KNOWN_SHARE:
        caveats.append(f"the derivation is known for {derived / total:.0%} of the traces only")
    return caveats
