"""The pages' templates: one file without any other, everything that it is given escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **content: Any) -> str:
    """The text of a page that extends templates/base.html.j2."""
    environment = Environment(
        loader=PackageLoader("leadspan.study.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(template).render(content)
