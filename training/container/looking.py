"""Find the vehicle, then look: the steps from one photo's bytes to its probabilities.

A detector finds the places that may show a vehicle, the most prominent one is cut out, and a classifier looks at that
square. A few numbers, set on validation photos, weigh the answers of both. numpy, Pillow and onnxruntime do all of it;
training cuts its squares with the same functions.
"""

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngImageFile

# More pixels than any phone's photo has; a photo that comes through the pipeline has 416 × 416 at most.
MAX_PIXELS = 50_000_000
# A larger photo is reduced to this side before the search, as the pipeline reduces it.
PHOTO_SIDE = 416
# The detector was made for photos of this size, and smaller ones are enlarged to it.
DETECTOR_SIDE = 416
# Smaller pictures are not searched: they are already crops, and a detector would see only a blur.
SEARCHED_SIDE = 128
# The squares beyond the edges of a photo are grey.
GREY = 114
STRIDES = (8, 16, 32)
# A box with a lower score is ignored. If no box is left, the classifier looks at the whole photo, and UNFOUND_SCORE
# counts as the detector's score of each class.
LEAST_SCORE = 0.05
UNFOUND_SCORE = 0.01
# Scores count as at least this much when both networks' answers are combined; chosen by cross-validation on validation.
SCORE_FLOOR = 0.4
# Two boxes that overlap this much show the same vehicle.
SAME_VEHICLE = 0.5
# A square around a vehicle is this much wider than its box.
MARGIN = 1.3
# Vehicles are counted from this score; one of another kind is a rival if it has this share of the first one's area.
COUNTED_SCORE = 0.3
RIVAL_AREA = 0.4
# A vehicle whose longer side is a smaller share of the photo's is too small to be sure of.
SMALL_SHARE = 0.06
# An unsure photo with at least this probability of "no vehicle" gets the reason code NO_VEHICLE.
NO_VEHICLE_SHARE = 0.5

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
# A detector's scores 0 … 1, one for each class.
Scores = tuple[float, ...]


class BadImage(Exception):
    """The body is not an image that this endpoint reads; the message says why, in one line."""


def read_photo(body: bytes, formats: tuple[str, ...], side: int = PHOTO_SIDE) -> Pixels:
    """Decode one image to RGB uint8 [H, W, 3]: upright, over white, no side longer than `side`.

    The result is the same, pixel by pixel, as when the pipeline reduces a photo; a test compares them.

    Raises:
        BadImage: the body is empty, damaged, of another format, or too large.
    """
    if not body:
        raise BadImage("the body is empty; send the bytes of one image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(body), formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS}")
                return np.asarray(_upright(image, side))
        except BadImage:
            raise
        except Exception as error:  # decoders raise all kinds of errors, from SyntaxError to struct.error
            raise BadImage(f"the body is not a readable {' or '.join(formats)} image") from error


def _upright(image: Image.Image, side: int) -> Image.Image:
    share = min(1, side / max(image.size))
    size = (max(1, round(share * image.width)), max(1, round(share * image.height)))
    # A JPEG decoder scales by 1/2, 1/4 or 1/8 while it decodes.
    image.draft("RGB", (2 * side, 2 * side))
    reduced = _eight_bit(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    if "A" in reduced.getbands():
        layer = reduced.convert("RGBA")
        reduced = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    reduced = reduced.convert("RGB")
    reduced.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return _in_srgb(ImageOps.exif_transpose(reduced), image.info.get("icc_profile") or b"")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel; a PNG's transparent colour, in the PNG's own depth, becomes alpha."""
    rawmode = image.tile[0][3] if isinstance(image, PngImageFile) else ""
    image.load()
    transparent = image.info.get("transparency")
    if image.mode == "I;16":
        grey = np.asarray(image)
        high = Image.fromarray((grey >> 8).astype(np.uint8))
        if transparent is None:
            return high
        return Image.merge("LA", (high, Image.fromarray(255 * (grey != transparent).astype(np.uint8))))
    if transparent is None:
        return image.convert("RGBA") if image.mode in {"P", "1"} else image
    if rawmode in {"L;2", "L;4"}:
        image.info["transparency"] = transparent * 255 // (2 ** int(rawmode[-1]) - 1)
    elif rawmode == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in transparent)
    return image.convert("RGBA")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if profile[16:20] != b"RGB ":
        return image
    try:
        to_srgb = ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), "RGB", "RGB")
        return ImageCms.applyTransform(image, to_srgb) or image
    except ImageCms.PyCMSError:  # a damaged profile: the colours are taken as they are
        return image


def framed(pixels: Pixels) -> tuple[Pixels, float]:
    """Put a photo [H, W, 3] at the top left of a grey frame of the detector's size: ([h, w, 3], the enlargement).

    Both sides are multiples of the coarsest stride, and the frame of a wide photo is smaller than that of a square one.
    """
    height, width = pixels.shape[:2]
    scale = DETECTOR_SIDE / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    photo = Image.fromarray(pixels)
    if size != photo.size:
        photo = photo.resize(size, Image.Resampling.BILINEAR)
    columns, rows = (-(-length // STRIDES[-1]) * STRIDES[-1] for length in size)
    frame = np.full((rows, columns, 3), GREY, np.uint8)
    frame[: size[1], : size[0]] = photo
    return frame, scale


def boxes_of(answer: NDArray[np.float32], frame: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the detector's rows [cells, 5 + classes] of a frame: its boxes [cells, 4] and scores [cells, classes].

    A row is the box's centre, in cells from its own, the logarithm of its size in strides, and logits: that there is a
    vehicle, and that it is of each class. Boxes are (left, top, right, bottom) in the frame's pixels.
    """
    places = []
    for stride in STRIDES:
        down, across = np.indices((frame[0] // stride, frame[1] // stride), dtype=np.float32)
        places.append(np.stack([across.ravel(), down.ravel(), np.full(across.size, stride, np.float32)], axis=1))
    cells = np.concatenate(places)
    strides = cells[:, 2:]
    middles = (answer[:, :2] + cells[:, :2]) * strides
    halves = np.exp(np.minimum(answer[:, 2:4], 12)) * strides / 2
    scores = _sigmoid(answer[:, 4:5]) * _sigmoid(answer[:, 5:])
    return np.concatenate([middles - halves, middles + halves], axis=1), scores


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def is_searched(pixels: Pixels) -> bool:
    """Return whether the detector searches a photo [H, W, 3]."""
    height, width = pixels.shape[:2]
    return bool(max(height, width) >= SEARCHED_SIDE)


@dataclass(frozen=True)
class Found:
    """A place where a vehicle may be: its box in the photo's pixels, and a score 0 … 1 for each class."""

    box: Box
    scores: Scores

    @property
    def score(self) -> float:
        """Return how sure the detector is that some vehicle is there."""
        return max(self.scores)

    @property
    def kind(self) -> int:
        """Return the class that the detector takes it for."""
        return self.scores.index(self.score)

    @property
    def area(self) -> float:
        """Return the area in pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def prominence(self) -> float:
        """Return how likely the photo was taken of this vehicle; grows with its score and its size."""
        return float(self.score * self.area**0.25)


def candidates(boxes: NDArray[np.float32], scores: NDArray[np.float32], width: int, height: int) -> list[Found]:
    """Keep one box of each vehicle, clipped to the photo, the most prominent first."""
    best = scores.max(axis=1)
    order = np.flatnonzero(best >= LEAST_SCORE)
    order = order[np.argsort(-best[order], kind="stable")]
    boxes = np.clip(boxes, 0, [width, height, width, height])
    kept: list[int] = []
    for row in order:
        if all(overlap(boxes[row], boxes[other]) < SAME_VEHICLE for other in kept):
            kept.append(int(row))
    found = [Found(_as_box(boxes[row]), tuple(map(float, scores[row]))) for row in kept]
    return sorted((each for each in found if each.area > 0), key=lambda each: -each.prominence)


def _as_box(row: NDArray[np.float32]) -> Box:
    left, top, right, bottom = map(float, row)
    return left, top, right, bottom


def overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    shared = sides.prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared + 1e-9))


def square_around(box: Box, width: int, height: int, margin: float = MARGIN) -> Box:
    """Return the classifier's square around a box: inside the photo where it fits, else over its edges."""
    side = margin * max(box[2] - box[0], box[3] - box[1])
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = (
        min(max(centre - side / 2, 0), length - side) if side <= length else (length - side) / 2
        for centre, length in zip(middle, (width, height), strict=True)
    )
    return left, top, left + side, top + side


def whole(width: int, height: int) -> Box:
    """Return the square around a whole photo."""
    return square_around((0, 0, width, height), width, height, margin=1)


def looked_at(pixels: Pixels, found: Found | None) -> Box:
    """Return the classifier's square of a photo [H, W, 3]: around the vehicle found, else around the whole photo."""
    height, width = pixels.shape[:2]
    return square_around(found.box, width, height) if found else whole(width, height)


def scores_of(pixels: Pixels, found: Found | None, classes: int) -> Scores | None:
    """Return the detector's scores for a photo [H, W, 3]; None if the photo was not searched."""
    if found is not None:
        return found.scores
    return (UNFOUND_SCORE,) * classes if is_searched(pixels) else None


def cut(pixels: Pixels, square: Box, side: int) -> Pixels:
    """Cut a square out of a photo [H, W, 3] and bring it to [side, side, 3]; beyond the photo's edges it is grey."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = square
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    scale = side / (right - left)
    x0, y0, x1, y1 = (round((edge - start) * scale) for edge, start in zip(inside, (left, top) * 2, strict=True))
    size = max(1, x1 - x0), max(1, y1 - y0)
    part = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=inside, reducing_gap=3.0)
    if size == (side, side):
        return np.asarray(part)
    canvas = Image.new("RGB", (side, side), (GREY, GREY, GREY))
    canvas.paste(part, (x0, y0))
    return np.asarray(canvas)


def log_scores(scores: Scores) -> NDArray[np.float64]:
    """Return the logarithms of a detector's scores and, last, of 1 − the best score [classes + 1].

    Lower scores count as SCORE_FLOOR: a detector is sure of vehicles that it sees, not of their absence, and a score
    near 0 would overrule any classifier.
    """
    return np.asarray(np.log(np.clip([*scores, 1 - max(scores)], SCORE_FLOOR, 1)))


@dataclass(frozen=True)
class Weights:
    """The weights of the two networks' answers, set on validation photos.

    In a photo that was searched, the logit of each class is `classifier` × the classifier's + `detector` × the
    logarithm of the detector's score of it. The logit of "no vehicle" is `classifier` × the classifier's + `detector` ×
    the logarithm of 1 − the best score + `nothing`. In a picture too small for that, each logit is `small` × the
    classifier's, and `small_nothing` is added to that of "no vehicle". Where the networks contradict each other, the
    classes' shares are moved half-way to their mean, so the photo goes to a person.
    """

    classifier: float = 1.0
    detector: float = 0.5
    nothing: float = 0.0
    small: float = 1.0
    small_nothing: float = 0.0

    def shares(self, logits: NDArray[np.float64], scores: Scores | None) -> NDArray[np.float64]:
        """Return the probability of each class and, last, of none of them [classes + 1].

        Args:
            logits: the classifier's [classes + 1].
            scores: the detector's of each class; None for a picture that was not searched.
        """
        if scores is None:
            weighed = self.small * logits
            weighed[-1] += self.small_nothing
        else:
            weighed = self.classifier * logits + self.detector * log_scores(scores)
            weighed[-1] += self.nothing
        powers = np.exp(weighed - weighed.max())
        shares = np.asarray(powers / powers.sum())
        if scores is not None and contradict(logits, scores):
            shares[:-1] = (shares[:-1] + shares[:-1].mean()) / 2
        return shares


def contradict(logits: NDArray[np.float64], scores: Scores) -> bool:
    """Tell whether the classifier prefers another class than a detector that is sure enough to count."""
    return max(scores) >= SCORE_FLOOR and bool(logits[:-1][np.argmax(scores)] < logits[:-1].max())


def without_nothing(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities of the classes alone: that of "no vehicle" is divided equally among them."""
    classes = len(shares) - 1
    return np.asarray(shares[:-1] + shares[-1] / classes)


@dataclass(frozen=True)
class Answer:
    """The answer for one photo: a probability per class, and the vehicles found; a box is shares of the photo's sides.

    `counts` is the number of vehicles of each class; `reason_code` says why the photo needs review, if it does.
    """

    probabilities: list[float]
    box: Box | None
    score: float | None
    counts: dict[str, int]
    reason_code: str | None

    def attributes(self) -> str:
        """Return the vehicles found as compact JSON in ASCII, of less than 1,024 characters."""
        content: dict[str, object] = {"counts": self.counts}
        if self.box is not None and self.score is not None:
            content |= {"box": [round(edge, 4) for edge in self.box], "score": round(self.score, 4)}
        if self.reason_code is not None:
            content["reason_code"] = self.reason_code
        return json.dumps(content, separators=(",", ":"))


@dataclass(frozen=True)
class Model:
    """An ONNX session with the description in its metadata.

    The graph takes `image` uint8 [N, H, W, 3] and the switch `find`: true asks the detector for its rows of one frame,
    false the classifier for its logits of squares of `side` pixels.
    """

    session: onnxruntime.InferenceSession
    class_names: list[str]
    side: int
    threshold: float
    weights: Weights

    @classmethod
    def load(cls, path: Path, threads: int) -> "Model":
        """Open a model file.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not a Loading Bay model: its metadata lack the class names, for example.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no model at {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
        if not {"class_names", "square_side", "threshold", "weights"} <= set(metadata):
            raise ValueError(f"{path} names no class_names, square_side, threshold and weights in its metadata")
        return cls(
            session,
            json.loads(metadata["class_names"]),
            int(metadata["square_side"]),
            float(metadata["threshold"]),
            Weights(**json.loads(metadata["weights"])),
        )

    def probabilities(self, body: bytes, formats: tuple[str, ...]) -> list[float]:
        """Classify one encoded image: a probability per class, in class order.

        Raises:
            BadImage: the body cannot be read as an image of one of the formats.
        """
        return self.answer(body, formats).probabilities

    def answer(self, body: bytes, formats: tuple[str, ...]) -> Answer:
        """Classify one encoded image, and return the vehicles found as well.

        Raises:
            BadImage: the body cannot be read as an image of one of the formats.
        """
        return self.look(read_photo(body, formats))

    def find(self, pixels: Pixels) -> list[Found]:
        """Return the places that may show a vehicle in a photo [H, W, 3], the most prominent first; [] if small."""
        height, width = pixels.shape[:2]
        if not is_searched(pixels):
            return []
        frame, scale = framed(pixels)
        (rows,) = self.session.run(["answer"], {"find": np.array(True), "image": frame[np.newaxis]})
        boxes, scores = boxes_of(rows[0], frame.shape[:2])
        return candidates(boxes / scale, scores, width, height)

    def logits(self, squares: list[Pixels]) -> NDArray[np.float64]:
        """Classify squares [side, side, 3]: a logit of each class and, last, of "no vehicle" [N, classes + 1]."""
        (rows,) = self.session.run(["answer"], {"find": np.array(False), "image": np.stack(squares)})
        return np.asarray(rows, np.float64)

    def shares(self, pixels: Pixels, found: Found | None) -> NDArray[np.float64]:
        """Return the probability of each class and of "no vehicle", for a vehicle that was found or the whole photo."""
        rows = self.logits([cut(pixels, looked_at(pixels, found), self.side)])
        return self.weights.shares(rows[0], scores_of(pixels, found, len(self.class_names)))

    def look(self, pixels: Pixels) -> Answer:
        """Classify a photo [H, W, 3], and return the vehicles found as well."""
        height, width = pixels.shape[:2]
        found = self.find(pixels)
        main = found[0] if found else None
        shares = self.shares(pixels, main)
        probabilities = without_nothing(shares)
        rival = self._rival(pixels, found, int(shares[:-1].argmax()))
        if rival is not None:
            probabilities = np.full_like(probabilities, 1 / len(probabilities))
        counted = [each for each in found if each.score >= COUNTED_SCORE]
        box = None
        if main is not None:
            left, top, right, bottom = main.box
            box = left / width, top / height, right / width, bottom / height
        return Answer(
            probabilities=[float(each) for each in probabilities],
            box=box,
            score=main.score if main else None,
            counts={name: sum(each.kind == number for each in counted) for number, name in enumerate(self.class_names)},
            reason_code=self._reason(probabilities, shares, main, rival, max(width, height)),
        )

    def _rival(self, pixels: Pixels, found: list[Found], kind: int) -> Found | None:
        """Return a vehicle of another kind than the first, not much smaller, that both networks are sure of."""
        for each in found[1:]:
            if each.kind == kind or each.score < COUNTED_SCORE or each.area < RIVAL_AREA * found[0].area:
                continue
            shares = self.shares(pixels, each)
            if int(shares[:-1].argmax()) != kind and without_nothing(shares).max() >= self.threshold:
                return each
        return None

    def _reason(
        self,
        probabilities: NDArray[np.float64],
        shares: NDArray[np.float64],
        main: Found | None,
        rival: Found | None,
        photo_side: int,
    ) -> str | None:
        """Return why a photo needs review; None if the model is sure enough."""
        if rival is not None:
            return "SEVERAL_VEHICLES"
        if probabilities.max() >= self.threshold:
            return None
        if shares[-1] >= NO_VEHICLE_SHARE:
            return "NO_VEHICLE"
        if main is not None and max(main.box[2] - main.box[0], main.box[3] - main.box[1]) < SMALL_SHARE * photo_side:
            return "TOO_SMALL"
        return "UNSURE"
