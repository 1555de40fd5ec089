"""The report of a sweep or of one run: results.csv, report.md, figures and one self-contained report.html.

Folders become rows (`leadspan.study.results`), rows become one summary, and everything else only shows it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from leadspan.progress import say
from leadspan.runs import write_text_atomic
from leadspan.study.report.charts import build_charts
from leadspan.study.report.summary import Summary, summarise
from leadspan.study.report.tables import build_tables
from leadspan.study.report.text import headline, write_markdown
from leadspan.study.results import read_results, write_csv

__all__ = ["Summary", "describe_sweep", "headline", "summarise", "write_report"]

LIBRARIES = ("matplotlib", "jinja2")
"""What the extra `report` brings; without it there are the table and the Markdown alone."""


def write_report(sweep: Path, output: Path | None = None) -> Path:
    """Write the report of a sweep or run folder, finished or not, to `output` or to `report/` inside it.

    Returns:
        The file to open: report.html, or report.md where the extra `report` is not installed.

    Raises:
        RunError: The folder is that of neither, or the disk refuses.
    """
    output = output or sweep / "report"
    results = read_results(sweep)
    summary = summarise(results)
    tables, charts = build_tables(summary), build_charts(summary)
    write_text_atomic(output / "results.csv", write_csv(results))
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    figures: dict[str, Path] = {}
    if missing:
        say(
            f'{output}: no figures and no HTML without {missing[0]}; pip install "leadspan[report]".'
        )
    else:
        from leadspan.study.report.draw import draw_figures

        figures = draw_figures(charts, output / "figures")
    write_text_atomic(output / "report.md", write_markdown(summary, tables, charts, figures))
    if missing:
        return output / "report.md"
    from leadspan.study.report.page import write_page

    write_text_atomic(output / "report.html", write_page(summary, tables, charts))
    return output / "report.html"


def describe_sweep(sweep: Path, report: Path | None = None) -> str:
    """The two sentences about a sweep or run folder: what came out and what it means; then its report."""
    said = headline(summarise(read_results(sweep)))
    return said if report is None else f"{said}\nReport: {report}"
