"""An inspection as one HTML file that needs nothing else. Every text from a trace is escaped."""

from __future__ import annotations

from html import escape

from leadspan.traces.cut_report import CutReport
from leadspan.traces.inspection import Inspection, Specimen, histogram, quantiles, visible

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222;
background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;text-align:right;
border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#fafafa;border:1px solid #ddd;
padding:1rem;border-radius:6px}
.prompt{color:#0b6e8a}.cot{color:#8a5a00}.answer{color:#1b7a2f}.sequence{color:#222}
.unscored{opacity:.5}.cut{opacity:.35;text-decoration:line-through}
.edge{background:#c22;color:#fff;padding:0 .4rem;border-radius:3px}
.bars{display:flex;align-items:flex-end;height:4rem;gap:2px}
.bars i{flex:1;background:currentColor;min-width:4px}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}pre{background:#1e1e1e}
.prompt{color:#5ac8e0}.cot{color:#e6b450}.answer{color:#7fd18b}.sequence{color:#ddd}}
"""


def build_page(inspection: Inspection) -> str:
    """The whole document."""
    title = f"Traces of {_text(inspection.path)}"
    parts = [
        f"<h1>{title}</h1>",
        _counts(inspection),
        *([_lengths(inspection), _cuts(inspection)] if inspection.usable else []),
        *(_specimen(specimen) for specimen in inspection.specimens),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _text(text: str) -> str:
    return escape(visible(text))


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already."""
    first = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{body}</table>"


def _counts(inspection: Inspection) -> str:
    trips = inspection.round_trips
    rows = [["rows", f"{inspection.rows:,}", ""], ["usable", f"{inspection.usable:,}", ""]]
    rows += [
        [
            f"refused: {_text(reason)}",
            f"{number:,}",
            _text(_first(inspection, reason)),
        ]
        for reason, number in inspection.counts.refused.most_common()
    ]
    rows += [[f"note: {_text(n)}", f"{k:,}", ""] for n, k in inspection.counts.notes.most_common()]
    rows += [
        [f"round trip {name}", f"{trips[name]:,}", ""] for name in ("exact", "normalised", "failed")
    ]
    return _table(["", "traces", "first at"], rows)


def _first(inspection: Inspection, reason: str) -> str:
    """Where a reason was first met, and what to do about it."""
    counts = inspection.counts
    return ". ".join(filter(None, (counts.places.get(reason), counts.hints.get(reason))))


def _lengths(inspection: Inspection) -> str:
    head: list[str] = []
    rows = []
    for name, values in inspection.lengths.items():
        measured = quantiles(values)
        head = ["tokens", *measured]
        rows.append([name, *(f"{value:,.0f}" for value in measured.values())])
    counts = histogram(inspection.lengths)
    bars = "".join(
        f'<h3 class="{name}">{name}</h3><div class="bars {name}">{_bars(counts[name])}</div>'
        for name in inspection.lengths
    )
    scale = f"<p>From 0 to {counts['edges'][-1]:,.0f} tokens.</p>"
    return f"<h2>Lengths</h2>{_table(head, rows)}{bars}{scale}"


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    return "".join(f'<i style="height:{100 * n / most:.0f}%" title="{n}"></i>' for n in counts)


def _cuts(inspection: Inspection) -> str:
    head = ["lsp", "tokens", "scored prompt", "scored cot", "scored answer"]
    head += ["close marker kept", "answers kept", "first derivation kept", "dropped"]
    rows = [[f"{lsp:g}", *_cut_cells(cut)] for lsp, cut in inspection.cuts.items()]
    rows.append(["config", *_cut_cells(inspection.configured)])
    return f"<h2>What each LSP keeps</h2>{_table(head, rows)}"


def _cut_cells(cut: CutReport) -> list[str]:
    shares = [cut.close_marker_kept, cut.answer_kept, cut.derivation_kept]
    return [
        f"{cut.kept_tokens:,}",
        *(f"{number:,}" for number in cut.scored_tokens.values()),
        *("-" if share is None else f"{share:.1%}" for share in shares),
        f"{cut.dropped:,}",
    ]


def _specimen(specimen: Specimen) -> str:
    pieces, kept = [], True
    for run in specimen.runs:
        if kept and not run.kept:
            pieces.append('<span class="edge">cut here</span>')
        kept = run.kept
        fate = "cut" if not run.kept else "scored" if run.scored else "unscored"
        pieces.append(f'<span class="{run.section} {fate}">{escape(run.text)}</span>')
    return (
        f"<h2>{_text(specimen.trace_id)}</h2><p>{specimen.num_kept_tokens:,} of "
        f'{specimen.num_tokens:,} tokens kept. <span class="prompt">prompt</span> '
        '<span class="cot">CoT</span> <span class="answer">answer</span> '
        '<span class="unscored">not scored</span> <span class="cut">cut</span></p>'
        f"<pre>{''.join(pieces)}</pre>"
    )
