"""Reads the properties of a HEIC or AVIF picture that its decoder ignores.

The file is a tree of boxes (ISO/IEC 14496-12). The box `meta` names the primary item. Its `iprp` lists the properties
(`ipco`) and assigns them to items (`ipma`): ISO/IEC 23008-12, 6.5 and 9.3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .colour import Coding

MOST_BOXES = 1_000
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Properties:
    """The primary item's colours, and the part of the coded picture to show."""

    coding: Coding | None = None
    aperture: bytes = b""

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
    coding, aperture = None, b""
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
    except (KeyError, IndexError, struct.error):
        return Properties()
    return Properties(coding, aperture)


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
