"""Which cut these traces allow, with the reasons in numbers. Knows readings and shares, not models.

A fractional cut is fine where a lead of at most half of each sequence still keeps the first
derivation of most traces: in the paper, p = 0.5 keeps 91 % of the accuracy on data whose derivation
lies at or before the middle in about two traces of three, and fails on data that reasons late. An
order is given where a 95 % interval lies on one side of its line, so that other traces drawn like
these would hardly ever give another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leadspan.analysis.analyze import LSP_GRID, Analysis, summarise

LEAST_SHARE = 0.6
"""A fractional cut is fine where LARGEST_CUT_LSP surely keeps this share of derivations."""
LARGEST_CUT_LSP = 0.5
"""The paper's own cut; one that keeps more saves little."""
RECOMMENDED_SHARE = 0.75
"""The recommended lsp is the smallest that surely keeps the derivation of this share of the traces in
which one was found: at the paper's p = 0.5 real R1 traces keep theirs in 80 % of cases, by our count."""
FEW_TRACES = 20
"""Below this many derived traces there is no order, whatever their shares."""
KNOWN_SHARE = 0.5
"""Below this share of traces with a known derivation the advice says so."""
LITTLE_TO_SAVE = 0.9
"""Share of the tokens from which a cut is hardly one."""
MARGIN = 0.1
"""Margin of the adaptive cut that is proposed."""
NEIGHBOURS = (-0.1, -0.05, 0.05, 0.1)
SMALL_RUN = f"compare lsp {LARGEST_CUT_LSP:g} with 1.0 on a small run"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with these traces."""

    fractional_cut_ok: bool | None
    """LARGEST_CUT_LSP keeps LEAST_SHARE of the derivations; None where these traces cannot tell."""
    recommended_lsp: float | None
    """The smallest lsp of the grid that surely keeps RECOMMENDED_SHARE; None where no cut is fine."""
    adaptive_cut: dict[str, Any] | None
    """`truncation` keys of the cut that follows each trace's own derivation, where that helps."""
    kept_tokens_fraction: float | None
    """Share of all tokens that the recommended cut (fractional or adaptive) keeps."""
    reasons: tuple[str, ...]
    """What the order cannot know, then what it rests on."""
    order: str
    """What to do, in one line; it follows from the reasons and is to be read after them."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "reasons": list(self.reasons)}


def advise(analysis: Analysis) -> Advice:
    """Recommend a cut, advise against one, or say that these traces cannot tell."""
    is_ok = _fractional_cut_ok(analysis)
    lsp = _smallest_safe_lsp(analysis) if is_ok else None
    adaptive = {"policy": "derivation", "margin": MARGIN} if is_ok is False else None
    kept = lsp if is_ok else _adaptive_share(analysis) if adaptive else None
    return Advice(
        fractional_cut_ok=is_ok,
        recommended_lsp=lsp,
        adaptive_cut=adaptive,
        kept_tokens_fraction=None if kept is None else round(kept, 4),
        reasons=tuple(_caveats(analysis) + _facts(analysis, is_ok, lsp)),
        order=_order(analysis, is_ok, lsp, kept),
    )


def _fractional_cut_ok(analysis: Analysis) -> bool | None:
    interval = analysis.survival_interval(LARGEST_CUT_LSP)
    if interval is None or len(analysis.derived) < FEW_TRACES:
        return None
    low, high = interval
    return True if low >= LEAST_SHARE else False if high < LEAST_SHARE else None


def _smallest_safe_lsp(analysis: Analysis) -> float | None:
    lows = ((lsp, analysis.survival_interval(lsp)) for lsp in LSP_GRID)
    return next((lsp for lsp, ends in lows if ends and ends[0] >= RECOMMENDED_SHARE), None)


def _adaptive_share(analysis: Analysis) -> float:
    """Share of all tokens kept where each trace is cut after its own derivation in the CoT."""
    kept = 0
    for reading in analysis.readings:
        cut = reading.num_tokens
        is_cut = reading.derivation.status == "derived" and reading.derivation.end is not None
        if is_cut and reading.derivation_tokens is not None:
            cut = min(cut, reading.derivation_tokens + int(MARGIN * reading.cot_tokens))
        kept += cut
    return kept / sum(reading.num_tokens for reading in analysis.readings)


def _order(analysis: Analysis, is_ok: bool | None, lsp: float | None, kept: float | None) -> str:
    if lsp is not None:
        return f"use lsp {lsp:g}: it saves {1 - lsp:.0%} of the tokens"
    if is_ok is False and kept is not None:
        little = ": there is little to save" if kept > LITTLE_TO_SAVE else ""
        return (
            f"no fractional cut: use truncation policy derivation with margin {MARGIN:g}, which keeps "
            f"{kept:.0%} of the tokens, or do not cut{little}"
        )
    if analysis.derived:
        return f"too few to tell: analyze more traces, or {SMALL_RUN}"
    if analysis.count("no_gold") == len(analysis.readings):
        return f"nothing can be recommended: give golds, or {SMALL_RUN}"
    return f"nothing can be recommended: {SMALL_RUN}"


def _facts(analysis: Analysis, is_ok: bool | None, lsp: float | None) -> list[str]:
    """Where the derivations end and what cuts keep, each share with its interval."""
    if not analysis.derived:
        return ["nothing is known about where these traces derive their answers"]
    summary = summarise(analysis)
    facts = [
        f"the first derivation ends at a median of {summary['median_fraction']:.0%} of the sequence, "
        f"{summary['median_cot_fraction']:.0%} of the CoT",
        f"lsp {LARGEST_CUT_LSP:g} keeps it in {_share(analysis, LARGEST_CUT_LSP)} of "
        f"{summary['derived']} traces; a fractional cut asks for {LEAST_SHARE:.0%}",
        f"of the CoT alone (truncation.of: cot) lsp {LARGEST_CUT_LSP:g} keeps it in "
        f"{analysis.survival(LARGEST_CUT_LSP, 'cot'):.0%}, whatever the prompt",
    ]
    if is_ok is None:
        facts.append("too few to tell: other traces drawn like these may give the other verdict")
    elif lsp is None:
        facts.append(
            "under this template these traces reason late: a fractional cut would train on reasoning "
            "without its result"
        )
    else:
        facts.append(
            f"lsp {lsp:g} is the smallest whose interval lies above {RECOMMENDED_SHARE:.0%}: "
            f"{_share(analysis, lsp)}"
        )
    around = [round((lsp or LARGEST_CUT_LSP) + step, 2) for step in NEIGHBOURS]
    shares = [(cut, analysis.survival(cut)) for cut in around if 0 < cut <= 1]
    said = ", ".join(f"lsp {cut:g} {share:.0%}" for cut, share in shares if share is not None)
    return [*facts, f"neighboring cuts keep: {said}"]


def _share(analysis: Analysis, lsp: float) -> str:
    """A share with its 95 % interval."""
    share, interval = analysis.survival(lsp), analysis.survival_interval(lsp)
    assert share is not None
    assert interval is not None
    return f"{share:.0%} (95 % interval {interval[0]:.0%} to {interval[1]:.0%})"


def _caveats(analysis: Analysis) -> list[str]:
    """What the advice cannot know, and what its shares hang on."""
    summary = summarise(analysis)
    total, derived = summary["traces"], summary["derived"]
    left_out = {
        "no_gold": "have no gold: unknown",
        "wrong": "answer wrong, graded against their golds, and are left out",
        "gold_in_prompt": "have a gold that stands in the prompt: a mention is no evidence there, so "
        "they are left out",
        "not_found": "show their gold nowhere in a form that can be read, and are left out",
    }
    caveats = [
        f"{summary[status]} of {total} traces {said}"
        for status, said in left_out.items()
        if summary[status]
    ]
    if summary["derived_in_answer"]:
        caveats.append(
            f"{summary['derived_in_answer']} of {derived} derived traces have their result in the "
            "answer only, behind the whole CoT"
        )
    if 0 < derived < FEW_TRACES:
        caveats.append(f"only {derived} traces speak, and no order is given below {FEW_TRACES}")
    if derived and derived / total < KNOWN_SHARE:
        caveats.append(f"the derivation is known for {derived / total:.0%} of the traces only")
    caveats.append(
        f"chat template: {summary['template'] or 'not named'}, median prompt "
        f"{summary['median_prompt_tokens']} of {summary['median_tokens']} tokens; another template "
        "or system prompt moves every share of the sequence"
    )
    return caveats
