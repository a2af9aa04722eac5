"""Renders the page: one HTML file with everything in it, which neither loads nor runs anything."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monitoring.figures import Figures
from monitoring.gallery import Gallery
from monitoring.plots import PALETTE, Plot
from monitoring.predictions import SkippedRecord
from monitoring.text import duration, moment, percent, printable, whole

# Longer lists of what was skipped are cut on the page; skipped.jsonl has them all.
LONGEST_LIST = 40


def render(
    figures: Figures,
    plots: Sequence[Plot],
    gallery: Gallery,
    skipped: Sequence[SkippedRecord],
    made_at: datetime,
) -> str:
    """Return the page. What comes from captures and decisions is escaped, and no script would run anyway."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent, "moment": moment, "duration": duration, "whole": whole}
    return environment.get_template(
        "page.html"
    ).render(
        figures=figures,
        # Markup: the drawings are our own and matplotlib has escaped the names in them.
        plots={plot.name: (Markup(plot.wide), Markup(plot.narrow), plot.summary) for plot in plots},  # noqa: S704
        gallery=gallery,
        skipped=skipped[:LONGEST_LIST],
        skipped_in_all=len(skipped),
        made_at=made_at,
        light={name: pair[0] for name, pair in PALETTE.items()},
        dark={name: pair[1] for name, pair in PALETTE.items()},
    )
