"""Draws figures as SVG that takes its colours from CSS, so one file suits light and dark."""

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .theme import DARK, LIGHT, colour

# Inches. `half` is for two charts side by side; on a phone every drawing is narrow.
FULL_WIDTH, HALF_WIDTH, NARROW_WIDTH = 10.4, 5.1, 4.2

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": colour("grid"),
    "axes.grid": True,
    "axes.labelcolor": colour("muted"),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": colour("grid"),
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, readable aloud, in the page's font
    "svg.hashsalt": "loading-bay",  # equal figures give equal files
    "text.color": colour("ink"),
    "text.parse_math": False,  # a name with a dollar sign is a name, not a formula
    "xtick.color": colour("muted"),
    "ytick.color": colour("muted"),
}


class Drawing(NamedTuple):
    """A figure, `wide` for a screen or paper and `narrow` for a phone; `summary` describes it in words."""

    name: str
    summary: str
    wide: str
    narrow: str

    def file(self) -> str:
        """Return the wide drawing as a stand-alone SVG file, with both sets of colours."""
        light, dark = ("".join(f"--{name}:{value};" for name, value in values.items()) for values in (LIGHT, DARK))
        style = (
            f"<style>svg{{{light}font-family:system-ui,sans-serif}}"
            f"@media (prefers-color-scheme:dark){{svg{{{dark}background:#12171e}}}}</style>"
        )
        return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, self.wide, count=1)


def draw(
    name: str,
    summary: str,
    paint: Callable[[Figure], None],
    *,
    width: float = FULL_WIDTH,
    height: float = 3.5,
    narrow_height: float = 3.2,
) -> Drawing:
    """Return the drawing that `paint` makes, in both shapes; `name` is unique on its page."""
    drawn = []
    for shape, size in (("wide", (width, height)), ("narrow", (NARROW_WIDTH, narrow_height))):
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=size, layout="constrained")
            paint(figure)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        drawn.append(_themed(text.getvalue(), f"{name}-{shape}", summary))
    return Drawing(name, summary, *drawn)


def is_narrow(figure: Figure) -> bool:
    """Tell whether the figure is narrower than the full width."""
    return bool(figure.get_figwidth() < FULL_WIDTH)


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend above the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=2 if is_narrow(figure) else 6,
        handlelength=1.4,
        borderpad=0.1,
    )


def _themed(svg: str, prefix: str, summary: str) -> str:
    """Replace colours by CSS variables, make the ids unique in a page, and describe the drawing in words."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib has just written it
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.set("role", "img")
    root.set("aria-label", summary)
    variables = {light: f"var(--{name})" for name, light in LIGHT.items()}
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                changed = f"{prefix}-{value}"
            elif key == f"{{{_XLINK}}}href":
                changed = f"#{prefix}-{value.removeprefix('#')}"
            elif key in {"style", "clip-path", "fill", "stroke"}:
                changed = re.sub(r"#[0-9a-f]{6}", lambda found: variables.get(found[0], found[0]), value)
                changed = changed.replace("url(#", f"url(#{prefix}-").replace("sans-serif", "inherit")
            else:
                continue
            element.set(key, changed)
    return ElementTree.tostring(root, encoding="unicode")
