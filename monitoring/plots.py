"""Draws the figures as SVG that takes its colours from CSS, so that one file suits light and dark."""

import io
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.dates import (
    HOURLY,
    MINUTELY,
    MONTHLY,
    SECONDLY,
    AutoDateLocator,
    ConciseDateFormatter,
    date2num,
)
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from monitoring.decisions import STATUSES
from monitoring.drift import BINS
from monitoring.figures import DecisionFigures, Figures
from monitoring.text import duration, percent, printable, whole

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

# CSS variable → its value in light and in dark. Matplotlib draws with the light value, which is then
# replaced by the variable; so each must be unlike the others.
PALETTE = {
    "ink": ("#1b2330", "#e9edf3"),
    "muted": ("#596575", "#a3afbf"),
    "grid": ("#dde3ea", "#333d4a"),
    "alarm": ("#b3261e", "#ff8f85"),
    "class-0": ("#1f6cb0", "#74b8f2"),
    "class-1": ("#c4561b", "#f79c63"),
    "class-2": ("#15825a", "#62d2a4"),
    "class-3": ("#8449ab", "#cb9fec"),
    "class-4": ("#8f6d00", "#e3c14f"),
    "class-5": ("#ab3068", "#f290b8"),
    "routed": ("#2b8554", "#5cc98d"),
    "review": ("#d98e04", "#f2bd4b"),
    "rejected": ("#7d70c9", "#a99df0"),
    "failed": ("#c22f48", "#f4768a"),
    "claimed": ("#8c98a5", "#7f8b99"),
}
CLASS_COLOURS = 6
# More points than this and a plot shows how many lie in each cell instead: it stays small, and readable.
MOST_POINTS = 1_500
FEWEST_BINS = 12

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALETTE["grid"][0],
    "axes.grid": True,
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": PALETTE["grid"][0],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, read aloud, in the page's own font
    "svg.hashsalt": "loading-bay",  # the same figures give the same file
    "text.color": PALETTE["ink"][0],
    "text.parse_math": False,  # a name with a dollar sign is a name, not a formula
    "xtick.color": PALETTE["muted"][0],
    "ytick.color": PALETTE["muted"][0],
}


class Plot(NamedTuple):
    """One drawing, `wide` for a screen or paper and `narrow` for a phone; `summary` says it in words."""

    name: str
    summary: str
    wide: str
    narrow: str

    def file(self) -> str:
        """Return the wide drawing as an SVG file of its own, with both sets of colours."""
        light, dark = ("".join(f"--{name}:{pair[k]};" for name, pair in PALETTE.items()) for k in (0, 1))
        style = (
            f"<style>svg{{{light}font-family:system-ui,sans-serif}}"
            f"@media (prefers-color-scheme:dark){{svg{{{dark}background:#12171e}}}}</style>"
        )
        return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, self.wide, count=1)


def prediction_plots(figures: Figures, times: Sequence[datetime], confidences: Array, vehicles: Array) -> list[Plot]:
    """Draw what the captures tell: four plots. There must be at least one prediction.

    `times` (UTC, without a zone), `confidences` and `vehicles` (index of the class) are one a prediction.
    """
    below = figures.below_threshold
    if below is None:
        raise ValueError("nothing to draw: there are no predictions")
    named = {each.name: each for each in figures.classes}
    return [
        _plot(
            "confidence",
            f"Confidence of {whole(below.of)} predictions over time; "
            f"{whole(below.count)} lie below {figures.threshold:g}.",
            lambda figure: _confidence(figure, figures, times, confidences, vehicles),
        ),
        _plot(
            "review-share",
            f"Share of predictions below {figures.threshold:g} over time: {percent(below.share)} altogether.",
            lambda figure: _review_share(figure, figures),
        ),
        _plot(
            "scores",
            "How the scores are spread, class by class"
            + (", beside the spread on validation." if figures.baseline else "."),
            lambda figure: _scores(figure, figures),
            height=1.9 * ((len(named) + 1) // 2) + 0.9,
            narrow_height=1.9 * len(named) + 0.9,
        ),
        _plot(
            "class-balance",
            "; ".join(f"{printable(each.name)} {percent(each.predicted.share)}" for each in figures.classes) + ".",
            lambda figure: _balance(figure, figures),
            height=0.5 * len(named) + 1.0,
            narrow_height=0.5 * len(named) + 1.2,
        ),
    ]


def decision_plots(decisions: DecisionFigures, latencies: Array) -> list[Plot]:
    """Draw what the decisions tell; `latencies` are seconds from upload to decision, none negative."""
    plots = []
    if decisions.photos:
        told = ", ".join(f"{whole(count)} {status.lower()}" for status, count in decisions.counts.items() if count)
        plots.append(
            _plot(
                "outcomes",
                f"Photos by outcome over time: {told}.",
                lambda figure: _outcomes(figure, decisions),
            )
        )
    if decisions.latency is not None:
        told = duration(decisions.latency.quantiles["p50"])
        plots.append(
            _plot(
                "latency",
                f"Time from upload to decision: half within {told}.",
                lambda figure: _latency(figure, decisions, latencies),
                height=2.9,
            )
        )
    return plots


def _plot(
    name: str,
    summary: str,
    draw: Callable[[Figure], None],
    *,
    height: float = 3.5,
    narrow_height: float = 3.2,
) -> Plot:
    drawn = []
    for shape, size in (("wide", (10.4, height)), ("narrow", (4.2, narrow_height))):
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        drawn.append(_themed(text.getvalue(), f"{name}-{shape}", summary))
    return Plot(name, summary, *drawn)


def _themed(svg: str, prefix: str, summary: str) -> str:
    """Put CSS variables in place of colours, make the ids unique in a page, and say what is to be seen."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314 - written by matplotlib a moment ago
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.set("role", "img")
    root.set("aria-label", summary)
    variables = {light: f"var(--{name})" for name, (light, _) in PALETTE.items()}
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


def _colour(name: str) -> str:
    return PALETTE[name][0]


def _class_colour(k: int) -> str:
    return _colour(f"class-{k % CLASS_COLOURS}")


def _is_narrow(figure: Figure) -> bool:
    return bool(figure.get_figwidth() < 6)


def _time_axis(axes: Axes, figure: Figure) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=6 if _is_narrow(figure) else 8)
    # Its own lists end too early for few ticks: from 60 to 72 hours, for one, it would find no step.
    locator.intervald |= {
        MONTHLY: [1, 2, 3, 4, 6, 12],
        HOURLY: [1, 2, 3, 4, 6, 12, 24],
        MINUTELY: [1, 2, 5, 10, 15, 30, 60],
        SECONDLY: [1, 2, 5, 10, 15, 30, 60],
    }
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.grid(visible=False, axis="x")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=2 if _is_narrow(figure) else 6,
        handlelength=1.4,
        borderpad=0.1,
    )


def _confidence(
    figure: Figure, figures: Figures, times: Sequence[datetime], confidences: Array, vehicles: Array
) -> None:
    axes = figure.subplots()
    lowest = 1 / len(figures.class_names)
    places = date2num(list(times))
    if len(places) <= MOST_POINTS:
        for k, name in enumerate(figures.class_names):
            chosen = vehicles == k
            axes.plot(
                places[chosen],
                confidences[chosen],
                linestyle="none",
                marker="os^Dv"[k % 5],
                markersize=4.5,
                markeredgewidth=0,
                alpha=0.75,
                color=_class_colour(k),
                label=printable(name),
                clip_on=False,
            )
    else:
        _cells(axes, places, confidences, lowest)
    axes.axhline(
        figures.threshold,
        color=_colour("alarm"),
        linestyle="--",
        linewidth=1.3,
        label=f"threshold {figures.threshold:g}",
    )
    axes.set_ylim(min(lowest, confidences.min()) - 0.02, 1.01)
    axes.set_ylabel("confidence")
    _time_axis(axes, figure)
    _legend(figure, axes)


def _cells(axes: Axes, places: Array, confidences: Array, lowest: float) -> None:
    """Shade each cell of time and confidence by how many predictions lie in it."""
    span = (places.min(), max(places.max(), places.min() + 1e-6))
    counts, x, y = np.histogram2d(places, confidences, bins=(60, 20), range=(span, (lowest, 1)))
    columns, rows = np.nonzero(counts)
    boxes = [
        [(x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1])]
        for i, j in zip(columns, rows, strict=True)
    ]
    strength = np.log1p(counts[columns, rows]) / np.log1p(counts.max())
    red, green, blue = mpl.colors.to_rgb(_class_colour(0))
    shades = [(red, green, blue, 0.08 + 0.92 * each) for each in strength]
    axes.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors="none"))
    axes.plot([], [], linestyle="none", marker="s", color=_class_colour(0), label="many predictions")
    axes.plot([], [], linestyle="none", marker="s", color=_class_colour(0), alpha=0.25, label="few")
    axes.set_xlim(*span)


def _review_share(figure: Figure, figures: Figures) -> None:
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    starts = date2num([each.start for each in figures.over_time])
    middles = starts + _step(starts) / 2
    shares = [each.below_threshold for each in figures.over_time]
    values = np.array([each.share for each in shares])
    spread = np.array([(each.share - each.low, each.high - each.share) for each in shares]).clip(min=0).T
    upper.errorbar(
        middles,
        values,
        yerr=spread,
        fmt="o",
        color=_colour("class-0"),
        ecolor=_colour("muted"),
        elinewidth=0.9,
        markersize=4,
        label="share, with its 95 % interval",
        clip_on=False,
    )
    # Only neighbours are joined: a line across a pause would tell of a time of which nothing is known.
    pauses = np.flatnonzero(np.diff(starts) > 1.5 * _step(starts)) + 1
    upper.plot(
        np.insert(middles, pauses, np.nan),
        np.insert(values, pauses, np.nan),
        color=_colour("class-0"),
        linewidth=1.2,
    )
    if figures.baseline_below_threshold is not None:
        upper.axhline(
            figures.baseline_below_threshold,
            color=_colour("ink"),
            linestyle=":",
            linewidth=1.3,
            label="on validation",
        )
    highest = max(each.high for each in shares)
    upper.set_ylim(0, min(max(1.1 * highest, 1.5 * (figures.baseline_below_threshold or 0), 0.1), 1))
    upper.tick_params(bottom=False)
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    upper.set_ylabel(f"below {figures.threshold:g}")
    lower.bar(
        starts,
        [each.of for each in shares],
        width=0.85 * _step(starts),
        align="edge",
        color=_colour("claimed"),
    )
    lower.set_ylabel("records")
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    _leave_room(lower, starts)
    _time_axis(upper, figure)
    _time_axis(lower, figure)
    _legend(figure, upper)


def _step(starts: Array) -> float:
    """Days from one bin to the next; a minute where there is only one."""
    return float(np.diff(starts).min()) if len(starts) > 1 else timedelta(minutes=1) / timedelta(days=1)


def _leave_room(axes: Axes, starts: Array) -> None:
    """Show few bins as narrow as many, with empty time around them."""
    step = _step(starts)
    first, last = starts[0], starts[-1] + step
    room = max(FEWEST_BINS * step - (last - first), step) / 2
    axes.set_xlim(first - room, last + room)


def _scores(figure: Figure, figures: Figures) -> None:
    columns = 1 if _is_narrow(figure) else 2
    rows = -(-len(figures.classes) // columns)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    edges = np.linspace(0, 1, BINS + 1)
    for k, each in enumerate(figures.classes):
        axes = panels[k]
        counts = np.array(each.histogram)
        axes.bar(
            edges[:-1],
            counts / counts.sum(),
            width=1 / BINS * 0.9,
            align="edge",
            color=_class_colour(k),
            alpha=0.85,
        )
        if each.baseline_histogram is not None:
            before = np.array(each.baseline_histogram)
            axes.stairs(
                before / before.sum(),
                edges,
                color=_colour("ink"),
                linewidth=1.2,
                label="on validation" if k == 0 else None,
            )
        axes.set_title(printable(each.name), fontsize=10, loc="left", color=_colour("ink"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("score")
        axes.label_outer()
    for unused in panels[len(figures.classes) :]:
        unused.set_visible(False)
    if figures.baseline is not None:
        _legend(figure, panels[0])


def _balance(figure: Figure, figures: Figures) -> None:
    axes = figure.subplots()
    for row, each in enumerate(figures.classes):
        axes.barh(row, each.predicted.share, height=0.55, color=_class_colour(row), alpha=0.85)
        axes.plot([each.predicted.low, each.predicted.high], [row, row], color=_colour("ink"), linewidth=1.4)
        if each.expected is not None:
            axes.plot(
                [each.expected] * 2,
                [row - 0.38, row + 0.38],
                color=_colour("alarm"),
                linestyle="--",
                linewidth=1.6,
                label="expected" if row == 0 else None,
            )
    axes.set_yticks(range(len(figures.classes)), [printable(each.name) for each in figures.classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=False, axis="y")
    if any(each.expected is not None for each in figures.classes):
        _legend(figure, axes)


def _outcomes(figure: Figure, decisions: DecisionFigures) -> None:
    axes = figure.subplots()
    starts = date2num([each.start for each in decisions.over_time])
    bottom = np.zeros(len(starts))
    for status in STATUSES:
        if decisions.counts[status]:
            counts = np.array([each.counts[status] for each in decisions.over_time])
            axes.bar(
                starts,
                counts,
                bottom=bottom,
                width=0.85 * _step(starts),
                align="edge",
                color=_colour(status.lower()),
                label=status.capitalize(),
            )
            bottom += counts
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("photos")
    _leave_room(axes, starts)
    _time_axis(axes, figure)
    _legend(figure, axes)


def _latency(figure: Figure, decisions: DecisionFigures, latencies: Array) -> None:
    axes = figure.subplots()
    shown = latencies.clip(min=0.001)
    edges = np.geomspace(shown.min() / 1.1, shown.max() * 1.1, 31)
    axes.hist(shown, bins=edges.tolist(), color=_colour("class-0"), alpha=0.85)
    axes.set_xscale("log")
    ticks = [0.01, 0.1, 1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800]
    inside = [each for each in ticks if edges[0] <= each <= edges[-1]] or [float(np.median(shown))]
    axes.xaxis.set_major_locator(FixedLocator(inside[:: 1 + (len(inside) > 6 and _is_narrow(figure))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel("photos")
    axes.grid(visible=False, axis="x")
    latency = decisions.latency
    if latency is not None:
        for level, style in (("p50", "-"), ("p90", "--"), ("p99", ":")):
            seconds = latency.quantiles[level]
            axes.axvline(
                max(seconds, 0.001),
                color=_colour("ink"),
                linestyle=style,
                linewidth=1.2,
                label=f"{level[1:]} % within {duration(seconds)}",
            )
    _legend(figure, axes)
