"""Reads the properties of a HEIC or AVIF picture that its decoder ignores.

The file is a tree of boxes (ISO/IEC 14496-12). The box `meta` names the primary item. Its `iprp` lists the properties
(`ipco`) and assigns them to items (`ipma`): ISO/IEC 23008-12, 6.5 and 9.3.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .colour import Coding

MOST_BOXES = 1_000
# Tiles at the right and bottom edges extend beyond the picture.
OVERHANG = 1.25
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Properties:
    """The primary item's colours, the part of the coded picture to show, and the pixels of all tiles to decode."""

    coding: Coding | None = None
    aperture: bytes = b""
    tiled_pixels: int = 0

    def crop(self, width: int, height: int) -> Rectangle | None:
        """Return the clean aperture of a coded picture as left, top, right and bottom, if it is a valid one."""
        if len(self.aperture) < 32:
            return None
        w, w_unit, h, h_unit, x, x_unit, y, y_unit = struct.unpack_from(">IIIIiIiI", self.aperture)
        if not (w_unit and h_unit and x_unit and y_unit):
            return None
        left, top = (width - w / w_unit) / 2 + x / x_unit, (height - h / h_unit) / 2 + y / y_unit
        right, bottom = left + w / w_unit, top + h / h_unit
        is_inside = 0 <= left < right <= width and 0 <= top < bottom <= height
        is_whole = all(edge.is_integer() for edge in (left, top, right, bottom))
        return (int(left), int(top), int(right), int(bottom)) if is_inside and is_whole else None


def read_properties(data: memoryview) -> Properties:
    """Return the properties of the primary item; unreadable ones are left to the decoder."""
    coding, aperture, tiled_pixels = None, b"", 0
    try:
        meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
        properties = dict(_boxes(meta[b"iprp"]))
        listed = list(_boxes(properties[b"ipco"]))
        for index in _associated(properties[b"ipma"], _primary_item(meta[b"pitm"])):
            kind, body = listed[index - 1]
            if kind == b"colr" and bytes(body[:4]) == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                coding = Coding(primaries, transfer)
            elif kind == b"clap":
                aperture = bytes(body[:32])
        for tiles in _grids(meta.get(b"iref", memoryview(b""))):
            areas = {tile: _area(listed, _associated(properties[b"ipma"], tile)) for tile in set(tiles)}
            tiled_pixels = max(tiled_pixels, sum(areas[tile] for tile in tiles))
    except (KeyError, IndexError, struct.error):
        return Properties()
    return Properties(coding, aperture, tiled_pixels)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the type and the body of each box."""
    position = 0
    for _ in range(MOST_BOXES):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if size == 1:  # the size follows, in 64 bits
            (size,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        end = position + max(size, header) if size else len(data)
        yield kind, data[position + header : end]
        position = end


def _primary_item(pitm: memoryview) -> int:
    version = pitm[0]
    return int(struct.unpack_from(">I" if version else ">H", pitm, 4)[0])


def _grids(iref: memoryview) -> Iterator[tuple[int, ...]]:
    """Yield the items of each derived picture, such as the tiles of a grid."""
    if not iref:
        return
    item_format = "I" if iref[0] else "H"
    for kind, body in _boxes(iref[4:]):
        if kind == b"dimg":
            _, count = struct.unpack_from(f">{item_format}H", body)
            yield struct.unpack_from(f">{count}{item_format}", body, struct.calcsize(f">{item_format}H"))


def _area(listed: Sequence[tuple[bytes, memoryview]], numbers: Sequence[int]) -> int:
    """Return the pixels of an item with these properties, or 0 if its size is not among them."""
    for number in numbers:
        kind, body = listed[number - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", body, 4)
            return int(width * height)
    return 0


def _associated(ipma: memoryview, wanted: int) -> list[int]:
    """Return the numbers (from 1) of the properties of the item `wanted`."""
    version, has_wide_numbers = ipma[0], ipma[3] & 1
    item_format, number_format = ">I" if version else ">H", "H" if has_wide_numbers else "B"
    (entries,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(min(entries, MOST_BOXES)):
        (item,) = struct.unpack_from(item_format, ipma, position)
        position += struct.calcsize(item_format)
        count = ipma[position]
        numbers = struct.unpack_from(f">{count}{number_format}", ipma, position + 1)
        position += 1 + struct.calcsize(f">{count}{number_format}")
        if item == wanted:
            # The highest bit marks properties that a reader must understand.
            return [number & (0x7FFF if has_wide_numbers else 0x7F) for number in numbers]
    return []
