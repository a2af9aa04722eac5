"""Makes the report: reads captures and decisions, computes the figures, and writes table, plots and page."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from rich.progress import Progress

from functions.decisions.decision import Decision, SkippedDecision, separated
from loading_bay.pages.drawings import Drawing
from loading_bay.pages.page import render

from .figures import Figures, Question, measure
from .gallery import choose
from .plots import decision_plots, prediction_plots
from .predictions import Predictions, read_predictions
from .sources import capture_files

TEMPLATE = Path(__file__).parent / "report.html"
# The page cuts longer lists of skipped records; skipped.jsonl names the first ten thousand.
LONGEST_LIST = 40


def make_report(
    source: str,
    output: Path,
    question: Question,
    decisions: Iterable[Decision | SkippedDecision] | None,
    cache: Path,
    progress: Progress,
) -> Figures:
    """Write report.html, metrics.json, predictions.parquet, skipped.jsonl and plots/*.svg into `output`.

    `source` is a folder, a file or `s3://bucket/prefix` of captures; `cache` keeps captures from S3.

    Raises:
        UserError: the source has nothing to read.
    """
    window = question.window
    predictions = read_predictions(capture_files(source, window, cache, progress), question.class_names, window)
    decided = separated(decisions) if decisions is not None else None
    found = decided[0] if decided is not None else []
    drawing = progress.add_task("Writing the report", total=None)
    figures = measure(predictions, question, source, decided)
    plots = _plots(figures, predictions, found)
    audit = figures.decisions.audit if figures.decisions else None
    claims = {each.claim: each for each in found if each.claim}
    page = render(
        TEMPLATE,
        plots,
        figures=figures,
        gallery=choose(predictions, question.threshold, claims, audit.claims if audit else ()),
        skipped=predictions.skipped[:LONGEST_LIST],
        skipped_in_all=predictions.reasons.total() + sum(predictions.skipped_files().values()),
        made_at=datetime.now(UTC),
    )

    folder = output / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        (folder / f"{plot.name}.svg").write_text(plot.file(), encoding="utf-8")
    predictions.write(output / "predictions.parquet")
    (output / "skipped.jsonl").write_bytes(
        b"".join(msgspec.json.encode(each._asdict()) + b"\n" for each in predictions.skipped)
    )
    (output / "metrics.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    (output / "report.html").write_text(page, encoding="utf-8")
    progress.update(drawing, total=1, completed=1)
    return figures


def _plots(figures: Figures, predictions: Predictions, decisions: Sequence[Decision]) -> list[Drawing]:
    plots = []
    if figures.predictions:
        table = predictions.table
        plots += prediction_plots(figures, table["time"], table["confidence"], table["vehicle"])
    if figures.decisions is not None:
        latencies = [each.latency for each in decisions if each.status != "CLAIMED" and each.latency is not None]
        plots += decision_plots(figures.decisions, np.array([each for each in latencies if each >= 0]))
    return plots
