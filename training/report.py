"""The evaluation as one page: figures, charts and the worst mistakes, in a single HTML file."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.dataset import Photo
from training.evaluation import Metrics, Recommendation, percent, summary_rows
from training.measurement import Measured
from training.predictors import encode

ACCENT: Final = "#2563a8"
SECOND: Final = "#d97706"
MUTED: Final = "#6b7280"
WORST: Final = 12

STYLE: Final = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff; margin: 0 auto;
       max-width: 64rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 1rem; max-width: 46rem; } .note { color: #4b5563; }
table { border-collapse: collapse; } th, td { padding: .35rem 1rem .35rem 0; text-align: left; }
thead th, tbody tr { border-bottom: 1px solid #e5e7eb; } td.number { font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.5rem 2rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; } figcaption { color: #4b5563; font-size: .9rem; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1rem; }
.photos img { width: 100%; image-rendering: pixelated; display: block; border-radius: 4px; }
.photos figcaption { overflow-wrap: anywhere; margin-top: .3rem; font-size: .85rem; line-height: 1.35; }
"""


def render(measured: Measured, metrics: Metrics, recommended: Recommendation | None) -> str:
    """Give the whole page as HTML."""
    names = metrics.class_names
    charts = [
        (_confusion, "Confusion matrix: rows are what the photo shows, columns what the model says."),
        (_reliability, "Reliability: how often it was right, by how sure it was. On the line is calibrated."),
        (_risk_coverage, "Risk and coverage: the fewer photos it must decide on, the fewer it gets wrong."),
        (
            _confidences,
            f"Highest score, of photos and of outliers. Right of the line, {metrics.threshold}: accepted.",
        ),
        (_scores, f"Score of {names[-1]}, by what the photo shows."),
    ]
    figures = "".join(
        f"<figure>{_svg(draw, measured, metrics)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for draw, caption in charts
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {html.escape(measured.subject)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Evaluation of {html.escape(measured.subject)}</h1>"
        f'<p class="note">{metrics.photos} photos of {html.escape(", ".join(names))}; '
        f"{metrics.outliers} images of other things. Intervals are 95 % (Wilson).</p>"
        f"{_summary(metrics)}{_per_class(metrics)}{_recommendation(recommended)}"
        f'<h2>Charts</h2><div class="charts">{figures}</div>'
        f"{_mistakes(measured, metrics)}{_accepted_outliers(measured, metrics)}</body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _summary(metrics: Metrics) -> str:
    return f"<h2>Figures</h2>{_table(('Figure', 'Value', 'Interval'), summary_rows(metrics))}"


def _per_class(metrics: Metrics) -> str:
    rows = [(item.name, str(item.photos), percent(item.precision), percent(item.recall)) for item in metrics.per_class]
    return f"<h2>By class</h2>{_table(('Class', 'Photos', 'Precision', 'Recall'), rows)}"


def _recommendation(found: Recommendation | None) -> str:
    if found is None:
        text = "On the validation photos, no threshold makes the accepted ones right as often as wanted."
    else:
        text = (
            f"For {percent(found.wanted_accuracy)} of the accepted photos right, the lowest threshold on the "
            f"validation photos is {found.threshold:.3f}: it accepts {percent(found.coverage)} of them, "
            f"{percent(found.accuracy)} rightly, and {percent(found.outliers_accepted)} of validation outliers."
        )
    return f"<h2>Threshold</h2><p>{html.escape(text)}</p>"


def _svg(draw: Callable[[Axes, Measured, Metrics], None], measured: Measured, metrics: Metrics) -> str:
    # A fixed salt: the same evaluation gives the same file.
    with matplotlib.rc_context({"svg.hashsalt": "loading-bay", "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(4.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, measured, metrics)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue()
    return text[text.index("<svg") :]


def _confusion(axes: Axes, measured: Measured, metrics: Metrics) -> None:
    counts = np.array(metrics.confusion)
    axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        dark = counts[row, column] > counts[row].sum() / 2
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axes.set_xticks(range(len(counts)), metrics.class_names)
    axes.set_yticks(range(len(counts)), metrics.class_names, rotation=90, va="center")
    axes.set_xlabel("said")
    axes.set_ylabel("shown")


def _reliability(axes: Axes, measured: Measured, metrics: Metrics) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for part in metrics.reliability:
        axes.bar(part.low, part.accuracy, part.high - part.low, align="edge", color=ACCENT, alpha=0.35)
        axes.plot(part.confidence, part.accuracy, "o", color=ACCENT)
        axes.annotate(str(part.photos), (part.low + 0.05, 0.02), ha="center", fontsize=8)
    axes.set_xlim(max(0, 1 / len(metrics.class_names) - 0.1), 1.02)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("confidence (the numbers are photos)")
    axes.set_ylabel("share right")


def _risk_coverage(axes: Axes, measured: Measured, metrics: Metrics) -> None:
    coverage = [100 * point.coverage for point in metrics.risk_coverage]
    risk = [100 * point.risk for point in metrics.risk_coverage]
    axes.plot(coverage, risk, color=ACCENT, drawstyle="steps-post")
    if metrics.selective_accuracy.of:
        here = (100 * metrics.coverage.value, 100 * (1 - metrics.selective_accuracy.value))
        axes.plot(*here, "o", color=SECOND)
        axes.annotate(f"at {metrics.threshold}", here, xytext=(-8, 8), textcoords="offset points", ha="right")
    axes.set_xlim(0, 101)
    axes.set_ylim(bottom=-0.1)
    axes.set_xlabel("photos decided, %")
    axes.set_ylabel("wrong among them, %")


def _confidences(axes: Axes, measured: Measured, metrics: Metrics) -> None:
    edges = np.linspace(1 / len(metrics.class_names), 1, 21).tolist()
    series = [
        ("photos", measured.probabilities, ACCENT),
        ("outliers", measured.outlier_probabilities, SECOND),
    ]
    for name, probabilities, colour in series:
        if len(probabilities):
            weights = np.full(len(probabilities), 100 / len(probabilities))
            axes.hist(probabilities.max(axis=1), edges, weights=weights, color=colour, alpha=0.6, label=name)
    axes.axvline(metrics.threshold, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlabel("confidence")
    axes.set_ylabel("share, %")
    axes.legend(frameon=False, loc="upper center")


def _scores(axes: Axes, measured: Measured, metrics: Metrics) -> None:
    labels = np.array([photo.label for photo in measured.photos])
    last = measured.probabilities[:, -1]
    groups = [last[labels == name] for name in metrics.class_names]
    axes.hist(groups, np.linspace(0, 1, 21).tolist(), stacked=True, label=metrics.class_names, alpha=0.8)
    axes.set_xlabel(f"score of {metrics.class_names[-1]}")
    axes.set_ylabel("photos")
    axes.legend(frameon=False, loc="upper center")


def _mistakes(measured: Measured, metrics: Metrics) -> str:
    names = metrics.class_names
    labels = np.array([names.index(photo.label) for photo in measured.photos])
    predicted = measured.probabilities.argmax(axis=1)
    confidence = measured.probabilities.max(axis=1)
    wrong = [int(row) for row in np.argsort(-confidence, kind="stable") if predicted[row] != labels[row]]
    cards = "".join(
        _card(
            measured.photos[row],
            f"{names[labels[row]]}, called {names[predicted[row]]} ({confidence[row]:.2f})",
        )
        for row in wrong[:WORST]
    )
    shown = cards or "<p>None.</p>"
    return f'<h2>Worst mistakes ({len(wrong)} in all)</h2><div class="photos">{shown}</div>'


def _accepted_outliers(measured: Measured, metrics: Metrics) -> str:
    if not len(measured.outlier_probabilities):
        return ""
    confidence = measured.outlier_probabilities.max(axis=1)
    predicted = measured.outlier_probabilities.argmax(axis=1)
    order = np.argsort(-confidence, kind="stable")[:WORST]
    cards = "".join(
        _card(
            measured.outliers[row],
            f"{measured.outliers[row].label}, called {metrics.class_names[predicted[row]]} ({confidence[row]:.2f})",
        )
        for row in order
    )
    return f'<h2>Outliers that it was surest of</h2><div class="photos">{cards}</div>'


def _card(photo: Photo, text: str) -> str:
    picture = base64.b64encode(encode(photo.pixels)).decode()
    caption = f"{html.escape(text)}<br>{html.escape(photo.name)}"
    alt = html.escape(photo.label, quote=True)
    return f'<figure><img src="data:image/png;base64,{picture}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
