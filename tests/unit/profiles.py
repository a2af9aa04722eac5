"""Colour profiles (ICC), as cameras and phones put them into photos."""

import struct


def profile(*colours: tuple[float, float, float], gamma: float) -> bytes:
    """An ICC profile of a matrix and a gamma: the XYZ (D50) of full red, green and blue."""
    bodies = [
        *(b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in colour)) for colour in colours),
        b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0),
    ]
    starts = [128 + 4 + 12 * 6 + 20 * number for number in range(4)]
    names = zip((b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"), (0, 1, 2, 3, 3, 3), strict=True)
    table = b"".join(struct.pack(">4sII", name, starts[body], len(bodies[body])) for name, body in names)
    white = struct.pack(">3i", 63190, 65536, 54061)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x", 128 + 4 + len(table) + 76, 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    return (header + white).ljust(128, b"\0") + struct.pack(">I", 6) + table + b"".join(bodies)


ADOBE_COLOURS = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB_COLOURS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
ADOBE = profile(*ADOBE_COLOURS, gamma=2.19921875)
