"""Decodes a photo from any phone to the picture that the model sees (square or whole), or to a preview."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from .boxes import OVERHANG
from .colour import in_srgb
from .errors import PhotoTooLarge, UnreadablePhoto
from .header import Bare, bare, format_of, orientation

# Display names of formats that Pillow calls something else.
NAMES = {"HEIF": "HEIC", "WEBP": "WebP"}
# The transposition that turns each EXIF orientation upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MOST_MAPPED = 1_000_000  # pixels that are tone-mapped one by one, in 0.1 s
# Qualities of a JPEG with a size limit. Noise of 640 × 640 pixels, the worst case, needs 20 for 145 KB.
QUALITIES = (90, 80, 70, 55, 40, 30, 20, 10)


@dataclass(frozen=True)
class PreparedPhoto:
    """An upright RGB picture made from a photo, with the photo's `format`, `width` and `height` (before rotation)."""

    image: Image.Image
    format: str
    width: int
    height: int

    def encode(self, format: str, **options: object) -> bytes:
        """Return the picture as a file without metadata."""
        buffer = BytesIO()
        self.image.save(buffer, format, **options)
        return buffer.getvalue()

    def encode_jpeg(self, most_bytes: int) -> bytes:
        """Return the picture as the best JPEG of `QUALITIES` with at most `most_bytes`, or else the smallest."""
        for quality in QUALITIES:
            data = self.encode("JPEG", quality=quality)
            if len(data) <= most_bytes:
                break
        return data


def central_square(data: bytes | memoryview, *, size: int, max_pixels: int) -> PreparedPhoto:
    """Turn a photo upright, crop its central square and reduce it to size × size pixels.

    Reads JPEG, PNG, WebP, HEIF/HEIC and AVIF; the first frame of an animation. Transparent pixels become white.
    Training prepares its photos with this function, and the model server matches it pixel by pixel.

    Raises:
        PhotoTooLarge: the header declares more than `max_pixels`; nothing was decoded.
        UnreadablePhoto: not an accepted format, damaged, or cut off. If a decoder gave up, its error is the cause.
        MemoryError: the photo needs more memory than this process may have.
    """

    def square(image: Image.Image) -> Image.Image:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        # Averaging whole blocks of pixels before the filter takes an eighth of the time, and differs from the filter
        # alone by at most two levels in 255.
        return image.resize(
            (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=4.0
        )

    return _decode(data, max_pixels, square, draft=4 * size)


def upright(data: bytes | memoryview, *, longest_side: int, max_pixels: int) -> PreparedPhoto:
    """Turn a photo upright and reduce it until no side has more than `longest_side` pixels.

    Reads and raises as `central_square`; a smaller photo keeps its size.
    """

    def whole(image: Image.Image) -> Image.Image:
        share = min(1, longest_side / max(image.size))
        size = (max(1, round(share * image.width)), max(1, round(share * image.height)))
        return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)

    return _decode(data, max_pixels, whole, draft=2 * longest_side)


def _decode(
    data: bytes | memoryview, max_pixels: int, reduce: Callable[[Image.Image], Image.Image], draft: int
) -> PreparedPhoto:
    """Decode a photo, with at least `draft` pixels per side, and reduce it."""
    format = format_of(data)
    name = NAMES.get(format, format)
    file = bare(memoryview(data), format)
    with warnings.catch_warnings():
        # Pillow warns about odd metadata and a fixed pixel limit; max_pixels is tighter.
        warnings.simplefilter("ignore")
        try:
            image = _open(file.data, format)
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:
            raise PhotoTooLarge(f"the photo is larger than {max_pixels / 1e6:.0f} megapixels") from error
        except Exception as error:  # decoders raise anything from SyntaxError to struct.error
            raise UnreadablePhoto(f"the {name} photo is damaged or of an unsupported kind") from error
        width, height = image.size
        if width * height > max_pixels:
            raise PhotoTooLarge(f"the photo has {width} × {height} pixels, more than {max_pixels / 1e6:.0f} megapixels")
        if (tiled := file.properties.tiled_pixels) > OVERHANG * max_pixels:
            raise PhotoTooLarge(f"the photo's tiles have {tiled / 1e6:,.0f} megapixels")
        # libheif has already cropped a HEIC.
        aperture = file.properties.crop(width, height) if format == "AVIF" else None
        left, top, right, bottom = aperture or (0, 0, width, height)
        try:
            # A JPEG decoder can scale by 1/2, 1/4 or 1/8 while decoding, in a tenth of the time of a full decode.
            image.draft("RGB", (draft, draft))
            pixels = _eight_bit(image)
            picture = _shown(pixels.crop(aperture) if aperture else pixels, image, file, reduce)
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise UnreadablePhoto(f"the {name} photo is damaged ({_line(error)})") from error
    return PreparedPhoto(picture, format, right - left, bottom - top)


def _shown(
    pixels: Image.Image, image: Image.Image, file: Bare, reduce: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Return decoded pixels reduced, upright, on white and in sRGB."""
    profile = file.profile or image.info.get("icc_profile") or b""
    coding = None if profile else file.properties.coding
    if coding and coding.is_hdr:
        # Tone mapping and averaging do not commute, so map before reducing.
        factor = math.ceil(math.sqrt(pixels.width * pixels.height / MOST_MAPPED))
        pixels, coding = in_srgb(_rgb(pixels.reduce(factor)), b"", coding), None
    reduced = _over_white(reduce(pixels))
    # Turning the reduced picture touches far fewer pixels than turning the photo.
    turn = TURNS.get(orientation(file.exif or image.info.get("exif") or b"", file.xmp or image.info.get("xmp") or b""))
    picture = in_srgb(reduced if turn is None else reduced.transpose(turn), profile, coding)
    picture.info = {}  # a colour profile can exceed the size limit of a workflow state
    return picture


class _Jpeg(JpegImageFile):
    """A JPEG of a single scan without an end marker: its last row shows whether every block is there."""

    _last_row: bytes | None = None

    def load_read(self, read_bytes: int) -> bytes:
        """Return the data, then the end marker once the decoder has output all complete rows."""
        data = super().load_read(read_bytes)
        if data or self._last_row is not None:
            return data
        self._last_row = self._row()
        return b"\xff\xd9"

    def load_end(self) -> None:
        """Raise if the decoder filled in rows because of the end marker."""
        if self._last_row not in {None, self._row()}:
            raise OSError("cut off")

    def _row(self) -> bytes:
        width, height = self.size
        return self._new(self.im.crop((0, height - 1, width, height))).tobytes()


def _open(data: bytes | memoryview, format: str) -> ImageFile.ImageFile:
    image: ImageFile.ImageFile
    if format == "JPEG":
        image = _Jpeg(BytesIO(data))
    else:
        if format == "HEIF":
            # Most photos are JPEGs, which need not wait for the HEIF codec to load.
            from pillow_heif import register_heif_opener  # noqa: PLC0415

            register_heif_opener()
        image = Image.open(BytesIO(data), formats=[format])
    # In one read: pieces of 64 KB would take a tenth of a millisecond per megabyte.
    image.decodermaxblock = len(data)
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel, and transparency only in the alpha channel."""
    rawmode = image.tile[0][3] if isinstance(image, PngImageFile) else ""
    image.load()
    transparent = image.info.get("transparency")
    if image.mode == "I;16":
        return _eight_bit_grey(image, transparent)
    if transparent is None:
        return image.convert("RGBA") if image.mode in {"P", "1"} else image
    # A PNG names its transparent colour in its original depth; Pillow converts only the pixels to 8 bits.
    if rawmode == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in transparent)
    elif rawmode in {"L;2", "L;4"}:
        image.info["transparency"] = transparent * {"L;2": 85, "L;4": 17}[rawmode]
    return image.convert("RGBA")


def _eight_bit_grey(image: Image.Image, transparent: int | None) -> Image.Image:
    """Return the high bytes of 16-bit greyscale; pixels that equal the colour in both bytes are transparent."""
    data = image.tobytes()
    high = Image.frombytes("L", image.size, data, "raw", "L;16")
    if transparent is None:
        return high
    low = Image.frombytes("L", image.size, data, "raw", "L;16B")
    opaque = ImageChops.lighter(
        high.point(lambda value: 255 * (value != transparent >> 8)),
        low.point(lambda value: 255 * (value != transparent & 255)),
    )
    return Image.merge("LA", (high, opaque))


def _rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGBA" if "A" in image.getbands() else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    layer = _rgb(image)
    if layer.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return layer


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
