"""Picks the most informative photos, and reads only those from the captures."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from functions.decisions.decision import Box, Decision
from functions.photo.decoder import Decoder
from functions.photo.errors import DecoderFailed, PhotoTooLarge, UnreadablePhoto
from loading_bay.pages.pictures import GalleryPhoto, draw_frame
from loading_bay.stack.text import moment, whole

from .captures import photos
from .predictions import Predictions, utc

LEAST_CONFIDENT = 12
MOST_CONFIDENT = 6  # of each class
MOST_WRONG = 24

# Anyone can upload a photo, so it is decoded within limits, and the page gets newly encoded pixels, never the original
# bytes.
LARGEST_PIXELS = 4_000_000
THUMBNAIL = 160


class Gallery(NamedTuple):
    """The least confident photos, in order, the most confident accepted ones of each class, and the known errors."""

    least_confident: list[GalleryPhoto]
    most_confident: dict[str, list[GalleryPhoto]]
    wrong: list[GalleryPhoto]


def choose(
    predictions: Predictions, threshold: float, decisions: Mapping[str, Decision], wrong: Collection[str]
) -> Gallery:
    """Choose pictures by confidence, one per distinct set of scores, and those of the claims that are `wrong`.

    Args:
        predictions: those to choose from.
        threshold: the lowest accepted confidence.
        decisions: by claim. A picture with one is named by its photo's key in S3, with a frame where the endpoint
            looked; any other is named by its capture's id.
        wrong: the claims of known errors.
    """
    names, table = predictions.class_names, predictions.table
    rows = _distinct(table)
    accepted = rows[table["confidence"][rows] >= threshold]
    least = rows[:LEAST_CONFIDENT]
    most = [accepted[table["vehicle"][accepted] == k][::-1][:MOST_CONFIDENT] for k in range(len(names))]
    errors = np.flatnonzero(np.isin(table["inference_id"], list(wrong)))[-MOST_WRONG:]
    chosen = table[np.concatenate([least, *most, errors])]
    boxes = {(row["file"], row["line"]): _box(decisions.get(row["inference_id"])) for row in chosen}
    pngs: dict[tuple[int, int], bytes | None] = {}
    with Decoder(max_pixels=LARGEST_PIXELS) as decoder:
        for file in set(chosen["file"].tolist()):
            lines = set(chosen["line"][chosen["file"] == file].tolist())
            for line, body in photos(predictions.files[file], lines):  # one at a time: each may be megabytes
                pngs[file, line] = thumbnail(decoder, body, boxes[file, line])
    return Gallery(
        [_picture(row, predictions, pngs, decisions) for row in table[least]],
        {
            name: [_picture(row, predictions, pngs, decisions) for row in table[best]]
            for name, best in zip(names, most, strict=True)
        },
        [_picture(row, predictions, pngs, decisions) for row in table[errors]],
    )


def _box(decision: Decision | None) -> Box | None:
    return decision.detection.box if decision and decision.detection else None


def _name(decision: Decision) -> str:
    return f"{decision.key} · order {decision.order}" if decision.order else decision.key


def thumbnail(decoder: Decoder, body: bytes, box: Box | None = None) -> bytes | None:
    """Return the photo as a framed PNG of at most THUMBNAIL pixels per side, or None if it cannot be decoded."""
    try:
        photo = decoder.upright(body, THUMBNAIL)
    except (PhotoTooLarge, UnreadablePhoto, DecoderFailed):
        return None
    if box is not None:
        draw_frame(photo.image, (box.left, box.top, box.right, box.bottom))
    return photo.encode("PNG")


def _distinct(table: NDArray[np.void]) -> NDArray[np.intp]:
    """Return the first row of each distinct set of scores, the least confident first."""
    scores = table["scores"]
    order = np.lexsort((*scores.T, table["confidence"]))
    is_new = np.full(len(order), True)
    is_new[1:] = (scores[order[1:]] != scores[order[:-1]]).any(axis=1)
    first: NDArray[np.intp] = order[is_new]
    return first


def _picture(
    row: np.void,
    predictions: Predictions,
    pngs: Mapping[tuple[int, int], bytes | None],
    decisions: Mapping[str, Decision],
) -> GalleryPhoto:
    decision = decisions.get(row["inference_id"])
    seen = int((predictions.table["scores"] == row["scores"]).all(axis=1).sum())
    again = f" · seen {whole(seen)} times" if seen > 1 else ""
    return GalleryPhoto(
        png=pngs.get((row["file"], row["line"])),
        figure=f"{row['confidence']:.3f}",
        said=predictions.class_names[row["vehicle"]],
        notes=[f"{moment(utc(row['time']))}{again}"],
        name=_name(decision) if decision else row["event_id"],
        place=f"{predictions.files[row['file']].name}, line {row['line']}",
    )
