"""Picks the photos a person most wants to see, and takes only those out of the captures."""

import base64
import io
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl
from PIL import Image, UnidentifiedImageError

from monitoring.captures import photos
from monitoring.predictions import Predictions

LEAST_CONFIDENT = 12
MOST_CONFIDENT = 6  # of each class

# The request is a photo from anyone: only these decoders may try it, none of them on more than this, and
# the page gets the pixels written anew, never the bytes that came.
FORMATS = ("PNG", "JPEG")
LARGEST_BYTES = 8 << 20
LARGEST_PIXELS = 4_000_000
THUMBNAIL = 160

# What Pillow raises on damaged, hostile or simply other files; SyntaxError is its PNG reader's.
_UNDECODABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    MemoryError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class Picture(NamedTuple):
    """A photo with its prediction; `image` is a data URI, or None where no picture could be decoded.

    `times_seen` counts the predictions with exactly these scores: one picture sent again and again.
    """

    event_id: str
    time: datetime
    place: str
    vehicle: str
    confidence: float
    times_seen: int
    image: str | None


class Gallery(NamedTuple):
    """The least confident photos, most doubtful first, and the most confident ones of each class."""

    least_confident: list[Picture]
    most_confident: dict[str, list[Picture]]


def choose(predictions: Predictions) -> Gallery:
    """Choose by confidence, of pictures with exactly equal scores one, and read these from their files."""
    names = predictions.class_names
    scores = [f"p_{k}" for k in range(len(names))]
    distinct = predictions.table.group_by(scores, maintain_order=True).agg(
        pl.col("event_id", "time", "vehicle", "confidence", "file", "line").first(),
        pl.len().alias("times_seen"),
    )
    least = distinct.bottom_k(LEAST_CONFIDENT, by="confidence").sort("confidence")
    most = [
        distinct.filter(pl.col("vehicle") == k)
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
    return Gallery(
        list(_pictures(least, predictions, images)),
        {name: list(_pictures(rows, predictions, images)) for name, rows in zip(names, most, strict=True)},
    )


def thumbnail(body: bytes) -> bytes | None:
    """Return the photo as a PNG of at most THUMBNAIL pixels a side, or None if it is none that we decode."""
    if len(body) > LARGEST_BYTES:
        return None
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            with Image.open(io.BytesIO(body), formats=FORMATS) as photo:
                if photo.width * photo.height > LARGEST_PIXELS:
                    return None
                photo.draft("RGB", (THUMBNAIL, THUMBNAIL))
                small = photo.convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
        pixels = Image.frombytes("RGB", small.size, small.tobytes())  # profiles and texts stay behind
    except _UNDECODABLE:
        return None
    png = io.BytesIO()
    pixels.save(png, "PNG")
    return png.getvalue()


def _pictures(rows: pl.DataFrame, predictions: Predictions, images: dict[tuple[int, int], bytes]) -> Iterable[Picture]:
    for row in rows.iter_rows(named=True):
        body = images.get((row["file"], row["line"]))
        png = thumbnail(body) if body is not None else None
        yield Picture(
            event_id=row["event_id"],
            time=row["time"].replace(tzinfo=UTC),
            place=f"{predictions.files[row['file']].name}, line {row['line']}",
            vehicle=predictions.class_names[row["vehicle"]],
            confidence=row["confidence"],
            times_seen=row["times_seen"],
            image=f"data:image/png;base64,{base64.b64encode(png).decode()}" if png is not None else None,
        )
