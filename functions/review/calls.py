"""The request bodies of the page's API. A body in any other form is refused before it is used."""

from datetime import datetime
from typing import Annotated

import msgspec

MOST_HELD = 8
MOST_SKIPPED = 80
LONGEST_TEXT = 2048  # bytes, the limit of a DynamoDB key

Text = Annotated[str, msgspec.Meta(min_length=1)]
Photos = Annotated[tuple[Text, ...], msgspec.Meta(max_length=MOST_HELD)]


class Call(msgspec.Struct, frozen=True):
    """A request body; unknown fields are ignored."""

    def __post_init__(self) -> None:
        """Refuse text that is too long for a photo's name or an id."""
        for value in msgspec.structs.astuple(self):
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and len(text.encode()) > LONGEST_TEXT:
                    raise ValueError(f"text of more than {LONGEST_TEXT} bytes")


class Queue(Call, frozen=True):
    """A request for photos: those held, skipped and released, and the time since which decisions count."""

    since: Annotated[datetime, msgspec.Meta(tz=True)]
    want: Annotated[int, msgspec.Meta(ge=0, le=MOST_HELD)] = 0
    have: Photos = ()
    skipped: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MOST_SKIPPED)] = ()
    release: Photos = ()


class Picture(Call, frozen=True):
    """A photo in review, or one to show as a thumbnail `beside` a photo in review."""

    photo: Text
    beside: Text | None = None


class Beside(Call, frozen=True):
    """The photo in review; the driver's other photos are requested."""

    photo: Text


class Decide(Call, frozen=True):
    """An answer, with an id so it counts once; `corrects` is the id of the decision that it replaces."""

    photo: Text
    answer: Text
    review_id: Text
    corrects: Text | None = None


class Undo(Call, frozen=True):
    """The decision to undo."""

    photo: Text
    review_id: Text
