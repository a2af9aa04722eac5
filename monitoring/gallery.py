"""Picks the photos a person most wants to see, and takes only those out of the captures."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import NamedTuple

import polars as pl

from functions.serialize.decoder import Decoder, DecoderFailed
from functions.serialize.refusals import PhotoTooLarge, UnreadablePhoto
from pages.pictures import Picture
from stack.text import moment, whole

from .captures import photos
from .predictions import Predictions

LEAST_CONFIDENT = 12
MOST_CONFIDENT = 6  # of each class

# The request is a photo from anyone: it is decoded in bounds, and the page gets the pixels written anew, never the
# bytes that came.
LARGEST_BYTES = 8 << 20
LARGEST_PIXELS = 4_000_000
THUMBNAIL = 160


class Gallery(NamedTuple):
    """The least confident photos, most doubtful first, and of each class the most confident that were accepted."""

    least_confident: list[Picture]
    most_confident: dict[str, list[Picture]]


def choose(predictions: Predictions, threshold: float, keys: Mapping[str, str]) -> Gallery:
    """Choose by confidence, of pictures with exactly equal scores one, and read these from their files.

    A picture is named by the key of its photo in S3, which `keys` holds by claim, or else by its capture's id.
    """
    names = predictions.class_names
    scores = [f"p_{k}" for k in range(len(names))]
    distinct = predictions.table.group_by(scores, maintain_order=True).agg(
        pl.col("event_id", "inference_id", "time", "vehicle", "confidence", "file", "line").first(),
        pl.len().alias("times_seen"),
    )
    least = distinct.bottom_k(LEAST_CONFIDENT, by="confidence").sort("confidence")
    most = [
        distinct.filter((pl.col("vehicle") == k) & (pl.col("confidence") >= threshold))
        .top_k(MOST_CONFIDENT, by="confidence")
        .sort("confidence", descending=True)
        for k in range(len(names))
    ]
    chosen = pl.concat([least, *most])
    images: dict[tuple[int, int], bytes] = {}
    for (file,), rows in chosen.group_by("file"):
        number = int(str(file))
        for line, body in photos(predictions.files[number], set(rows["line"])).items():
            images[number, line] = body
    with Decoder(max_pixels=LARGEST_PIXELS) as decoder:
        pngs = {place: thumbnail(decoder, body) for place, body in images.items()}
    return Gallery(
        list(_pictures(least, predictions, pngs, keys)),
        {name: list(_pictures(rows, predictions, pngs, keys)) for name, rows in zip(names, most, strict=True)},
    )


def thumbnail(decoder: Decoder, body: bytes) -> bytes | None:
    """Return the photo as a PNG of at most THUMBNAIL pixels a side, or None if it is none that we decode."""
    if len(body) > LARGEST_BYTES:
        return None
    try:
        return decoder.upright(body, THUMBNAIL).encode("PNG")
    except (PhotoTooLarge, UnreadablePhoto, DecoderFailed):
        return None


def _pictures(
    rows: pl.DataFrame, predictions: Predictions, pngs: dict[tuple[int, int], bytes | None], keys: Mapping[str, str]
) -> Iterable[Picture]:
    for row in rows.iter_rows(named=True):
        again = f" · seen {whole(row['times_seen'])} times" if row["times_seen"] > 1 else ""
        yield Picture(
            png=pngs.get((row["file"], row["line"])),
            figure=f"{row['confidence']:.3f}",
            said=predictions.class_names[row["vehicle"]],
            notes=[f"{moment(row['time'].replace(tzinfo=UTC))}{again}"],
            name=keys.get(row["inference_id"], row["event_id"]),
            place=f"{predictions.files[row['file']].name}, line {row['line']}",
        )
