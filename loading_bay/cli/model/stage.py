"""Stage: fetches, splits, writes and uploads images for training."""

from pathlib import Path

import click
from click.core import ParameterSource
from rich.progress import DownloadColumn
from rich.table import Table

from loading_bay.cli.commands import Command
from loading_bay.model import dataset, download, photographs, staging
from loading_bay.stack.deployed import client
from loading_bay.stack.errors import UserError

from . import options
from .options import DATA, DATASET_PREFIX, SHIPPED_MODEL, STAGED, console


@click.command(cls=Command, examples=["", "--folder photos --classes bicycle,motorcycle", "--bucket BUCKET"])
@click.option(
    "--archive",
    type=Path,
    envvar="CIFAR100_ARCHIVE",
    show_envvar=True,
    help="The Python archive of CIFAR-100, if it is already downloaded.",
)
@click.option("--folder", type=Path, help="Your photos, <folder>/<class>/*.jpg, instead of CIFAR-100.")
@click.option("--outliers", type=Path, help="More images of other things, <folder>/<class>/*.png.")
@click.option("--photographs", "fetch_photographs", is_flag=True, help="Fetch photographs, most of streets (1 GB).")
@click.option(
    "--detector",
    type=Path,
    help="An ONNX file whose detector training begins with; by default the one that ships, with --photographs the "
    "published one, which is downloaded (4 MB).",
)
@options.classes
@options.output(STAGED, "Where the images are written.")
@click.option("--outlier-limit", type=click.IntRange(0), default=5000, help="Outliers kept of each source at most.")
@click.option("--seed", type=int, default=1, help="Of the split.")
@click.option("--bucket", help="Upload to this S3 bucket too.")
@click.option("--prefix", default=DATASET_PREFIX, help="Where in the bucket.")
@options.region
def stage(
    *,
    archive: Path | None,
    folder: Path | None,
    outliers: Path | None,
    fetch_photographs: bool,
    detector: Path | None,
    classes: list[str],
    output: Path,
    outlier_limit: int,
    seed: int,
    bucket: str | None,
    prefix: str,
    region: str | None,
) -> None:
    """Fetch, split and write the images, and upload them."""
    # The variable may be set for other commands.
    named = click.get_current_context().get_parameter_source("archive") is ParameterSource.COMMANDLINE
    if named and folder:
        raise click.UsageError("--archive and --folder exclude each other")
    source = dataset.read_folder(folder, classes) if folder else dataset.read_cifar(fetched(archive), classes)
    if outliers:
        source = dataset.with_outliers(source, outliers)
    if fetch_photographs:
        whole, crops = fetched_photographs()
        source = dataset.with_photographs(source, whole.train, whole.test, classes, (crops.train, crops.test))
    data = dataset.split(dataset.limit_outliers(source, outlier_limit, seed), classes, seed)
    manifest = staging.write(data, output, begun_with(detector, published=fetch_photographs))
    table = Table("split", "images", title=f"Staged in {output}", title_justify="left")
    for name, count in manifest.counts.items():
        table.add_row(name, str(count))
    console.print(table)
    if manifest.dropped:
        console.print(f"{manifest.dropped} training images left out as near-duplicates of test images.")
    for line in dataset.shortages(data):
        console.print(f"Warning: {line}.", style="yellow", highlight=False)
    if bucket:
        upload(output, bucket, prefix, region)


def fetched(archive: Path | None) -> Path:
    """Return the path of the user's archive (with a warning if it is not the published one) or of the download.

    Raises:
        UserError: the file does not exist, or the download fails.
    """
    if archive:
        if not archive.is_file():
            raise UserError(f"{archive} does not exist")
        if dataset.file_digest(archive, "md5") != download.CIFAR_MD5:
            console.print(f"{archive} is not the published file (md5 {download.CIFAR_MD5}); using it as it is.")
        return archive
    path = DATA / "cifar-100-python.tar.gz"
    with options.progress(DownloadColumn()) as bar:
        task = bar.add_task("CIFAR-100", total=None)
        download.download(
            download.CIFAR_URL,
            path,
            download.CIFAR_MD5,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    return path


def begun_with(file: Path | None, *, published: bool) -> Path:
    """Return the file whose detector training begins with: the user's, the published one, or the one that ships.

    Raises:
        UserError: the file does not exist or cannot be fetched.
    """
    if file is not None:
        if not file.is_file():
            raise UserError(f"{file} does not exist")
        return file
    if not published:
        return SHIPPED_MODEL
    path = DATA / staging.DETECTOR_FILE
    with options.progress(DownloadColumn()) as bar:
        task = bar.add_task("YOLOX-Nano", total=None)
        download.download(
            download.DETECTOR_URL,
            path,
            download.DETECTOR_SHA256,
            lambda done, total: bar.update(task, completed=done, total=total),
            algorithm="sha256",
            instead="--detector FILE",
        )
    return path


def fetched_photographs() -> tuple[photographs.Photographs, photographs.Photographs]:
    """Fetch every original of the manifest, but those that are there: (whole photographs, their crops).

    Raises:
        UserError: an original cannot be fetched or read.
    """
    originals, folder = photographs.read_manifest(), DATA / "photographs"
    with options.progress() as bar:
        task = bar.add_task("photographs", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        photographs.fetch(originals, folder, show)
        bar.update(task, description="whole photographs", completed=0)
        whole = photographs.read_originals(originals, folder, show)
        bar.update(task, description="crops", completed=0)
        return whole, photographs.read_crops(originals, folder, show)


def upload(folder: Path, bucket: str, prefix: str, region: str | None) -> None:
    """Upload a staged data set, and print the number of new files."""
    with options.progress() as bar:
        task = bar.add_task("uploading", total=None)
        sent = staging.upload(
            client("s3", region),
            folder,
            bucket,
            prefix,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{sent} files uploaded to s3://{bucket}/{prefix}/; the others were there.")
