"""Stage: fetches, splits, writes and uploads images for training."""

from pathlib import Path

import click
from rich.progress import DownloadColumn
from rich.table import Table

from loading_bay.cli.commands import Command
from loading_bay.model import dataset, download, photographs, staging
from loading_bay.stack.deployed import client
from loading_bay.stack.errors import UserError

from . import options
from .options import DATA, DATASET_PREFIX, STAGED, console


@click.command(cls=Command, examples=["", "--folder photos --classes bicycle,motorcycle", "--bucket BUCKET"])
@click.option("--archive", type=Path, help="The Python archive of CIFAR-100, if it is already downloaded.")
@click.option("--folder", type=Path, help="Your photos, <folder>/<class>/*.jpg, instead of CIFAR-100.")
@click.option("--outliers", type=Path, help="More images of other things, <folder>/<class>/*.png.")
@click.option("--photographs", "fetch_photographs", is_flag=True, help="Fetch street photographs (0.9 GB).")
@click.option(
    "--photographs-archive",
    "photograph_archives",
    type=Path,
    multiple=True,
    help="An archive of crops of such photographs, with an index.csv, instead; repeatable.",
)
@options.classes
@options.output(STAGED, "Folder for the images.")
@click.option(
    "--image-size", type=click.IntRange(32), default=dataset.IMAGE_SIDE, help="Side of the model's input (pixels)."
)
@click.option("--outlier-limit", type=click.IntRange(0), default=5000, help="Most outliers to keep from each source.")
@click.option("--seed", type=int, default=1, help="Seed of the split.")
@click.option("--bucket", help="Also upload to this S3 bucket.")
@click.option("--prefix", default=DATASET_PREFIX, help="Prefix in the bucket.")
@options.region
def stage(
    *,
    archive: Path | None,
    folder: Path | None,
    outliers: Path | None,
    fetch_photographs: bool,
    photograph_archives: tuple[Path, ...],
    classes: list[str],
    output: Path,
    image_size: int,
    outlier_limit: int,
    seed: int,
    bucket: str | None,
    prefix: str,
    region: str | None,
) -> None:
    """Fetch, split and write the images, and upload them."""
    if archive and folder:
        raise click.UsageError("--archive and --folder exclude each other")
    if fetch_photographs and photograph_archives:
        raise click.UsageError("--photographs and --photographs-archive exclude each other")
    if folder:
        source = dataset.read_folder(folder, classes, image_size)
    else:
        source = dataset.read_cifar(fetched(archive), classes, image_size)
    if outliers:
        source = dataset.with_outliers(source, outliers)
    if fetch_photographs or photograph_archives:
        found = (
            fetched_photographs(image_size)
            if fetch_photographs
            else photographs.read_archives(photograph_archives, image_size)
        )
        source = dataset.with_photographs(source, found.train, found.test, classes)
    data = dataset.split(dataset.limit_outliers(source, outlier_limit, seed), classes, seed)
    manifest = staging.write(data, output)
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


def fetched_photographs(image_size: int) -> photographs.Photographs:
    """Fetch every missing original of the manifest, and cut out its crops.

    Raises:
        UserError: an original cannot be fetched or read.
    """
    originals, folder = photographs.read_manifest(), DATA / "photographs"
    with options.progress() as bar:
        task = bar.add_task("photographs", total=None)
        photographs.fetch(originals, folder, lambda done, total: bar.update(task, completed=done, total=total))
    return photographs.read_originals(originals, folder, image_size)


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
