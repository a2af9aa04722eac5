"""The five charts in the report of an evaluation, each as wide as half a page."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from loading_bay.pages.drawings import HALF_WIDTH, Drawing, draw, legend
from loading_bay.pages.theme import class_colour, colour
from loading_bay.stack.text import percent

from .evaluation import Metrics
from .measurement import Measured

HEIGHT = 3.4
SCORE_BINS = 20


def charts(measured: Measured, metrics: Metrics) -> list[Drawing]:
    """Draw an evaluation; the drawings are named confusion, reliability, risk-coverage, confidences and scores."""

    def half(name: str, summary: str, paint: Callable[[Figure], None]) -> Drawing:
        return draw(name, summary, paint, width=HALF_WIDTH, height=HEIGHT)

    accepted = metrics.outliers_accepted
    return [
        half(
            "confusion",
            "Rows are the photos' classes, columns the model's answers; a darker square is a larger part of its row.",
            lambda figure: _confusion(figure, metrics),
        ),
        half(
            "reliability",
            "How often the model was right, by how sure it was. A calibrated model lies on the dashed line.",
            lambda figure: _reliability(figure, metrics),
        ),
        half(
            "risk-coverage",
            "The fewer photos the model decides on, the surest first, the fewer of them it gets wrong.",
            lambda figure: _risk_coverage(figure, metrics),
        ),
        half(
            "confidences",
            f"The highest score of each photo and outlier. Right of the dashed line, {metrics.threshold:g}, "
            + (f"are {percent(accepted.value)} of the outliers." if accepted.of else "photos are accepted."),
            lambda figure: _confidences(figure, measured, metrics),
        ),
        half(
            "scores",
            f"The score for {metrics.class_names[-1]}, by the class of the photo.",
            lambda figure: _scores(figure, measured, metrics),
        ),
    ]


def _confusion(figure: Figure, metrics: Metrics) -> None:
    axes = figure.subplots()
    counts = np.array(metrics.confusion)
    parts = counts / counts.sum(axis=1, keepdims=True).clip(1)
    for row, column in np.ndindex(counts.shape):
        square = Rectangle((column - 0.5, row - 0.5), 1, 1, color=class_colour(0), alpha=0.55 * parts[row, column])
        axes.add_patch(square)
        axes.text(column, row, str(counts[row, column]), ha="center", va="center")
    axes.set_xticks(range(len(counts)), metrics.class_names)
    axes.set_yticks(range(len(counts)), metrics.class_names, rotation=90, va="center")
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.set_xlabel("the model's answer")
    axes.set_ylabel("the photo's class")


def _reliability(figure: Figure, metrics: Metrics) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=colour("muted"), linewidth=1, linestyle="--")
    for part in metrics.reliability:
        axes.bar(part.low, part.accuracy, part.high - part.low, align="edge", color=class_colour(0), alpha=0.35)
        axes.plot(part.confidence, part.accuracy, "o", color=class_colour(0))
        axes.annotate(str(part.photos), ((part.low + part.high) / 2, 0.02), ha="center", fontsize=8)
    axes.set_xlim(max(0, 1 / len(metrics.class_names) - 0.1), 1.02)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("confidence (at the foot: photos)")
    axes.set_ylabel("photos answered rightly")


def _risk_coverage(figure: Figure, metrics: Metrics) -> None:
    axes = figure.subplots()
    coverage = [point.coverage for point in metrics.risk_coverage]
    risk = [point.risk for point in metrics.risk_coverage]
    axes.plot(coverage, risk, color=class_colour(0), drawstyle="steps-post")
    if metrics.selective_accuracy.of:
        here = (metrics.coverage.value, 1 - metrics.selective_accuracy.value)
        axes.plot(*here, "o", color=class_colour(1), label=f"at threshold {metrics.threshold:g}")
        legend(figure, axes)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, max(1.1 * max(risk), 0.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("photos accepted")
    axes.set_ylabel("wrong among the accepted")


def _confidences(figure: Figure, measured: Measured, metrics: Metrics) -> None:
    axes = figure.subplots()
    edges = np.linspace(1 / len(metrics.class_names), 1, SCORE_BINS + 1).tolist()
    series = [
        ("photos", measured.probabilities, class_colour(0)),
        ("outliers", measured.outlier_probabilities, class_colour(1)),
    ]
    for name, probabilities, shade in series:
        if len(probabilities):
            weights = np.full(len(probabilities), 1 / len(probabilities))
            axes.hist(probabilities.max(axis=1), edges, weights=weights, color=shade, alpha=0.6, label=name)
    axes.axvline(metrics.threshold, color=colour("alarm"), linewidth=1.3, linestyle="--")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of each")
    legend(figure, axes)


def _scores(figure: Figure, measured: Measured, metrics: Metrics) -> None:
    axes = figure.subplots()
    names = metrics.class_names
    groups = [measured.probabilities[measured.labels == k, -1] for k in range(len(names))]
    shades = [class_colour(k) for k in range(len(names))]
    axes.hist(groups, np.linspace(0, 1, SCORE_BINS + 1).tolist(), stacked=True, label=names, color=shades, alpha=0.85)
    axes.set_xlabel(f"score for {names[-1]}")
    axes.set_ylabel("photos")
    legend(figure, axes)
