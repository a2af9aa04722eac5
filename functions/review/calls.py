"""The bodies of the page's calls. A body in any other form is refused before anything is done with it."""

from datetime import datetime
from typing import Annotated

import msgspec

MOST_HELD = 8
MOST_SKIPPED = 80
LONGEST_TEXT = 2048  # bytes that DynamoDB takes for a key

Text = Annotated[str, msgspec.Meta(min_length=1)]
Held = Annotated[tuple[Text, ...], msgspec.Meta(max_length=MOST_HELD)]


class Call(msgspec.Struct, frozen=True):
    """A call's body; fields that it does not have are ignored."""

    def __post_init__(self) -> None:
        """Refuse text that no photo's name and no id can be."""
        for value in msgspec.structs.astuple(self):
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and len(text.encode()) > LONGEST_TEXT:
                    raise ValueError(f"text of more than {LONGEST_TEXT} bytes")


class Queue(Call, frozen=True):
    """A person asks for photos: those in hand, skipped and to be given back, and since when decisions count."""

    since: Annotated[datetime, msgspec.Meta(tz=True)]
    want: Annotated[int, msgspec.Meta(ge=0, le=MOST_HELD)] = 0
    have: Held = ()
    skipped: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MOST_SKIPPED)] = ()
    release: Held = ()


class Picture(Call, frozen=True):
    """A photo in review; or one that stands `beside` a photo in review, as a thumbnail."""

    photo: Text
    beside: Text | None = None


class Beside(Call, frozen=True):
    """The photo in review whose driver's other photos are wanted."""

    photo: Text


class Decide(Call, frozen=True):
    """An answer, under an id that makes it count once; `corrects` is the id of the decision that it replaces."""

    photo: Text
    answer: Text
    review_id: Text
    corrects: Text | None = None


class Undo(Call, frozen=True):
    """The decision that a person takes back."""

    photo: Text
    review_id: Text
