"""Reads a photo's file up to its pixels without a decoder, and passes on only the parts that a picture needs.

Decoders see no metadata, because long lists of it in a file would slow Pillow down. Everything here is linear in the
file's bytes, and the counts below bound the loops.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from .boxes import Properties, read_properties
from .colour import MOST_PROFILE_BYTES, Coding
from .errors import UnreadablePhoto

# Far more than cameras and editors write; a segment holds at most 64 KB, and most PNG chunks hold 8 KB or more.
MOST_SEGMENTS, MOST_SCANS, MOST_CHUNKS, MOST_EXIF_ENTRIES = 1_000, 100, 20_000, 1_000
# The first bytes of the accepted formats, by Pillow name. HEIC and AVIF are among the brands of `ftyp`.
BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "AVIF": rb".{4}ftyp.{0,48}?avi[fs]",
    "HEIF": rb".{4}ftyp.{0,48}?(?:he[iv][cmsx]|mif1|msf1)",
}
# The first bytes of files that arrive in place of a photo when an upload goes wrong.
MISTAKEN = {
    rb"<svg\b|<\?xml.{0,500}<svg\b": "an SVG drawing",
    rb"<(!doctype html|html|head|body)\b": "an HTML page",
    rb"<\?xml|<error>": "an XML document, such as an error message from S3",
    rb"data:[\w/+.-]*[;,]": "a data URL; upload the bytes that it encodes",
    rb"--[^\r\n]{1,200}\r?\nContent-": "a web form with a file inside; upload the file alone",
    rb"/9j/|iVBORw0KGgo|UklGR|AAAA..Z0eX": "base64 text; upload the bytes that it encodes",
    rb"[{\[]\s*[\"{\[]": "JSON",
    rb"%PDF-": "a PDF document",
    rb"GIF8[79]a": "a GIF",
    rb"II\*\0|MM\0\*": "a TIFF or raw photo",
    rb".{4}ftyp": "a video, or a picture in another format",
}

# A JPEG's marker: 0xff, and a byte that is not padding, stuffed data or a restart within a scan.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
APP0, APP1, APP2, ADOBE, COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
WITHOUT_LENGTH = {0x01, START_OF_IMAGE, END_OF_IMAGE}
METADATA = {*range(APP0, APP0 + 16), COMMENT} - {APP0, ADOBE}  # JFIF and Adobe define how colours are coded
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
SEQUENTIAL, PROGRESSIVE = {0xC0, 0xC1}, {0xC2, 0xC6, 0xCA, 0xCE}
EXIF, XMP, ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
# No Huffman table has these codes: a decoder can look ahead into them without finding another block.
PADDING = b"\xff\0" * 8

PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
EXIF_TEXTS, XMP_TEXT = {b"Raw profile type exif", b"Raw profile type APP1"}, b"XML:com.adobe.xmp"
SRGB_GAMMA = range(45_000, 46_000)  # gAMA of an sRGB PNG
# Chromium shows video transfer functions in a PNG like a television, and in an AVIF like sRGB.
VIDEO_TRANSFERS, VIDEO_GAMMA = {1, 6, 11, 14, 15}, 2.4

ORIENTATION, NUMBERS = 0x0112, {3: "H", 4: "I"}  # the types SHORT and LONG of EXIF
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")


@dataclass(frozen=True)
class Bare:
    """A photo without its metadata, plus the EXIF and colour data needed to show it."""

    data: bytes | memoryview
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""
    properties: Properties = field(default_factory=Properties)


def format_of(data: bytes | memoryview) -> str:
    """Return the format of a file by its first bytes, as Pillow names it.

    Raises:
        UnreadablePhoto: the first bytes are not those of an accepted format.
    """
    start = bytes(data[:4096])
    for name, beginning in BEGINNINGS.items():
        if re.match(beginning, start, re.DOTALL):
            return name
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, name in MISTAKEN.items():
        if re.match(beginning, text, re.DOTALL | re.IGNORECASE):
            raise UnreadablePhoto(f"not a JPEG, PNG, WebP, HEIC or AVIF photo, but {name}")
    raise UnreadablePhoto("not a JPEG, PNG, WebP, HEIC or AVIF photo" if start else "the object is empty")


def bare(data: memoryview, format: str) -> Bare:
    """Return the parts of a photo that its decoder may see; the whole file for WebP, HEIC and AVIF.

    Raises:
        UnreadablePhoto: the header lists more than any photo has, or the picture behind it is missing or cut off.
    """
    if format == "JPEG":
        return _bare_jpeg(data)
    if format == "PNG":
        return _bare_png(data)
    if format == "WEBP":
        if int.from_bytes(data[4:8], "little") <= len(data) - 8:
            return Bare(data)
        # A size that is too large does no harm: the decoder notices if the picture is cut off.
        return Bare(b"RIFF" + struct.pack("<I", len(data) - 8 & ~1) + data[8:])
    return Bare(data, properties=read_properties(data))


def orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation, 1 to 8, from the first EXIF directory, else from XMP, else 1."""
    found = XMP_ORIENTATION.search(xmp)
    return _exif_orientation(exif) or (int(found[1]) if found else 1)


def _exif_orientation(exif: bytes) -> int | None:
    tiff = exif.removeprefix(EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for position in range(start + 2, start + 2 + 12 * min(count, MOST_EXIF_ENTRIES), 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, position)
            if tag == ORIENTATION and kind in NUMBERS:
                return int(struct.unpack_from(f"{order}{NUMBERS[kind]}", tiff, position + 8)[0])
    except struct.error:
        pass
    return None


def _bare_jpeg(data: memoryview) -> Bare:
    kept: list[bytes | memoryview] = [data[:2]]
    exif, xmp, profile = EXIF, b"", list[tuple[int, memoryview]]()
    frame, components = 0, 0
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == START_OF_SCAN:
            kept += _scans(data[start:], frame, components)
            return Bare(b"".join(kept), exif, xmp, _joined(profile))
        if marker in FRAMES:
            frame, components = marker, body[5] if body[5:] else 0
        if marker not in METADATA | WITHOUT_LENGTH:
            kept.append(data[start:end])
        elif marker == APP1 and body[: len(EXIF)] == EXIF:
            exif += body[len(EXIF) :]  # long EXIF continues in the next segment
        elif marker == APP1 and body[: len(XMP)] == XMP:
            xmp = bytes(body)
        elif marker == APP2 and body[: len(ICC)] == ICC and body[13:]:
            profile.append((body[12], body[14:]))
    raise UnreadablePhoto("the JPEG ends before its picture")


def _segments(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield each marker of a JPEG with the start and end of its segment; scan data lie between two segments."""
    position = 0
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(data, position)
        if found is None:
            return
        marker, position = data[found.end() - 1], found.end()
        if marker not in WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2])
        yield marker, found.start(), position
    raise UnreadablePhoto(f"the JPEG has more than {MOST_SEGMENTS:,} segments")


def _joined(profile: list[tuple[int, memoryview]]) -> bytes:
    """Return the parts of a colour profile, joined in order, or nothing if they are too large."""
    parts = [part for _, part in sorted(profile, key=lambda numbered: numbered[0])]
    return b"".join(parts) if sum(map(len, parts)) <= MOST_PROFILE_BYTES else b""


def _scans(data: memoryview, frame: int, components: int) -> list[bytes | memoryview]:
    """Return a JPEG's data from its first scan to the end of its picture, with or without an end marker.

    The data of a single scan are returned without an end marker, so a decoder asks for more if a block is missing.
    Several scans get an end marker. The first scan of each component must be followed by other data; later scans only
    refine the picture, which is complete without them, though less sharp.

    Raises:
        UnreadablePhoto: the picture is cut off, or in more scans than an encoder writes.
    """
    scans, shown, is_whole, stop = 0, 0, False, len(data)
    for marker, start, end in _segments(data):
        if marker == START_OF_SCAN:
            scan = data[start + 4 : end]
            if frame in SEQUENTIAL and scan[:1] == bytes([components]):
                found = MARKER.search(data, end)
                return [data[: found.start() if found else stop], PADDING]
            scans += 1
            if scans > MOST_SCANS:
                raise UnreadablePhoto(f"the JPEG has more than {MOST_SCANS} scans")
            is_whole = shown >= components
            if len(scan) > 3 and (scan[-3], scan[-1] >> 4) == (0, 0):  # the lowest frequency, not yet refined
                shown += scan[0]
        elif marker in {END_OF_IMAGE, START_OF_IMAGE}:
            is_ended = marker == END_OF_IMAGE and frame not in PROGRESSIVE
            is_whole, stop = is_whole or (is_ended and shown >= components), start
            break
    if not is_whole:
        raise UnreadablePhoto("the JPEG photo is cut off")
    return [data[:stop], bytes([0xFF, END_OF_IMAGE])]


def _bare_png(data: memoryview) -> Bare:
    kept, found, position = [data[:8]], dict[bytes, bytes](), 8
    for _ in range(MOST_CHUNKS):
        name = bytes(data[position + 4 : position + 8])
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if name in PIXEL_CHUNKS:
            kept.append(data[position:end])
        elif name in {b"tEXt", b"zTXt", b"iTXt"}:
            keyword, _, text = bytes(data[position + 8 : end - 4]).partition(b"\0")
            found.setdefault(keyword, _unpacked(text[1:]) if name == b"zTXt" else text)
        else:
            found.setdefault(name, bytes(data[position + 8 : end - 4]))
        position = end
        if name in {b"", b"IEND"}:
            break
    else:
        raise UnreadablePhoto(f"the PNG has more than {MOST_CHUNKS:,} chunks")
    # cICP takes precedence over iCCP, and both over gAMA.
    _, _, profile = (b"" if b"cICP" in found else found.get(b"iCCP", b"")).partition(b"\0")
    exif = found.get(b"eXIf") or next((_from_hex(found[text]) for text in EXIF_TEXTS if text in found), b"")
    properties = Properties(_png_coding(found))
    return Bare(b"".join(kept), exif, found.get(XMP_TEXT, b""), _unpacked(profile[1:]), properties)


def _unpacked(packed: bytes) -> bytes:
    """Return the decompressed data, or nothing if they are damaged or too large."""
    decompress = zlib.decompressobj()
    try:
        data = decompress.decompress(packed, MOST_PROFILE_BYTES)
    except zlib.error:
        return b""
    return b"" if decompress.unconsumed_tail else data


def _from_hex(text: bytes) -> bytes:
    """Return EXIF that ImageMagick wrote as text: a line with its name, a line with its length, then hex digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode())
    except ValueError:
        return b""


def _png_coding(chunks: dict[bytes, bytes]) -> Coding | None:
    """Return the colour coding of a PNG, unless it has a colour profile or is in sRGB."""
    if b"cICP" in chunks and len(chunks[b"cICP"]) == 4:
        primaries, transfer, _, _ = chunks[b"cICP"]
        return Coding(primaries, transfer, VIDEO_GAMMA if transfer in VIDEO_TRANSFERS else None)
    gamma = int.from_bytes(chunks.get(b"gAMA", b""))
    if gamma == 0 or gamma in SRGB_GAMMA or b"sRGB" in chunks:
        return None
    return Coding(gamma=100_000 / gamma)
