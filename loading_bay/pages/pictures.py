"""Photos on a page, with their captions."""

import base64
from collections.abc import Sequence
from typing import NamedTuple


class Picture(NamedTuple):
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
