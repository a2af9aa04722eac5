"""Renders a page: one self-contained HTML file, which neither loads nor runs anything."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loading_bay.stack.text import duration, moment, percent, printable, whole

from .drawings import Drawing
from .theme import DARK, LIGHT


def render(template: Path, drawings: Sequence[Drawing], **content: object) -> str:
    """Return the page of a template that extends `page.html`.

    Everything in `content` is escaped, including control codes, and no script would run anyway.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent, "moment": moment, "duration": duration, "whole": whole}
    # Markup is safe: this package made the drawings, and matplotlib escaped the names in them.
    drawn = {each.name: (Markup(each.wide), Markup(each.narrow), each.summary) for each in drawings}  # noqa: S704
    return environment.get_template(template.name).render(plots=drawn, light=LIGHT, dark=DARK, **content)
