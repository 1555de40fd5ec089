"""The page of `leadspan inspect --html`: what is in a set of traces, in the report's own look.

Text from traces is escaped, and its control characters are shown as signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from leadspan.records import SECTIONS
from leadspan.study.report.render import render_page
from leadspan.study.report.summary import say_percent
from leadspan.study.report.tables import Table
from leadspan.traces.cut import CutReport
from leadspan.traces.inspect import Inspection, Run, histogram, quantiles, visible

WHAT = {"prompt": "prompt", "cot": "chain of thought", "answer": "answer", "sequence": "sequence"}
SHOWN_QUANTILES = {
    "min": "shortest",
    "q05": "5 %",
    "q50": "median",
    "q95": "95 %",
    "max": "longest",
}


def build_traces_page(inspection: Inspection) -> str:
    """One HTML document that needs no other file; every trace is whole."""
    name = visible(inspection.path).rstrip("/").rpartition("/")[2]
    round_trips = inspection.round_trips
    tables = [
        cuts_table(inspection),
        lengths_table(inspection),
        refused_table(inspection),
        notes_table(inspection),
    ]
    return render_page(
        "traces.html.j2",
        title=f"Traces of {name}",
        result=f"{inspection.usable:,} of {inspection.rows:,} rows can be trained on.",
        meaning=_say_cut(inspection.configured),
        facts=[
            ("Source", visible(inspection.path)),
            (
                "Round trip",
                f"{round_trips['exact']:,} exact, {round_trips['normalised']:,} normalized, "
                f"{round_trips['failed']:,} failed",
            ),
        ],
        lengths=_bars(inspection) if inspection.usable else [],
        specimens=inspection.specimens,
        mark_cuts=mark_cuts,
        visible=visible,
        what=WHAT,
        tables=[table for table in tables if not table.cells.empty],
    )


def _say_cut(cut: CutReport) -> str:
    if not cut.full_tokens:
        return ""
    said = f"The cut keeps {say_percent(cut.kept_tokens / cut.full_tokens)} of their tokens"
    shares = {
        "whole answers": cut.answer_kept,
        "first derivations of the answer": cut.derivation_kept,
    }
    parts = [
        f"{say_percent(share)} of the {what}" for what, share in shares.items() if share is not None
    ]
    return f"{', '.join([said, *parts])}."


def _bars(inspection: Inspection) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """For each section: name, longest shown, and bars as percent of the highest, with what they say."""
    counts = histogram(inspection.lengths)
    ends = [f"{start:,.0f} to {end:,.0f} tokens" for start, end in pairwise(counts["edges"])]
    found = []
    for name, what in WHAT.items():
        most = max(counts[name]) or 1
        bars = [
            (round(100 * count / most, 1), f"{place}: {count:,}")
            for place, count in zip(ends, counts[name], strict=True)
        ]
        found.append((what, f"{counts['edges'][-1]:,.0f}", bars))
    return found


def mark_cuts(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Each run of a trace, and what a mark before it says; nothing where keeping does not change."""
    was_kept = [True, *(run.kept for run in runs)]
    return [
        (run, "" if run.kept == before else "✂ cut from here" if before else "kept from here ✂")
        for run, before in zip(runs, was_kept, strict=False)
    ]


def cuts_table(inspection: Inspection) -> Table:
    """What each LSP keeps, and what the config's own cut does."""
    cuts = {f"{lsp:g}": cut for lsp, cut in inspection.cuts.items()}
    cuts["config ★"] = inspection.configured
    rows = [
        (
            lsp,
            f"{cut.kept_tokens:,}",
            *(f"{cut.scored_tokens[section]:,}" for section in SECTIONS),
            say_percent(cut.close_marker_kept),
            say_percent(cut.answer_kept),
            say_percent(cut.derivation_kept),
            f"{cut.dropped:,}",
        )
        for lsp, cut in cuts.items()
        if inspection.configured.sequences
    ]
    columns = ["lsp", "tokens kept", "prompt scored", "CoT scored", "answer scored"]
    columns += ["CoT closed", "answer whole", "derived", "dropped"]
    return Table(
        "cuts",
        "What each lsp keeps",
        pd.DataFrame(rows, columns=columns),
        "★: the cut that was asked for. CoT closed, answer whole, derived: share of the traces whose end "
        "marker, whole answer or first derivation is kept. Dropped: traces of which no token is scored.",
    )


def lengths_table(inspection: Inspection) -> Table:
    """Quantiles of the tokens by section."""
    rows = []
    for name, what in WHAT.items():
        found = quantiles(inspection.lengths[name])
        if found:
            rows.append((what, *(f"{found[key]:,.0f}" for key in (*SHOWN_QUANTILES, "mean"))))
    columns = ["tokens of", *SHOWN_QUANTILES.values(), "mean"]
    return Table("lengths", "Tokens by section", pd.DataFrame(rows, columns=columns))


def refused_table(inspection: Inspection) -> Table:
    """Rows that are not used, by reason, the most frequent first."""
    counts = inspection.counts
    rows = [
        (
            visible(reason),
            f"{count:,}",
            visible(counts.places.get(reason, "?")),
            counts.hints.get(reason, ""),
        )
        for reason, count in counts.refused.most_common()
    ]
    columns = ["reason", "rows", "first at", "what to do"]
    return Table("refused", "Refused rows", pd.DataFrame(rows, columns=columns))


def notes_table(inspection: Inspection) -> Table:
    """What is worth knowing about rows that are used."""
    rows = [(visible(note), f"{count:,}") for note, count in inspection.counts.notes.most_common()]
    return Table("notes", "Notes about used rows", pd.DataFrame(rows, columns=["note", "rows"]))
