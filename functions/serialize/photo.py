"""Reduces a driver's photo, as it came from any phone, to the small square that the model sees."""

import warnings
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")
BOXED_FORMATS = ("HEIF", "AVIF")  # pictures in an ISO base media file, which begins with an `ftyp` box


class PhotoTooLarge(Exception):
    """The photo has more bytes or more pixels than this stack accepts. Never retried."""


class UnreadablePhoto(Exception):
    """The object is no picture in an accepted format, or a damaged one. Never retried."""


@dataclass(frozen=True)
class ReducedPhoto:
    """What the model gets, and what the original was.

    `png` is an upright RGB PNG of size × size pixels; `format`, `width` and `height` (pixels, before
    any rotation) describe the original.
    """

    png: bytes
    format: str
    width: int
    height: int


def reduce_photo(data: bytes, *, size: int, max_pixels: int) -> ReducedPhoto:
    """Turn the bytes of a photo upright, crop its central square and reduce it to size × size pixels.

    Reads JPEG, PNG, WebP, HEIF/HEIC and AVIF; of an animation, the first frame.

    Raises:
        PhotoTooLarge: the header promises more than `max_pixels`; nothing was decoded.
        UnreadablePhoto: not an accepted format, damaged, or cut off.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, and above a pixel limit of its own; max_pixels is tighter.
        warnings.simplefilter("ignore")
        try:
            image = _open(data)
        except Image.DecompressionBombError as error:
            raise PhotoTooLarge(f"the photo is larger than {max_pixels / 1e6:.0f} megapixels") from error
        except UnidentifiedImageError as error:
            raise UnreadablePhoto("not a JPEG, PNG, WebP, HEIC or AVIF photo, or cut off") from error
        except Exception as error:  # decoders raise whatever they trip over, from SyntaxError to struct.error
            raise UnreadablePhoto(f"the photo's header is damaged ({_line(error)})") from error
        with image:
            width, height = image.size
            if width * height > max_pixels:
                raise PhotoTooLarge(
                    f"the photo has {width} × {height} pixels, more than {max_pixels / 1e6:.0f} megapixels"
                )
            # MPO is a JPEG with further pictures behind the first, as many phones write it.
            original_format = "JPEG" if image.format == "MPO" else str(image.format)
            try:
                png = _encode(_upright_square(image, size))
            except Exception as error:  # as above
                raise UnreadablePhoto(f"the {original_format} photo is damaged ({_line(error)})") from error
    return ReducedPhoto(png, original_format, width, height)


def _open(data: bytes) -> Image.Image:
    if data[4:8] != b"ftyp":
        return Image.open(BytesIO(data), formats=PLAIN_FORMATS)
    # Most photos are JPEGs, which need not wait for the HEIF codecs to load.
    from pillow_heif import register_heif_opener  # noqa: PLC0415

    register_heif_opener()
    return Image.open(BytesIO(data), formats=BOXED_FORMATS)


def _upright_square(image: Image.Image, size: int) -> Image.Image:
    # A JPEG decoder can scale by 1/2, 1/4 or 1/8 while it decodes: a tenth of the time of a full decode.
    image.draft("RGB", (4 * size, 4 * size))
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    square = _central_square(_eight_bit(image), size)
    # Turning the central square is the same as turning the photo, and touches far fewer pixels.
    square.getexif()[ExifTags.Base.Orientation] = orientation
    return _opaque(ImageOps.exif_transpose(square))


def _central_square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # Whole blocks of pixels are averaged before the filter takes over: an eighth of its time, and two levels in 255
    # from its result at most.
    return image.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=4.0
    )


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image in a mode of 8 bits per channel that can be resampled."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale
        return image.convert("F").point(lambda value: value / 256).convert("L")
    if image.mode in {"P", "PA", "1"}:
        return image.convert("RGBA")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """Lay what is transparent over white."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _encode(image: Image.Image) -> bytes:
    # Pixels only: a colour profile would be written along, and can be larger than a state of the workflow may be.
    image.info = {}
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
