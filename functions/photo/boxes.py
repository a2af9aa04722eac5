"""What the boxes of a HEIC or AVIF file (ISO/IEC 14496-12 and 23008-12) ask of a decoder: tiles, and coded pixels."""

import struct
from collections.abc import Iterator

from .errors import PhotoTooLarge, UnreadablePhoto

MOST_BOXES, MOST_TILES = 10_000, 1_000
# The tiles at the right and the bottom of a picture reach over its edge.
OVERHANG = 1.25
SEQUENCE_HEADER = 1
TEMPORAL_DELIMITER = b"\x12\0"  # may stand before it


def check_boxes(data: memoryview, max_pixels: int) -> None:
    """Raise where the tiles of a picture, or what an AVIF's own bitstream says, come to more than a photo may have.

    A box that is not understood is left to the decoder, which has bounds of its own.

    Raises:
        PhotoTooLarge: more coded pixels than `max_pixels`.
        UnreadablePhoto: more boxes or tiles than any photo has.
    """
    try:
        meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
        properties = dict(_boxes(meta[b"iprp"]))
        areas = _areas(properties[b"ipco"], properties[b"ipma"])
        grids = list(_references(meta[b"iref"])) if b"iref" in meta else []
        avif = b"avif" in bytes(data[8:64])
        coded = [_coded_pixels(start) for start in _beginnings(meta[b"iloc"], data)] if avif else []
    except (KeyError, IndexError, struct.error):
        return
    for tiles in grids:
        if len(tiles) > MOST_TILES:
            raise UnreadablePhoto(f"the photo has more than {MOST_TILES:,} tiles")
        if (area := sum(areas.get(tile, 0) for tile in tiles)) > OVERHANG * max_pixels:
            raise PhotoTooLarge(f"the photo's tiles have {area / 1e6:,.0f} megapixels")
    if (area := max(coded, default=0)) > OVERHANG * max_pixels:
        raise PhotoTooLarge(f"the photo's coded picture has {area / 1e6:,.0f} megapixels")


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the type and the body of each box."""
    position = 0
    for _ in range(MOST_BOXES):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        end = position + size if size else len(data)
        yield kind, data[position + header : end]
        position = max(end, position + header)
    raise UnreadablePhoto(f"the photo's header has more than {MOST_BOXES:,} boxes")


def _areas(ipco: memoryview, ipma: memoryview) -> dict[int, int]:
    """Return the pixels of each item, from the size that is among its properties."""
    sizes = {
        number: struct.unpack_from(">II", body, 4)
        for number, (kind, body) in enumerate(_boxes(ipco), start=1)
        if kind == b"ispe"
    }
    wide_items, wide_properties = ipma[0] > 0, ipma[3] & 1
    areas: dict[int, int] = {}
    position = 8
    for _ in range(min(MOST_BOXES, struct.unpack_from(">I", ipma, 4)[0])):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", ipma, position)
        position += 4 if wide_items else 2
        count, position = ipma[position], position + 1
        numbers = struct.unpack_from(f">{count}{'H' if wide_properties else 'B'}", ipma, position)
        position += count * (2 if wide_properties else 1)
        for number in numbers:
            # The highest bit says whether a reader must understand the property.
            width, height = sizes.get(number & (0x7FFF if wide_properties else 0x7F), (0, 0))
            areas[item] = max(areas.get(item, 0), width * height)
    return areas


def _references(iref: memoryview) -> Iterator[tuple[int, ...]]:
    """Yield the items that each derived item (a grid, an overlay) is made of."""
    size = "I" if iref[0] == 1 else "H"
    for kind, body in _boxes(iref[4:]):
        if kind == b"dimg":
            _, count = struct.unpack_from(f">{size}H", body)
            yield struct.unpack_from(f">{count}{size}", body, struct.calcsize(f">{size}H"))


def _beginnings(iloc: memoryview, data: memoryview) -> Iterator[bytes]:
    """Yield the first bytes of each item that lies in the file."""
    version, sizes = iloc[0], (iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if iloc[0] else 0)
    position = 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        if position > len(iloc):
            raise IndexError
        return int.from_bytes(iloc[position - size : position])

    offset_size, length_size, base_size, index_size = sizes
    for _ in range(min(MOST_BOXES, number(4 if version == 2 else 2))):
        number(4 if version == 2 else 2)
        in_file = not number(2) & 15 if version else True
        number(2)
        base, extents = number(base_size), number(2)
        start = base + int.from_bytes(iloc[position + index_size : position + index_size + offset_size])
        position += extents * (index_size + offset_size + length_size)
        if in_file and extents:
            yield bytes(data[start : start + 64])


def _coded_pixels(item: bytes) -> int:
    """Return the pixels of the largest frame that an AV1 sequence header allows (AV1 specification, 5.3 and 5.5.1)."""
    start = 2 if item.startswith(TEMPORAL_DELIMITER) else 0
    header = item[start]
    if header >> 3 & 15 != SEQUENCE_HEADER:
        return 0
    start += 1 + (header >> 2 & 1)
    if header >> 1 & 1:  # the header's own length, in groups of seven bits
        while item[start] & 0x80:
            start += 1
        start += 1
    bits = int.from_bytes(item[start : start + 32].ljust(32, b"\0"))
    left = 256

    def read(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & (1 << count) - 1

    read(4)  # profile, still picture
    if read(1):  # a reduced header: level
        read(5)
    else:
        if read(1):  # times, which no picture has
            return 0
        has_delay = read(1)
        for _ in range(read(5) + 1):
            read(12)
            if read(5) > 7:
                read(1)
            if has_delay and read(1):
                read(4)
    width_bits, height_bits = read(4) + 1, read(4) + 1
    return (read(width_bits) + 1) * (read(height_bits) + 1)
