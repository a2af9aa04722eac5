"""The review page's picture: processor time from a phone's photo to the JPEG that a person sees, by format."""

import io
from collections.abc import Callable

from PIL import Image, ImageOps

from functions.serialize.photo import upright

from . import machine
from .figures import cpu_milliseconds, interleave
from .results import Reading, Result, Row
from .serialize import ENCODINGS, MAX_PIXELS, photo

SIDE = 1280
QUALITY = 82
REACH_MILLISECONDS = 600  # of one core


def run(runs: int) -> Result:
    """Measure every format at 12 megapixels."""
    before = machine.load()
    return Result(
        "preview",
        "ReviewFunction: one photo to a picture of 1,280 pixels",
        [_row(kind, runs) for kind in ENCODINGS],
        before,
    )


def _row(kind: str, runs: int) -> Row:
    data = photo(kind)
    subjects: dict[str, Callable[[], object]] = {
        "ours": lambda: upright(data, longest_side=SIDE, max_pixels=MAX_PIXELS).encode("JPEG", quality=QUALITY),
        "full decode": lambda: _full_decode(data),
    }
    for work in subjects.values():
        work()  # codecs load at their first use
    found = interleave({name: cpu_milliseconds(work) for name, work in subjects.items()}, runs)
    return Row(
        f"{kind}, 12 megapixels, {len(data) / 1e6:.1f} MB",
        "ms CPU",
        found["ours"],
        Reading("full decode", found["full decode"]),
        None,
        f"≤ {REACH_MILLISECONDS} ms",
        found["ours"].median <= REACH_MILLISECONDS,
    )


def _full_decode(data: bytes) -> bytes:
    """Make the picture as code that knows nothing of the photo's format does."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
