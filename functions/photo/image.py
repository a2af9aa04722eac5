"""Decodes a photo as it came from any phone: to the small square that the model sees, or to a preview for people."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from .errors import PhotoTooLarge, UnreadablePhoto
from .header import JPEG, bare, orientation

PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")
BOXED_FORMATS = ("HEIF", "AVIF")  # pictures in an ISO base media file, which begins with an `ftyp` box
# How a photo of each EXIF orientation is turned upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """An upright RGB picture made of a photo; `format`, `width` and `height` (before any rotation) are the photo's."""

    image: Image.Image
    format: str
    width: int
    height: int

    def encode(self, format: str, **options: Any) -> bytes:
        """Return the picture as a file of pixels alone."""
        buffer = BytesIO()
        self.image.save(buffer, format, **options)
        return buffer.getvalue()


def central_square(data: bytes | memoryview, *, size: int, max_pixels: int) -> Photo:
    """Turn a photo upright, crop its central square and reduce it to size × size pixels.

    Reads JPEG, PNG, WebP, HEIF/HEIC and AVIF; of an animation, the first frame. What is transparent becomes white.
    Training prepares its photos with this function, and the model's server agrees with it, pixel by pixel.

    Raises:
        PhotoTooLarge: the header promises more than `max_pixels`; nothing was decoded.
        UnreadablePhoto: not an accepted format, damaged, or cut off.
    """

    def reduce(image: Image.Image) -> Image.Image:
        # A JPEG decoder can scale by 1/2, 1/4 or 1/8 while it decodes: a tenth of the time of a full decode.
        image.draft("RGB", (4 * size, 4 * size))
        whole = _eight_bit(image)
        side = min(whole.size)
        left, top = (whole.width - side) / 2, (whole.height - side) / 2
        # Whole blocks of pixels are averaged before the filter takes over: an eighth of its time, and two levels in
        # 255 from its result at most.
        return whole.resize(
            (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=4.0
        )

    return _decode(data, max_pixels, reduce)


def upright(data: bytes | memoryview, *, longest_side: int, max_pixels: int) -> Photo:
    """Turn a photo upright and reduce it so that no side has more than `longest_side` pixels.

    Reads and raises as `central_square`; a smaller photo keeps its size.
    """

    def reduce(image: Image.Image) -> Image.Image:
        share = min(1, longest_side / max(image.size))
        size = (max(1, round(share * image.width)), max(1, round(share * image.height)))
        image.draft("RGB", size)
        return _eight_bit(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)

    return _decode(data, max_pixels, reduce)


def _decode(data: bytes | memoryview, max_pixels: int, reduce: Callable[[Image.Image], Image.Image]) -> Photo:
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, and above a pixel limit of its own; max_pixels is tighter.
        warnings.simplefilter("ignore")
        try:
            file = bare(memoryview(data), max_pixels)
            image = _open(file.data)
        except (PhotoTooLarge, UnreadablePhoto):
            raise
        except Image.DecompressionBombError as error:
            raise PhotoTooLarge(f"the photo is larger than {max_pixels / 1e6:.0f} megapixels") from error
        except UnidentifiedImageError as error:
            raise UnreadablePhoto("not a JPEG, PNG, WebP, HEIC or AVIF photo, or cut off") from error
        except Exception as error:  # decoders raise whatever they trip over, from SyntaxError to struct.error
            raise UnreadablePhoto(f"the photo's header is damaged ({_line(error)})") from error
        with image:
            # All at once: Pillow's pieces of 64 KB take a tenth of a millisecond for every megabyte.
            image.decodermaxblock = len(file.data)
            width, height = image.size
            if width * height > max_pixels:
                raise PhotoTooLarge(
                    f"the photo has {width} × {height} pixels, more than {max_pixels / 1e6:.0f} megapixels"
                )
            # MPO is a JPEG with further pictures behind the first, as many phones write it.
            original_format = "JPEG" if image.format == "MPO" else str(image.format)
            try:
                reduced = _over_white(reduce(image))
            except MemoryError as error:
                raise PhotoTooLarge("the photo takes more memory to decode than a photo may") from error
            except Exception as error:  # as above
                raise UnreadablePhoto(f"the {original_format} photo is damaged ({_line(error)})") from error
    # Turning the reduced picture is the same as turning the photo, and touches far fewer pixels.
    turn = TURNS.get(orientation(file.exif or image.info.get("exif") or b""))
    turned = reduced if turn is None else reduced.transpose(turn)
    picture = in_srgb(turned, file.profile or image.info.get("icc_profile") or b"")
    picture.info = {}  # a colour profile can be larger than a state of the workflow may be
    return Photo(picture, original_format, width, height)


def _open(data: bytes | memoryview) -> ImageFile.ImageFile:
    if data[4:8] != b"ftyp" or data[: len(JPEG)] == JPEG:
        return Image.open(BytesIO(data), formats=PLAIN_FORMATS)
    # Most photos are JPEGs, which need not wait for the HEIF codecs to load.
    from pillow_heif import register_heif_opener  # noqa: PLC0415

    register_heif_opener()
    return Image.open(BytesIO(data), formats=BOXED_FORMATS)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel, what is transparent in its alpha channel alone."""
    rawmode = image.tile[0][3] if isinstance(image, PngImageFile) else ""
    image.load()
    transparent = image.info.get("transparency")
    if image.mode == "I;16":
        return _eight_bit_grey(image, transparent)
    if transparent is None:
        return image.convert("RGBA") if image.mode in {"P", "1"} else image
    # A PNG names its transparent colour in its own depth; Pillow brings only the pixels to 8 bits.
    if rawmode == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in transparent)
    elif rawmode in {"L;2", "L;4"}:
        image.info["transparency"] = transparent * {"L;2": 85, "L;4": 17}[rawmode]
    return image.convert("RGBA")


def _eight_bit_grey(image: Image.Image, transparent: int | None) -> Image.Image:
    """Return the high bytes of 16-bit greyscale; pixels are transparent where both bytes are those of the colour."""
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


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands():
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture in sRGB, which the model was trained on; phones and cameras also write wider spaces."""
    if profile[16:20] != b"RGB ":
        return image
    try:
        return ImageCms.applyTransform(image, _to_srgb(profile)) or image
    except ImageCms.PyCMSError:  # a profile that is none: the colours are taken as they are
        return image


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes) -> ImageCms.ImageCmsTransform:
    # Takes 2 ms, and its use on a small square 0.02 ms; photos of one phone share one profile.
    return ImageCms.buildTransform(BytesIO(profile), ImageCms.createProfile("sRGB"), "RGB", "RGB")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
