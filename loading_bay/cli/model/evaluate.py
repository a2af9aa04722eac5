"""Evaluate: measures a model or an endpoint, or compares two on the same photos."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Column, Table

from loading_bay.cli.commands import Command
from loading_bay.model import predictors, records
from loading_bay.model.breakdown import SliceMetrics, breakdown
from loading_bay.model.comparison import Comparison, compare, verdict
from loading_bay.model.dataset import read_folder
from loading_bay.model.evaluation import Recommendation, main_figures, recommend
from loading_bay.model.measurement import Measured, Sets, measure, measure_photos, measure_sets
from loading_bay.model.predictors import PhotoPredictor
from loading_bay.stack.deployed import client
from loading_bay.stack.text import percent, shown
from loading_bay.statistics import share

from . import options
from .options import SHIPPED_MODEL, console

OUTPUT = Path("evaluation")


@click.command(
    name="evaluate",
    cls=Command,
    examples=["", "--endpoint loading-bay", "--compare training/model/model.onnx data/model/model.onnx"],
)
@options.staged("A staged data set.")
@click.option(
    "--photos", type=Path, help="Your own photos, <folder>/<class>/*.jpg, instead of a staged data set's test."
)
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", help="Of the staged data set.")
@options.classes
@click.option("--model", type=Path, help="An ONNX file.  [default: the shipped model]")
@click.option("--url", help="A running endpoint, http://HOST:PORT.")
@click.option("--endpoint", help="The name of a SageMaker endpoint.")
@click.option(
    "--compare",
    "pair",
    nargs=2,
    metavar="OLD NEW",
    help="Compare two of these: model file, http://HOST:PORT, or endpoint name.",
)
@options.region
@options.threshold
@click.option(
    "--wanted-accuracy",
    type=click.FloatRange(0, 1),
    default=0.98,
    help="Accuracy of the accepted photos to recommend a threshold for.",
)
@options.output(OUTPUT, "Folder for evaluation.html and .json, or comparison.html and .json.")
def evaluate_command(
    *,
    staged: Path,
    photos: Path | None,
    split: str,
    classes: list[str],
    model: Path | None,
    url: str | None,
    endpoint: str | None,
    pair: tuple[str, str] | None,
    region: str | None,
    threshold: float,
    wanted_accuracy: float,
    output: Path,
) -> None:
    """Measure a model or an endpoint on whole photos, on crops of them and on small pictures."""
    chosen = [choice for choice in (model, url, endpoint, pair) if choice is not None]
    if len(chosen) > 1:
        raise click.UsageError("--model, --url, --endpoint and --compare exclude each other")
    if pair:
        old, new = (measured(named(subject, region), subject, staged, "test") for subject in pair)
        report_comparison(compare({"test": (old, new)}, threshold), output)
        return
    if endpoint:
        subject = f"endpoint {endpoint}"
        predictor = predictors.endpoint_predictor(client("sagemaker-runtime", region), endpoint)
    elif url:
        subject, predictor = url, predictors.url_predictor(url)
    else:
        subject, predictor = shown(model or SHIPPED_MODEL), predictors.onnx_predictor(model or SHIPPED_MODEL)
    if photos:
        sets, recommended = own_photos(predictor, subject, photos, classes), None
    else:
        sets = measured_sets(predictor, subject, staged, split, threshold)
        held = measured(predictor, subject, staged, "validation")
        recommended = recommend(held.probabilities, held.labels, held.outlier_probabilities, wanted_accuracy)
    report_evaluation(sets, threshold, recommended, output)


def named(subject: str, region: str | None) -> PhotoPredictor:
    """Return the predictor for a model file, an address, or else an endpoint's name."""
    if subject.startswith(("http://", "https://")):
        return predictors.url_predictor(subject)
    if Path(subject).suffix == ".onnx":
        return predictors.onnx_predictor(Path(subject))
    return predictors.endpoint_predictor(client("sagemaker-runtime", region), subject)


def measured(predictor: PhotoPredictor, subject: str, staged: Path, split: str) -> Measured:
    """Classify a split, with a progress bar."""
    with options.progress() as bar:
        return measure(
            predictor,
            staged,
            split,
            subject,
            lambda answers, count: bar.track(answers, total=count, description=f"classifying {split}"),
        )


def measured_sets(predictor: PhotoPredictor, subject: str, staged: Path, split: str, threshold: float) -> Sets:
    """Classify everything of a split, with a progress bar."""
    with options.progress() as bar:
        return measure_sets(
            predictor,
            staged,
            split,
            subject,
            threshold,
            lambda answers, count: bar.track(answers, total=count, description=f"classifying {split}"),
        )


def own_photos(predictor: PhotoPredictor, subject: str, folder: Path, classes: list[str]) -> Sets:
    """Classify the photos of a folder: those of the classes, and in folders of other names other things."""
    source = read_folder(folder, classes)
    with options.progress() as bar:
        found = measure_photos(
            predictor,
            classes,
            source.train,
            [*source.outliers, *source.test_outliers],
            subject,
            folder,
            lambda answers, count: bar.track(answers, total=count, description="classifying"),
        )
    return Sets(found, None, None, share(0, 0))


def report_evaluation(sets: Sets, threshold: float, recommended: Recommendation | None, output: Path) -> None:
    """Print the main figures, and write the page and the file."""
    from loading_bay.model.evaluation_page import evaluation_page  # noqa: PLC0415 - matplotlib takes a second to import

    test = sets.main
    metrics = test.metrics(threshold)
    table = Table("figure", "value", "95 % interval", title=test.subject, title_justify="left")
    for figure in main_figures(metrics):
        table.add_row(figure.name, figure.text, figure.note)
    console.print(table)
    if recommended:
        console.print(
            f"By the validation photos, threshold {recommended.threshold:.3f} makes "
            f"{recommended.wanted_accuracy:.0%} of the accepted right (accepts {recommended.coverage:.1%})."
        )
    content: dict[str, object] = {}
    for name, each in sets.named():
        parts = breakdown(each, threshold)
        console.print(part_table(f"{name}, by source", parts.by_source))
        if len(parts.by_scale) > 1:
            console.print(part_table(f"{name}, by the vehicle", parts.by_scale))
        content[name] = asdict(each.metrics(threshold)) | asdict(parts)
    if sets.several.of:
        console.print(f"Of {sets.several.of} photos of several kinds, {percent(sets.several.value)} are accepted.")
    content |= {"several kinds accepted": asdict(sets.several), "recommended": recommended and asdict(recommended)}
    records.write(output / "evaluation.json", content)
    page = output / "evaluation.html"
    page.write_text(evaluation_page(sets, metrics, breakdown(test, threshold), recommended), encoding="utf-8")
    console.print(f"The report is {page}")


def part_table(title: str, parts: Sequence[SliceMetrics]) -> Table:
    """Return the figures for parts of the photos as a table for the terminal."""
    # Sources of one collection differ at the end of their names, which an ellipsis would remove.
    name = Column(title, overflow="fold")
    table = Table(name, "photos", "right", "accepted", "of these right", "others", "accepted")
    for part in parts:
        shares = (part.accuracy, part.coverage, part.selective_accuracy)
        table.add_row(
            part.name,
            str(part.photos),
            *(percent(each.value) for each in shares),
            str(part.outliers),
            percent(part.outliers_accepted.value),
        )
    return table


def report_comparison(comparisons: Sequence[Comparison], output: Path) -> None:
    """Print the figures of both models side by side, and write the page and the JSON file."""
    from loading_bay.model.comparison_page import comparison_page  # noqa: PLC0415 - matplotlib takes a second to import

    console.print(f"old: {comparisons[0].old.subject}\nnew: {comparisons[0].new.subject}", highlight=False)
    for comparison in comparisons:
        title = (
            f"{comparison.photos}: {comparison.new_metrics.photos} photos, {comparison.new_metrics.outliers} outliers"
        )
        table = Table("figure", "old", "new", "p", "verdict", title=title, title_justify="left")
        for each in comparison.figures:
            table.add_row(each.new.name, each.old.text, each.new.text, f"{each.corrected:.3f}", each.verdict)
        console.print(table)
    console.print(f"Altogether: {verdict(comparisons)}.")
    content = {"verdict": verdict(comparisons), "sets": [comparison.content() for comparison in comparisons]}
    records.write(output / "comparison.json", content)
    page = output / "comparison.html"
    page.write_text(comparison_page(comparisons), encoding="utf-8")
    console.print(f"The report is {page}")
