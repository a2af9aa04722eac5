"""A family of photos with metadata and structure as varied as from cameras, phones and editors, in any order.

`members` yields small files of the same scene, with strong colours, in every accepted format.
"""

import io
import itertools
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pillow_heif
from PIL import Image

from tests.unit.profiles import ADOBE

from .poison import box, chunk, segment

pillow_heif.register_heif_opener()
SIZE = (96, 64)
JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


class Member(NamedTuple):
    """A photo, and a name that describes its structure."""

    name: str
    data: bytes


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a smooth scene whose corners and channels all differ."""
    width, height = size
    across = Image.linear_gradient("L").rotate(90).resize(size)
    down = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (across, down, Image.radial_gradient("L").resize(size)))
    image.paste((220, 30, 40), (width // 8, height // 8, width // 2, height // 2))
    return image


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    """Return the picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@cache
def encoded(format: str, mode: str = "RGB", **options: object) -> bytes:
    """Return the scene as a file."""
    return encode(scene().convert(mode), format, **options)


def exif(orientation: int, kind: int = 3, order: str = "<") -> bytes:
    """Return EXIF with the orientation of the photo, as a number of the type `kind`."""
    number = struct.pack(f"{order}{ {1: 'B3x', 3: 'H2x', 4: 'I'}[kind] }", orientation)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 2)
    make = struct.pack(f"{order}HHI", 0x010F, 2, 4) + b"abc\0"
    turned = struct.pack(f"{order}HHI", 0x0112, kind, 1) + number
    return b"Exif\0\0" + start + make + turned + bytes(4)


def xmp(orientation: int) -> bytes:
    """Return XMP with the orientation of the photo."""
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def adobe(transform: int) -> bytes:
    """Return a JPEG's Adobe segment: 0 says RGB or CMYK, 1 YCbCr, 2 YCCK."""
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def jpeg(segments: list[bytes], ids: bytes = b"", **options: object) -> bytes:
    """Return a JPEG with these segments in front of its tables and, if given, with these component ids."""
    data = bytearray(encoded("JPEG", quality=95, **options))
    while data[2:4] == b"\xff\xe0":
        del data[2 : 4 + int.from_bytes(data[4:6])]
    frame = next(place for marker in (b"\xff\xc0", b"\xff\xc2") if (place := data.find(marker)) > 0)
    for number, name in enumerate(ids):
        data[frame + 10 + 3 * number] = name
        for scan in (place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"):
            for component in range(data[scan + 4]):
                if data[scan + 5 + 2 * component] == number + 1:
                    data[scan + 5 + 2 * component] = name
    return bytes(data[:2] + b"".join(segments) + data[2:])


def png(chunks: list[bytes], mode: str = "RGB", **options: object) -> bytes:
    """Return a PNG with these chunks behind its header."""
    data = encoded("PNG", mode, **options)
    return data[:33] + b"".join(chunks) + data[33:]


def avif(properties: list[bytes], primaries: int = 1, transfer: int = 13, **options: object) -> bytes:
    """Return an AVIF whose picture has these additional properties and this colour coding."""
    data = _named(encoded("AVIF", quality=95, subsampling="4:4:4", **options), primaries, transfer)
    if not properties:
        return data
    added = b"".join(properties)
    sizes = {kind: data.index(kind) - 4 for kind in (b"meta", b"iprp", b"ipco", b"ipma", b"iloc")}
    length = {kind: int.from_bytes(data[start : start + 4]) for kind, start in sizes.items()}
    ipco_end = sizes[b"ipco"] + length[b"ipco"]
    existing, position = 0, sizes[b"ipco"] + 8
    while position < ipco_end:
        existing, position = existing + 1, position + int.from_bytes(data[position : position + 4])
    ipma = sizes[b"ipma"]
    count = data[ipma + 18]
    names = bytes(0x80 | existing + 1 + number for number in range(len(properties)))
    grown = len(added) + len(names)
    parts = bytearray(
        data[:ipco_end] + added + data[ipco_end : ipma + 18] + bytes([count + len(names)])
        + data[ipma + 19 : ipma + 19 + count] + names + data[ipma + 19 + count :]
    )  # fmt: skip
    for kind, more in ((b"meta", grown), (b"iprp", grown), (b"ipco", len(added)), (b"ipma", len(names))):
        start = sizes[kind] + (len(added) if kind == b"ipma" else 0)
        parts[start : start + 4] = struct.pack(">I", length[kind] + more)
    moved = data.index(b"mdat") + 4
    for place in range(sizes[b"iloc"], sizes[b"iloc"] + length[b"iloc"] - 3):
        if data[place : place + 4] == struct.pack(">I", moved):
            parts[place : place + 4] = struct.pack(">I", moved + grown)
    return bytes(parts)


def heic(primaries: int, transfer: int) -> bytes:
    """Return a HEIC with this colour coding."""
    return _named(encoded("HEIF", quality=95, chroma=444), primaries, transfer)


def _named(data: bytes, primaries: int, transfer: int) -> bytes:
    colours = data.index(b"nclx") + 4
    return data[:colours] + struct.pack(">HH", primaries, transfer) + data[colours + 4 :]


def clap(width: int, height: int, x: int = 0, y: int = 0) -> bytes:
    """Return a clean aperture: a size, and the offset of its centre from that of the picture."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, x, 1, y, 1))


def icc_parts(profile: bytes, count: int) -> list[bytes]:
    """Return the JPEG segments of a colour profile in a number of parts."""
    step = -(-len(profile) // count)
    parts = [profile[start : start + step] for start in range(0, len(profile), step)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
        for number, part in enumerate(parts, start=1)
    ]


JPEG_SEGMENTS = {
    "JFIF": JFIF,
    "Adobe 0": adobe(0),
    "Adobe 1": adobe(1),
    "EXIF": segment(0xE1, exif(1)),
    "turned EXIF": segment(0xE1, exif(6)),
    "turned EXIF, LONG": segment(0xE1, exif(8, 4, ">")),
    "empty EXIF": segment(0xE1, b"Exif\0\0"),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(1)),
    "comment": segment(0xFE, b"a driver \xff\xd9\xff\xda"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"\xff\xda\0\1" * 9),
    "thumbnail": segment(0xE0, b"JFXX\0\x10" + encode(Image.new("RGB", (8, 8)), "JPEG")),
    "MPF": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
}
PNG_CHUNKS = {
    "EXIF": chunk(b"eXIf", exif(6)[6:]),
    "text": chunk(b"tEXt", b"Comment\0a driver"),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a driver")),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(1)),
    "time": chunk(b"tIME", struct.pack(">HBBBBB", 2026, 11, 28, 1, 2, 3)),
    "dots": chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
    "sRGB": chunk(b"sRGB", b"\0"),
    "sRGB's gamma": chunk(b"gAMA", struct.pack(">I", 45455)),
    "unknown": chunk(b"prVt", b"\xff" * 40),
}


def unchanged() -> Iterator[Member]:
    """Yield photos whose metadata contain only the colour model of a JPEG."""
    for count in range(4):
        for names in itertools.permutations(JPEG_SEGMENTS, count):
            yield Member(f"JPEG, {', '.join(names)}", jpeg([JPEG_SEGMENTS[name] for name in names]))
    for names, ids, progressive in itertools.product(
        [(), ("JFIF",), ("Adobe 0",), ("Adobe 1",), ("JFIF", "Adobe 0"), ("Adobe 0", "JFIF"), ("Adobe 1", "Adobe 0")],
        [b"RGB", b"\0\1\2", b"rgb", b"\1\x22\3"],
        [False, True],
    ):
        name = f"JPEG, {', '.join(names)}, components {ids!r}{', progressive' * progressive}"
        yield Member(name, jpeg([JPEG_SEGMENTS[each] for each in names], ids, progressive=progressive))
    for options in ({"subsampling": 0}, {"subsampling": 1}, {"restart_marker_rows": 1}, {"progressive": True}):
        yield Member(f"JPEG, {options}", jpeg([JFIF], **options))
    for segments in ([], [adobe(0)], [adobe(2)], [JFIF, adobe(0)], [adobe(0), JFIF]):
        data = encoded("JPEG", "CMYK", quality=95)
        start = 2
        while data[start] == 0xFF and data[start + 1] in {0xE0, 0xEE}:
            start += 2 + int.from_bytes(data[start + 2 : start + 4])
        yield Member(f"JPEG, CMYK, {len(segments)} {segments[-1:]!r}", data[:2] + b"".join(segments) + data[start:])
    for count in range(3):
        for names in itertools.permutations(PNG_CHUNKS, count):
            for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
                yield Member(f"PNG, {mode}, {', '.join(names)}", png([PNG_CHUNKS[name] for name in names], mode))
    for orientation in range(1, 9):
        turned = encoded("WEBP", exif=exif(orientation), xmp=xmp(3), quality=95)
        yield Member(f"WebP, orientation {orientation}", turned)
        yield Member(f"AVIF, orientation {orientation}", avif([], exif=exif(orientation)))
        yield Member(f"HEIC, orientation {orientation}", encoded("HEIF", quality=95, exif=exif(orientation)))


def coloured() -> Iterator[Member]:
    """Yield photos whose metadata give the colours of the pixels, or the part to show."""
    parts = icc_parts(ADOBE, 3)
    for order in itertools.permutations(range(3)):
        yield Member(f"JPEG, profile in parts {order}", jpeg([JFIF, *(parts[each] for each in order)]))
    profile = chunk(b"iCCP", b"Adobe\0\0" + zlib.compress(ADOBE))
    gammas = {f"gamma {value}": chunk(b"gAMA", struct.pack(">I", value)) for value in (20_000, 38_462, 55_556, 100_000)}
    codings = {
        f"cICP {primaries}/{transfer}": chunk(b"cICP", bytes([primaries, transfer, 0, 1]))
        for primaries in (1, 9, 12)
        for transfer in (1, 4, 5, 6, 8, 13, 14, 16, 18)
    }
    chunks = {"profile": profile, "sRGB": PNG_CHUNKS["sRGB"]} | gammas | codings
    for name, each in chunks.items():
        for mode in ("L", "RGB", "RGBA"):
            if not (name == "profile" and mode == "L"):
                yield Member(f"PNG, {mode}, {name}", png([each], mode))
    for first, second in itertools.permutations(["profile", "sRGB", "gamma 55556", "cICP 9/16", "cICP 12/13"], 2):
        yield Member(f"PNG, {first}, {second}", png([chunks[first], chunks[second]]))
    for primaries, transfer in itertools.product((1, 2, 9, 12), (1, 2, 4, 5, 6, 8, 13, 14, 16, 18)):
        yield Member(f"AVIF, nclx {primaries}/{transfer}", avif([], primaries, transfer))
    yield Member("AVIF, profile", encoded("AVIF", quality=95, icc_profile=ADOBE))
    yield Member("WebP, profile", encoded("WEBP", quality=95, icc_profile=ADOBE))
    for aperture in ((40, 30), (40, 30, 10, -8), (96, 64), (200, 30), (40, 30, 60, 0)):
        yield Member(f"AVIF, aperture {aperture}", avif([clap(*aperture)]))
        yield Member(f"AVIF, turned, aperture {aperture}", avif([clap(*aperture), box(b"irot", b"\1")]))


def broken_off() -> Iterator[tuple[Member, bool]]:
    """Yield JPEGs with a missing or wrong end, and whether each has the complete picture."""
    end, trailer, next_file = b"\xff\xd9", b"SEFH" + bytes(40) + b"SEFT", b"\xff\xd8\xff\xe1"
    ends = {"no end": b"", "end": end, "zeros": b"\0\0", "trailer": trailer, "next": next_file}
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}):
        whole = jpeg([JFIF], **options)
        scan = whole.index(b"\xff\xda")
        for name, end in ends.items():
            yield Member(f"JPEG, {options}, whole, {name}", whole[:-2] + end), True
            cut = scan + (len(whole) - scan) // (20 if "progressive" in options else 2)
            yield Member(f"JPEG, {options}, cut, {name}", whole[:cut] + end), False


def sample(members: Iterator[Member], count: int, seed: int = 0) -> list[Member]:
    """Return a number of members, or all if there are fewer."""
    listed = list(members)
    return random.Random(seed).sample(listed, min(count, len(listed)))
