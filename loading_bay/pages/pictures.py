"""Photos on a page, with their captions."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

FRAME_COLOUR, FRAME_WIDTH = "#ffd400", 2


class GalleryPhoto(NamedTuple):
    """A photo in a gallery; `png` is None without a picture.

    `figure` is prominent, `said` follows it, and `notes` are small lines below. `name` identifies the photo, and
    `place` is its location.
    """

    png: bytes | None
    figure: str
    said: str
    notes: Sequence[str]
    name: str
    place: str

    @property
    def uri(self) -> str | None:
        """The picture as a data URI, so the page fetches nothing."""
        return None if self.png is None else f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def draw_frame(picture: Image.Image, box: Sequence[float]) -> None:
    """Frame a part of a picture: its left, top, right and bottom, as shares of the picture's sides."""
    left, top, right, bottom = box
    place = (left * picture.width, top * picture.height, right * picture.width - 1, bottom * picture.height - 1)
    if place[2] >= place[0] and place[3] >= place[1]:
        ImageDraw.Draw(picture).rectangle(place, outline=FRAME_COLOUR, width=FRAME_WIDTH)
