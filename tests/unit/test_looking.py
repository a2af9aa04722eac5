"""Find the vehicle, then look: boxes, squares, weights and answers, with stand-in networks."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from training.container import looking
from training.container.looking import Found, Model, Pixels, Weights

NAMES = ["bicycle", "motorcycle"]
BICYCLE, MOTORCYCLE, NOTHING = [6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.0, 6.0]


def grey(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 90, np.uint8)


class Standing(Model):
    """A model whose networks give prepared answers."""

    def __init__(self, found: Sequence[Found], *logits: list[float]) -> None:
        super().__init__(None, NAMES, 32, 0.9, Weights())
        object.__setattr__(self, "said", (list(found), list(logits)))

    def find(self, pixels: Pixels) -> list[Found]:
        found: list[Found] = self.said[0]  # type: ignore[attr-defined]
        return found

    def logits(self, squares: list[Pixels]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return np.array([self.said[1].pop(0) for _ in squares])  # type: ignore[attr-defined]


def bicycle(box: tuple[float, float, float, float] = (50, 40, 250, 190), score: float = 0.8) -> Found:
    return Found(box, (score, 0.05))


def motorcycle(box: tuple[float, float, float, float] = (100, 40, 300, 190), score: float = 0.8) -> Found:
    return Found(box, (0.05, score))


def test_a_photo_lies_at_the_top_left_of_its_frame_in_the_detectors_size() -> None:
    frame, scale = looking.framed(grey(208, 100))
    assert frame.shape == (224, 416, 3)
    assert scale == 2
    assert (frame[:200] == 90).all()
    assert (frame[200:] == looking.GREY).all()


@pytest.mark.parametrize(("width", "height"), [(1, 416), (416, 1), (416, 416), (300, 416), (33, 200)])
def test_a_frame_s_sides_are_multiples_of_the_coarsest_stride(width: int, height: int) -> None:
    frame, _ = looking.framed(grey(width, height))
    assert all(side % 32 == 0 and side > 0 for side in frame.shape[:2])
    assert max(frame.shape) == 416


def test_rows_become_boxes_and_scores() -> None:
    rows = np.full((64 * 96 // 64 + 64 * 96 // 256 + 64 * 96 // 1024, 7), -20, np.float32)
    # The cell in the second row and third column of the finest grid.
    rows[12 + 2] = [0.5, 0.5, np.log(4), np.log(2), 0.0, 20.0, -20.0]
    boxes, scores = looking.boxes_of(rows, (64, 96))
    assert boxes[14].tolist() == pytest.approx([2.5 * 8 - 16, 1.5 * 8 - 8, 2.5 * 8 + 16, 1.5 * 8 + 8])
    assert scores[14].tolist() == pytest.approx([0.5, 0], abs=1e-6)
    assert scores[:14].max() < 1e-6


def test_of_boxes_that_overlap_the_surest_stays_and_large_ones_come_first() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 0, 105, 100], [200, 0, 210, 10], [-20, 150, 90, 260]], np.float32)
    scores = np.array([[0.7, 0.0], [0.8, 0.1], [0.75, 0.0], [0.0, 0.03]], np.float32)
    found = looking.candidates(boxes, scores, 300, 200)
    assert [each.box for each in found] == [(5, 0, 105, 100), (200, 0, 210, 10)]
    assert found[0].score == pytest.approx(0.8)
    assert found[0].kind == 0


def test_boxes_end_where_the_photo_ends() -> None:
    boxes, scores = np.array([[-20, 150, 90, 260], [400, 0, 500, 50]], np.float32), np.full((2, 2), 0.5, np.float32)
    (found,) = looking.candidates(boxes, scores, 300, 200)
    assert found.box == (0, 150, 90, 200)


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((100, 100, 200, 150), (85, 60, 215, 190)),
        ((0, 0, 100, 50), (0, 0, 130, 130)),
        ((300, 200, 400, 300), (270, 170, 400, 300)),
        # Wider than the photo is high: over both of its edges.
        ((50, 100, 350, 200), (5, -45, 395, 345)),
    ],
)
def test_the_square_around_a_vehicle_stays_in_the_photo_where_it_fits(
    box: tuple[float, float, float, float], square: tuple[float, float, float, float]
) -> None:
    assert looking.square_around(box, 400, 300) == pytest.approx(square)


def test_what_lies_beyond_a_photo_is_grey_and_the_photo_keeps_its_proportions() -> None:
    pixels = grey(300, 100)
    pixels[:, 100:200] = 255
    whole = looking.cut(pixels, looking.whole(300, 100), 96)
    assert whole.shape == (96, 96, 3)
    assert (whole[:31] == looking.GREY).all()
    assert (whole[65:] == looking.GREY).all()
    assert (whole[34:62, 36:60] == 255).all()
    assert (whole[34:62, :28] == 90).all()


def test_a_cut_inside_a_photo_is_that_part_of_it() -> None:
    pixels = grey(300, 200)
    pixels[50:150, 100:200] = 255
    assert looking.cut(pixels, (100, 50, 200, 150), 64).min() > 230


def test_a_photo_of_one_vehicle_is_of_its_kind() -> None:
    answer = Standing([bicycle()], BICYCLE).look(grey(400, 300))
    assert answer.probabilities[0] > 0.95
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.box == pytest.approx((50 / 400, 40 / 300, 250 / 400, 190 / 300))
    assert answer.counts == {"bicycle": 1, "motorcycle": 0}
    assert answer.reason_code is None


def test_several_of_one_kind_are_that_kind() -> None:
    others = [bicycle((10, 10, 200, 150)), bicycle((200, 10, 390, 150), 0.5), bicycle((0, 0, 20, 20), 0.1)]
    answer = Standing([bicycle(), *others], BICYCLE).look(grey(400, 300))
    assert answer.probabilities[0] > 0.95
    assert answer.counts == {"bicycle": 3, "motorcycle": 0}


def test_a_photo_about_which_the_networks_contradict_each_other_is_for_a_person() -> None:
    answer = Standing([bicycle()], MOTORCYCLE).look(grey(400, 300))
    assert 0.5 < max(answer.probabilities) < 0.8
    assert answer.reason_code == "UNSURE"


def test_a_detector_s_low_scores_do_not_overrule_the_classifier() -> None:
    weights = Weights(classifier=1.0, detector=2.0)
    impossible, unlikely = (weights.shares(np.array(BICYCLE), (0.3, score)) for score in (0.0001, 0.3))
    assert impossible.tolist() == unlikely.tolist()


def test_both_kinds_of_about_one_size_are_for_a_person() -> None:
    answer = Standing([bicycle(), motorcycle()], BICYCLE, MOTORCYCLE).look(grey(400, 300))
    assert answer.probabilities == [0.5, 0.5]
    assert answer.reason_code == "SEVERAL_VEHICLES"
    assert answer.counts == {"bicycle": 1, "motorcycle": 1}


@pytest.mark.parametrize(
    ("other", "seen"),
    [
        (motorcycle((0, 0, 80, 60)), MOTORCYCLE),  # in the background
        (motorcycle(score=0.2), MOTORCYCLE),  # perhaps nothing
        (motorcycle(), BICYCLE),  # a bicycle after all
        (motorcycle(), NOTHING),
    ],
)
def test_what_is_not_surely_another_vehicle_of_its_size_does_not_send_a_photo_to_a_person(
    other: Found, seen: list[float]
) -> None:
    answer = Standing([bicycle(), other], BICYCLE, seen).look(grey(400, 300))
    assert answer.reason_code is None
    assert answer.probabilities[0] > 0.95


def test_what_the_classifier_takes_for_no_vehicle_is_one() -> None:
    answer = Standing([bicycle(score=0.2)], NOTHING).look(grey(400, 300))
    assert max(answer.probabilities) < 0.6
    assert answer.reason_code == "NO_VEHICLE"


def test_a_vehicle_that_is_small_in_the_photo_is_told_from_one_that_is_unclear() -> None:
    unclear = [0.4, 0.6, -2.0]
    small = Standing([bicycle((10, 10, 30, 25))], list(unclear)).look(grey(400, 300))
    large = Standing([bicycle()], list(unclear)).look(grey(400, 300))
    assert (small.reason_code, large.reason_code) == ("TOO_SMALL", "UNSURE")


def test_where_nothing_is_found_the_whole_photo_s_own_answer_counts() -> None:
    answer = Standing([], MOTORCYCLE).look(grey(100, 100))
    assert answer.probabilities[1] > 0.95
    assert (answer.box, answer.score, answer.reason_code) == (None, None, None)
    assert Standing([], NOTHING).look(grey(400, 300)).reason_code == "NO_VEHICLE"


def test_the_detector_is_heard_beside_the_classifier() -> None:
    weights = Weights(classifier=1.0, detector=4.0)
    undecided = np.array([1.0, 1.0, -5.0])
    assert weights.shares(undecided, (0.8, 0.05))[0] > 0.85
    assert weights.shares(undecided, (0.05, 0.8))[1] > 0.85
    sure, unsure = (weights.shares(undecided, (score, 0.05))[2] for score in (0.9, 0.1))
    assert sure < unsure


def test_a_photo_in_which_nothing_is_found_is_believed_less_than_a_small_picture() -> None:
    """A small picture is not searched: its vehicle fills it. In a large one, the detector would have found it."""
    searched, small = (Standing([], [3.0, 0.0, 0.0]).look(grey(side, side)) for side in (300, 60))
    assert searched.probabilities[0] < small.probabilities[0]


def test_what_is_said_fits_a_header() -> None:
    answer = Standing([bicycle((1 / 3, 1 / 7, 250, 190))], BICYCLE).look(grey(400, 300))
    text = answer.attributes()
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == {
        "counts": {"bicycle": 1, "motorcycle": 0},
        "box": [0.0008, 0.0005, 0.625, 0.6333],
        "score": 0.8,
    }


def test_small_pictures_are_not_searched() -> None:
    model = Model.load(Path("training/model/model.onnx"), threads=1)
    assert model.find(grey(127, 64)) == []


def test_a_file_of_another_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model at .*none\.onnx"):
        Model.load(tmp_path / "none.onnx", threads=1)
