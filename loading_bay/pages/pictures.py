"""Photos on a page: each with what is said of it."""

import base64
from collections.abc import Sequence
from typing import NamedTuple


class Picture(NamedTuple):
    """A photo of a gallery: `png` is None where there is no picture to show.

    `figure` stands out, `said` follows it, `notes` are small lines below; `name` tells the photo from others, and
    `place` says where it lies.
    """

    png: bytes | None
    figure: str
    said: str
    notes: Sequence[str]
    name: str
    place: str

    @property
    def uri(self) -> str | None:
        """The picture as a data URI, so that the page fetches nothing."""
        return None if self.png is None else f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
