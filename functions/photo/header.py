"""Looks at a photo's header without a decoder: bounds the work that it can ask for, and keeps from it what is no pixel.

A decoder's work grows with what the header lists, not with the pixels alone: a JPEG's scans, a HEIC's tiles, a PNG's
chunks. Everything here is linear in the file's bytes, and in Python's loops bounded by the counts below.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from .boxes import check_boxes
from .errors import UnreadablePhoto

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Far above what cameras and editors write; a segment holds at most 64 KB, and a PNG's chunks mostly 8 KB or more.
MOST_SEGMENTS, MOST_SCANS, MOST_CHUNKS, MOST_EXIF_ENTRIES = 1_000, 100, 20_000, 1_000
MOST_PROFILE_BYTES = 1 << 20
# A JPEG's marker: any number of 0xff and a byte that is neither padding nor stuffed data.
MARKER = re.compile(rb"\xff+([\x01-\xfe])")
# Inside of a scan's data restarts are no end of it either.
END_OF_SCAN = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN, APP1, APP2, ADOBE = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xEE
WITHOUT_LENGTH = {0x01, START_OF_IMAGE, *range(0xD0, 0xD8)}
METADATA = {*range(0xE0, 0xF0), 0xFE} - {ADOBE}  # the last says how colours are to be read
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
ORIENTATION, SHORT = 0x0112, 3


@dataclass(frozen=True)
class Bare:
    """A photo's file without its metadata, and what of them its picture needs: EXIF and colour profile."""

    data: bytes | memoryview
    exif: bytes = b""
    profile: bytes = b""


def bare(data: memoryview, max_pixels: int) -> Bare:
    """Return the photo as its decoder may see it; of a WebP, HEIC or AVIF that is the whole file.

    Raises:
        PhotoTooLarge: the tiles of a HEIC or AVIF, or its coded picture, have more than `max_pixels`.
        UnreadablePhoto: the header asks for more work than any honest photo does.
    """
    if data[: len(JPEG)] == JPEG:
        return _bare_jpeg(data)
    if data[: len(PNG)] == PNG:
        return _bare_png(data)
    if bytes(data[4:8]) == b"ftyp":
        check_boxes(data, max_pixels)
    return Bare(data)


def orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1 to 8, from its first directory; 1 where it says nothing, or nothing readable."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(min(count, MOST_EXIF_ENTRIES)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
            if (tag, kind) == (ORIENTATION, SHORT):
                return int(value)
    except struct.error:
        pass
    return 1


def _bare_jpeg(data: memoryview) -> Bare:
    kept, profile = [data[:2]], list[memoryview]()
    exif = b""
    position, components, progressive = 2, 0, False
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(data, position)
        if found is None:
            break
        marker, start, position = found[1][0], found.start(), found.end()
        if marker in WITHOUT_LENGTH:
            continue
        if marker == START_OF_SCAN:
            if progressive or data[position + 2 : position + 3] != bytes([components]):
                _count_scans(data, position)
            kept.append(data[start:])
            return Bare(b"".join(kept), exif, b"".join(profile))
        position += int.from_bytes(data[position : position + 2])
        body = data[found.end() + 2 : position]
        if marker in FRAMES:
            components, progressive = body[5] if body[5:] else 0, marker in PROGRESSIVE
        if marker not in METADATA:
            kept.append(data[start:position])
        elif marker == APP1 and bytes(body[:6]) == b"Exif\0\0" and not exif:
            exif = bytes(body)
        elif marker == APP2 and bytes(body[:12]) == b"ICC_PROFILE\0":
            profile.append(body[14:])
    else:
        raise UnreadablePhoto(f"the JPEG has more than {MOST_SEGMENTS:,} segments before its picture")
    raise UnreadablePhoto("the JPEG has no picture, or is cut off")


def _count_scans(data: memoryview, position: int) -> None:
    """Raise `UnreadablePhoto` where more scans follow the one at `position` than an encoder writes."""
    if bytes(data[position:]).count(bytes([0xFF, START_OF_SCAN])) < MOST_SCANS:
        return
    # Not all of these need be scans: videos and further pictures may follow the first.
    scans = 1
    for _ in range(MOST_SEGMENTS):
        found = END_OF_SCAN.search(data, position + int.from_bytes(data[position : position + 2]))
        if found is None or found[1][0] == END_OF_IMAGE:
            return
        scans += found[1][0] == START_OF_SCAN
        if scans > MOST_SCANS:
            break
        position = found.end()
    raise UnreadablePhoto(f"the JPEG has more than {MOST_SCANS} scans")


def _bare_png(data: memoryview) -> Bare:
    kept, exif, profile = [data[: len(PNG)]], b"", b""
    position = len(PNG)
    for _ in range(MOST_CHUNKS):
        name, end = (
            bytes(data[position + 4 : position + 8]),
            position + 12 + int.from_bytes(data[position : position + 4]),
        )
        if not name:
            break
        if name in PIXEL_CHUNKS:
            kept.append(data[position:end])
        elif name == b"eXIf":
            exif = bytes(data[position + 8 : end - 4])
        elif name == b"iCCP":
            profile = _unpacked_profile(bytes(data[position + 8 : end - 4]))
        position = end
        if name == b"IEND":
            break
    else:
        raise UnreadablePhoto(f"the PNG has more than {MOST_CHUNKS:,} chunks")
    return Bare(b"".join(kept), exif, profile)


def _unpacked_profile(chunk: bytes) -> bytes:
    _, _, packed = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], MOST_PROFILE_BYTES)
    except zlib.error:
        return b""
