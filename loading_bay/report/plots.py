"""The report's plots of predictions and decisions."""

from collections.abc import Sequence
from datetime import datetime, timedelta

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

from functions.decisions.decision import STATUSES
from loading_bay.pages.drawings import Drawing, draw, is_narrow, legend
from loading_bay.pages.theme import class_colour, colour
from loading_bay.stack.text import duration, percent, printable, whole
from loading_bay.statistics import Share

from .drift import BINS
from .figures import DecisionFigures, Figures, Times

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

# Above this number of points, a plot shows the count per cell instead, which is smaller and readable.
MOST_POINTS = 1_500
FEWEST_BINS = 12
# The minimum, so captures of a few seconds do not get an axis of half seconds.
SHORTEST_SPAN = timedelta(minutes=2) / timedelta(days=1)


def prediction_plots(figures: Figures, times: Times, confidences: Array, vehicles: Array) -> list[Drawing]:
    """Draw the four plots of predictions. There must be at least one prediction.

    `times` (UTC, without a zone), `confidences` and `vehicles` (index of the class) have one element per prediction.
    """
    below = figures.below_threshold
    if below is None:
        raise ValueError("no predictions to draw")
    named = {each.name: each for each in figures.classes}
    return [
        draw(
            "confidence",
            f"Confidence of {whole(below.of)} predictions over time; "
            f"{whole(below.count)} are below {figures.threshold:g}.",
            lambda figure: _confidence(figure, figures, times, confidences, vehicles),
        ),
        draw(
            "review-share",
            f"Share of predictions below {figures.threshold:g} over time: {percent(below.value)} altogether.",
            lambda figure: _review_share(figure, figures),
        ),
        draw(
            "scores",
            "The distribution of scores, by class"
            + (", beside the distribution on validation." if figures.baseline else "."),
            lambda figure: _scores(figure, figures),
            height=1.9 * ((len(named) + 1) // 2) + 0.9,
            narrow_height=1.9 * len(named) + 0.9,
        ),
        draw(
            "class-balance",
            "; ".join(f"{printable(each.name)} {percent(each.predicted.value)}" for each in figures.classes) + ".",
            lambda figure: _balance(figure, figures),
            height=0.5 * len(named) + 1.0,
            narrow_height=0.5 * len(named) + 1.2,
        ),
    ]


def decision_plots(decisions: DecisionFigures, latencies: Array) -> list[Drawing]:
    """Draw the plots of decisions; `latencies` are non-negative seconds from upload to decision."""
    plots = []
    if decisions.photos:
        told = ", ".join(f"{whole(count)} {status.lower()}" for status, count in decisions.counts.items() if count)
        plots.append(
            draw(
                "outcomes",
                f"Photos by outcome over time: {told}.",
                lambda figure: _outcomes(figure, decisions),
            )
        )
    if (agreement := decisions.agreement) is not None:
        agreed = agreement.agreed
        plots.append(
            draw(
                "agreement",
                f"{percent(agreed.value)} of {whole(agreed.of)} decisions of people were the model's best guess.",
                lambda figure: _shares_over_time(
                    figure, [(each.start, each.agreed) for each in agreement.over_time], "agreed"
                ),
                height=2.6,
            )
        )
    if (audit := decisions.audit) is not None and audit.is_enough:
        plots.append(
            draw(
                "audit",
                f"{percent(audit.wrong.value)} of {whole(audit.wrong.of)} audited photos were wrong.",
                lambda figure: _shares_over_time(
                    figure, [(each.start, each.wrong) for each in audit.over_time], "wrong"
                ),
                height=2.6,
            )
        )
    if decisions.latency is not None:
        told = duration(decisions.latency.quantiles["p50"])
        plots.append(
            draw(
                "latency",
                f"Time from upload to decision: half within {told}.",
                lambda figure: _latency(figure, decisions, latencies),
                height=2.9,
            )
        )
    return plots


def _time_axis(axes: Axes, figure: Figure) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=6 if is_narrow(figure) else 8)
    # The default lists end too early for few ticks; for example, they have no step for 60 to 72 hours.
    locator.intervald |= {
        MONTHLY: [1, 2, 3, 4, 6, 12],
        HOURLY: [1, 2, 3, 4, 6, 12, 24],
        MINUTELY: [1, 2, 5, 10, 15, 30, 60],
        SECONDLY: [1, 2, 5, 10, 15, 30, 60],
    }
    formatter = ConciseDateFormatter(locator)
    formatter.formats[5] = "%H:%M:%S"
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("time (UTC)")
    axes.grid(visible=False, axis="x")


def _confidence(figure: Figure, figures: Figures, times: Times, confidences: Array, vehicles: Array) -> None:
    axes = figure.subplots()
    lowest = 1 / len(figures.class_names)
    places = date2num(times)
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
                color=class_colour(k),
                label=printable(name),
                clip_on=False,
            )
    else:
        _cells(axes, places, confidences, lowest)
    axes.axhline(
        figures.threshold,
        color=colour("alarm"),
        linestyle="--",
        linewidth=1.3,
        label=f"threshold {figures.threshold:g}",
    )
    axes.set_ylim(min(lowest, confidences.min()) - 0.02, 1.01)
    room = max(SHORTEST_SPAN - (places.max() - places.min()), 0.04 * (places.max() - places.min())) / 2
    axes.set_xlim(places.min() - room, places.max() + room)
    axes.set_ylabel("confidence")
    _time_axis(axes, figure)
    legend(figure, axes)


def _cells(axes: Axes, places: Array, confidences: Array, lowest: float) -> None:
    """Shade each cell of time and confidence by its number of predictions."""
    span = (places.min(), max(places.max(), places.min() + 1e-6))
    counts, x, y = np.histogram2d(places, confidences, bins=(60, 20), range=(span, (lowest, 1)))
    columns, rows = np.nonzero(counts)
    boxes = [
        [(x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1])]
        for i, j in zip(columns, rows, strict=True)
    ]
    strength = np.log1p(counts[columns, rows]) / np.log1p(counts.max())
    red, green, blue = mpl.colors.to_rgb(class_colour(0))
    shades = [(red, green, blue, 0.08 + 0.92 * each) for each in strength]
    axes.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors="none"))
    axes.plot([], [], linestyle="none", marker="s", color=class_colour(0), label="many predictions")
    axes.plot([], [], linestyle="none", marker="s", color=class_colour(0), alpha=0.25, label="few")


def _review_share(figure: Figure, figures: Figures) -> None:
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    starts = date2num([each.start for each in figures.over_time])
    middles = starts + _step(starts) / 2
    shares = [each.below_threshold for each in figures.over_time]
    values = _draw_shares(upper, middles, shares)
    # Lines join only neighbours: a line across a pause would suggest data that does not exist.
    pauses = np.flatnonzero(np.diff(starts) > 1.5 * _step(starts)) + 1
    upper.plot(
        np.insert(middles, pauses, np.nan),
        np.insert(values, pauses, np.nan),
        color=colour("class-0"),
        linewidth=1.2,
    )
    if figures.baseline_below_threshold is not None:
        upper.axhline(
            figures.baseline_below_threshold,
            color=colour("ink"),
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
        color=colour("claimed"),
    )
    lower.set_ylabel("records")
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    _leave_room(lower, starts)
    _time_axis(upper, figure)
    _time_axis(lower, figure)
    upper.set_xlabel("")
    legend(figure, upper)


def _step(starts: Array) -> float:
    """Days from one bin to the next; a minute if there is only one."""
    return float(np.diff(starts).min()) if len(starts) > 1 else timedelta(minutes=1) / timedelta(days=1)


def _leave_room(axes: Axes, starts: Array) -> None:
    """Draw few bins as narrow as many, with empty time around them."""
    step = _step(starts)
    first, last = starts[0], starts[-1] + step
    room = max(FEWEST_BINS * step - (last - first), step) / 2
    axes.set_xlim(first - room, last + room)


def _scores(figure: Figure, figures: Figures) -> None:
    columns = 1 if is_narrow(figure) else 2
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
            color=class_colour(k),
            alpha=0.85,
        )
        if each.baseline_histogram is not None:
            before = np.array(each.baseline_histogram)
            axes.stairs(
                before / before.sum(),
                edges,
                color=colour("ink"),
                linewidth=1.2,
                label="on validation" if k == 0 else None,
            )
        axes.set_title(printable(each.name), fontsize=10, loc="left", color=colour("ink"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("score")
        axes.set_ylabel("predictions")
        axes.label_outer()
    for unused in panels[len(figures.classes) :]:
        unused.set_visible(False)
    if figures.baseline is not None:
        legend(figure, panels[0])


def _balance(figure: Figure, figures: Figures) -> None:
    axes = figure.subplots()
    for row, each in enumerate(figures.classes):
        axes.barh(row, each.predicted.value, height=0.55, color=class_colour(row), alpha=0.85)
        axes.plot([each.predicted.low, each.predicted.high], [row, row], color=colour("ink"), linewidth=1.4)
        if each.expected is not None:
            axes.plot(
                [each.expected] * 2,
                [row - 0.38, row + 0.38],
                color=colour("alarm"),
                linestyle="--",
                linewidth=1.6,
                label="expected" if row == 0 else None,
            )
    axes.set_yticks(range(len(figures.classes)), [printable(each.name) for each in figures.classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share of predictions")
    axes.grid(visible=False, axis="y")
    if any(each.expected is not None for each in figures.classes):
        legend(figure, axes)


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
                color=colour(status.lower()),
                label=status.capitalize(),
            )
            bottom += counts
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("photos")
    _leave_room(axes, starts)
    _time_axis(axes, figure)
    legend(figure, axes)


def _shares_over_time(figure: Figure, shares: Sequence[tuple[datetime, Share]], label: str) -> None:
    axes = figure.subplots()
    starts = date2num([start for start, _ in shares])
    _draw_shares(axes, starts + _step(starts) / 2, [each for _, each in shares])
    axes.set_ylim(0, min(1.1 * np.nanmax([each.high for _, each in shares], initial=0.1), 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel(label)
    _leave_room(axes, starts)
    _time_axis(axes, figure)
    legend(figure, axes)


def _draw_shares(axes: Axes, places: Array, shares: Sequence[Share]) -> Array:
    """Draw each share as a dot with its interval; return the shares."""
    values = np.array([each.value for each in shares])
    axes.errorbar(
        places,
        values,
        yerr=np.array([(each.value - each.low, each.high - each.value) for each in shares]).clip(min=0).T,
        fmt="o",
        color=colour("class-0"),
        ecolor=colour("muted"),
        elinewidth=0.9,
        markersize=4,
        label="share, with its 95 % interval",
        clip_on=False,
    )
    return values


def _latency(figure: Figure, decisions: DecisionFigures, latencies: Array) -> None:
    axes = figure.subplots()
    shown = latencies.clip(min=0.001)
    edges = np.geomspace(shown.min() / 1.1, shown.max() * 1.1, 31)
    axes.hist(shown, bins=edges.tolist(), color=colour("class-0"), alpha=0.85)
    axes.set_xscale("log")
    ticks = [0.01, 0.1, 1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800]
    inside = [each for each in ticks if edges[0] <= each <= edges[-1]] or [float(np.median(shown))]
    axes.xaxis.set_major_locator(FixedLocator(inside[:: 1 + (len(inside) > 6 and is_narrow(figure))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("time from upload to decision")
    axes.set_ylabel("photos")
    axes.grid(visible=False, axis="x")
    latency = decisions.latency
    if latency is not None:
        for level, style in (("p50", "-"), ("p90", "--"), ("p99", ":")):
            seconds = latency.quantiles[level]
            axes.axvline(
                max(seconds, 0.001),
                color=colour("ink"),
                linestyle=style,
                linewidth=1.2,
                label=f"{level[1:]} % within {duration(seconds)}",
            )
    legend(figure, axes)
