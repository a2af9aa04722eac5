"""Processor time and peak memory of SerializePhoto for photos from phones, by format."""

import io
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyvips
import simplejpeg
from PIL import Image, ImageOps
from pillow_heif import register_heif_opener

from functions.photo.decoder import Decoder

from . import machine
from .figures import ROOT, cpu_milliseconds, fresh_process, interleave, processor_seconds
from .results import Reading, Result, Row

SIDE = 416  # the longest side of the JPEG that the endpoint gets
MOST_JPEG_BYTES = 145_000  # as SerializePhoto
MAX_PIXELS = 50_000_000
TWELVE_MEGAPIXELS = (4000, 3000)
# The largest photo that the function's pixel limit accepts.
LARGEST = (8160, 6120)
REACH_OF_SCALED_DECODE = 1.1
REACH_MEGABYTES = 150
# Like phones: their JPEGs of 12 megapixels have 3 to 5 MB.
ENCODINGS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {"quality": 90, "subsampling": "4:2:0"}),
    "progressive JPEG": ("JPEG", {"quality": 90, "subsampling": "4:2:0", "progressive": True}),
    "PNG": ("PNG", {"compress_level": 3}),
    "WebP": ("WEBP", {"quality": 85, "method": 2}),
    "HEIC": ("HEIF", {"quality": 60}),
    "AVIF": ("AVIF", {"quality": 75, "speed": 10}),
}
# VmHWM covers each program alone; getrusage would count the memory of the forking parent.
PEAK = """
import re, sys
from pathlib import Path
processes = ["self"]
{work}
statuses = [Path(f"/proc/{{each}}/status").read_text() for each in processes]
print(sum(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) for status in statuses) / 1024)
"""
PEAK_DECODER = """
from functions.photo.decoder import Decoder
decoder = Decoder(max_pixels=50_000_000)
decoder.upright(Path(sys.argv[1]).read_bytes(), 416)
processes.append(decoder.start())
"""
PEAK_FULL = """
from PIL import Image, ImageOps
from pillow_heif import register_heif_opener
register_heif_opener()
ImageOps.contain(Image.open(sys.argv[1]).convert("RGB"), (416, 416))
"""


@cache
def photo(kind: str, size: tuple[int, int] = TWELVE_MEGAPIXELS) -> bytes:
    """Make a photo of a real scene at phone size, with sensor grain, in one of ENCODINGS."""
    register_heif_opener()
    file_format, options = ENCODINGS[kind]
    buffer = io.BytesIO()
    _scene(size).save(buffer, file_format, **options)
    return buffer.getvalue()


@cache
def _scene(size: tuple[int, int]) -> Image.Image:
    source = ROOT / "events" / "photos" / "phone-12mp-rotated.jpg"
    with Image.open(source) as image:
        scene = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), size)
    grain = np.random.default_rng(0).normal(0, 3, (size[1], size[0], 1)).astype(np.int16)
    return Image.fromarray(np.clip(np.asarray(scene, np.int16) + grain, 0, 255).astype(np.uint8))


def run(runs: int) -> Result:
    """Measure every format at 12 megapixels, and the largest accepted photos."""
    before = machine.load()
    rows = [_time(kind, runs) for kind in ENCODINGS]
    rows += [_memory(kind, TWELVE_MEGAPIXELS, "12 megapixels", runs) for kind in ENCODINGS]
    rows += [_memory(kind, LARGEST, "50 megapixels", runs) for kind in ENCODINGS]
    return Result("serialize", "SerializePhoto: one photo to a JPEG of at most 416 × 416 pixels", rows, before)


def _time(kind: str, runs: int) -> Row:
    data = photo(kind)
    limits: dict[str, Callable[[], object]] = {"libvips thumbnail": lambda: _vips(data)}
    if kind == "HEIC":
        limits = {}  # the wheels of libvips have no HEVC decoder
    elif "JPEG" in kind:
        scaled = partial(simplejpeg.decode_jpeg, data, min_height=SIDE * 3 // 4, min_width=SIDE)
        limits = {"scaled decode": scaled} | limits
    subjects = {"full decode": lambda: _full_decode(data), **limits}
    with Decoder(max_pixels=MAX_PIXELS) as decoder:
        decoder.upright(data, SIDE)
        for work in subjects.values():
            work()  # codecs load on first use
        measures = {name: cpu_milliseconds(work) for name, work in subjects.items()}
        found = interleave({"decoder": lambda: _both_processes(decoder, data), **measures}, runs)
    asked = "scaled decode" in limits
    readings = [Reading(name, found[name]) for name in limits]
    return Row(
        f"{kind}, 12 megapixels, {len(data) / 1e6:.1f} MB",
        "ms CPU",
        found["decoder"],
        Reading("full decode", found["full decode"]),
        readings[0] if readings else None,
        f"≤ {REACH_OF_SCALED_DECODE} × scaled decode" if asked else "",
        found["decoder"].median <= REACH_OF_SCALED_DECODE * found["scaled decode"].median if asked else None,
        "; ".join(f"{other.name} {other.figure} ms" for other in readings[1:]),
    )


def _both_processes(decoder: Decoder, data: bytes) -> float:
    """Return the processor time per photo, in this process and the decoder's (ms)."""
    before = time.process_time() + processor_seconds(decoder.start())
    decoder.upright(data, SIDE).encode_jpeg(MOST_JPEG_BYTES)
    return (time.process_time() + processor_seconds(decoder.start()) - before) * 1000


def _full_decode(data: bytes) -> Image.Image:
    """Reduce a photo like code that ignores its format."""
    return ImageOps.contain(Image.open(io.BytesIO(data)).convert("RGB"), (SIDE, SIDE))


def _vips(data: bytes) -> bytes:
    encoded: bytes = pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE).write_to_buffer(".jpg")
    return encoded


def _memory(kind: str, size: tuple[int, int], name: str, runs: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        path.write_bytes(photo(kind, size))
        works = {"decoder": PEAK_DECODER, "full decode": PEAK_FULL, "bare interpreter": ""}
        subjects = {label: partial(_peak, work, path) for label, work in works.items()}
        # Memory varies far less than time, and every run decodes a large photo, so few runs are enough.
        found = interleave(subjects, max(1, runs // 5))
    return Row(
        f"{kind}, {name}, memory",
        "MiB",
        found["decoder"],
        Reading("full decode", found["full decode"]),
        Reading("bare interpreter", found["bare interpreter"]),
        f"≤ {REACH_MEGABYTES} MB",
        found["decoder"].median * 2**20 <= REACH_MEGABYTES * 1e6,
    )


def _peak(work: str, path: Path) -> float:
    """Return the peak memory (MiB) of a fresh process that does the work once."""
    return fresh_process(PEAK.format(work=work), str(path))[0]
