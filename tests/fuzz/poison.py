"""Small or well-formed files that take a decoder minutes or gigabytes: one builder per family."""

import io
import math
import struct
import zlib
from collections.abc import Callable

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def box(kind: bytes, *bodies: bytes) -> bytes:
    """Return a box of a HEIC or AVIF."""
    return struct.pack(">I", 8 + sum(map(len, bodies))) + kind + b"".join(bodies)


def exif_array(size: int) -> bytes:
    """Return a PNG with an orientation and an array of `size` fractions."""
    entries = [(0x0112, 3, 1, 6), (0x9999, 5, size, 38)]
    directory = struct.pack("<H", 2) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return _png(chunk(b"eXIf", b"II*\0\x08\0\0\0" + directory + struct.pack("<II", 1, 3) * size))


def lying_avif(size: tuple[int, int]) -> bytes:
    """Return an AVIF of this size whose boxes declare 100 × 100 pixels."""
    data = bytearray(_encoded(size, "AVIF", quality=10, speed=10))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", 100, 100)
    return bytes(data)


def _encoded(size: tuple[int, int], format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(buffer, format, **options)
    return buffer.getvalue()


def _jpeg(segments: bytes) -> bytes:
    whole = _encoded((60, 40), "JPEG")
    return whole[:2] + segments + whole[2:]


def _png(chunks: bytes) -> bytes:
    whole = _encoded((60, 40), "PNG")
    return whole[:33] + chunks + whole[33:]


def _empty_scans(count: int) -> bytes:
    """Return a progressive JPEG with `count` scans without changes; each costs a pass over all blocks."""
    side = 2048
    blocks = (side // 8) ** 2
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    # One code for "no difference" in the first scan, one for "nothing in this block or the next 16,383".
    codes = segment(0xC4, b"\0\1" + bytes(16)) + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8)
    empty = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + bytes(2 * blocks // 16_384)
    return b"\xff\xd8" + tables + codes + first + empty * count + b"\xff\xd9"


def _grid(count: int) -> bytes:
    """Return a HEIC whose picture is a grid of `count` copies of a tile of one megapixel."""
    single = _encoded((1024, 1024), "HEIF", quality=10)
    start = single.index(b"hvcC") - 4
    (length,) = struct.unpack_from(">I", single, start)
    coded = single[single.index(b"mdat") + 4 :]
    columns = min(count, 256)
    rows = math.ceil(count / columns)
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, 1000, 1000)
    sizes = [box(b"ispe", bytes(4), struct.pack(">II", side, side)) for side in (1024, 1000)]
    association = struct.pack(">IIHBBBHBB", 0, 2, 1, 2, 0x81, 2, 2, 1, 3)
    items = [
        box(b"infe", struct.pack(">IHH4sB", 0x02000000, item, 0, kind, 0))
        for item, kind in ((1, b"hvc1"), (2, b"grid"))
    ]

    def meta(offset: int) -> bytes:
        places = struct.pack(">IBBH", 0, 0x44, 0, 2)
        places += struct.pack(">HHHII", 1, 0, 1, offset, len(coded))
        places += struct.pack(">HHHII", 2, 0, 1, offset + len(coded), len(grid))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 2)),
            box(b"iloc", places),
            box(b"iinf", struct.pack(">IH", 0, 2), *items),
            box(
                b"iref",
                bytes(4),
                box(b"dimg", struct.pack(f">HH{rows * columns}H", 2, rows * columns, *[1] * rows * columns)),
            ),
            box(b"iprp", box(b"ipco", single[start : start + length], *sizes), box(b"ipma", association)),
        )

    kind = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", coded, grid)


# Each builds a file with a number of parts: segments, scans, chunks, tiles, megapixels.
FAMILIES: dict[str, Callable[[int], bytes]] = {
    "JPEG of tiny EXIF segments": lambda count: _jpeg(segment(0xE1, b"Exif\0\0") * count),
    "JPEG of tables": lambda count: _jpeg(segment(0xDB, b"\0" + b"\1" * 64) * count),
    "JPEG of empty comments": lambda count: _jpeg(segment(0xFE, b"") * count),
    "JPEG of empty scans": _empty_scans,
    "PNG of empty chunks": lambda count: _png(chunk(b"teSt", b"") * count),
    "PNG of texts": lambda count: _png(b"".join(chunk(b"tEXt", b"%07d\0" % number) for number in range(count))),
    "PNG of empty data": lambda count: _png(chunk(b"IDAT", b"") * count),
    "HEIC of one large tile many times": _grid,
    "AVIF that lies": lambda count: lying_avif((1000, 1000 * count)),
}
