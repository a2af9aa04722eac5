"""The detector: its layers, which cells answer for which vehicle, and that it learns to find one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.training.pictures import scene
from training.container.assignment import Target, assign, corners, losses, overlaps
from training.container.detector import Detector, boxes_of, grid
from training.container.examples import Example, ExampleOrigin
from training.container.finding import fit_detector, one_cycle
from training.container.frames import Frames, Placed, target
from training.container.settings import Settings

MODEL = Path("training/model/model.onnx")
NAMES = ["bicycle", "motorcycle"]


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = Detector(2)
    found.load(MODEL, NAMES)
    return found.eval()


def nothing() -> torch.Tensor:
    return torch.zeros(0, 4)


def test_a_row_of_zeros_is_a_box_of_one_stride_around_its_cell() -> None:
    boxes = boxes_of(torch.zeros(1, 64 * 96 // 64 + 64 * 96 // 256 + 64 * 96 // 1024, 4), 64, 96)[0]
    assert boxes[0].tolist() == [0, 0, 8, 8]
    assert boxes[13].tolist() == [8, 8, 8, 8]
    assert boxes[-1].tolist() == [64, 32, 32, 32]


def test_overlap_is_intersection_over_union() -> None:
    some = torch.tensor([[0.0, 0, 2, 2]])
    others = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]])
    assert overlaps(some, others)[0].tolist() == pytest.approx([1, 1 / 7, 0])


def test_the_cells_near_a_vehicle_that_fit_it_answer_for_it() -> None:
    cells, strides = grid(96, 96)
    rows = torch.zeros(len(cells), 7)
    wanted = Target(torch.tensor([[16.0, 16, 48, 48]]), torch.tensor([1]), nothing())
    # One cell in the middle already gives the right answer.
    middle = int(((cells == 1).all(dim=1) & (strides[:, 0] == 16)).nonzero()[0])
    rows[middle] = torch.tensor([1.0, 1, np.log(2), np.log(2), 4, -4, 4])
    boxes = corners(boxes_of(rows[None], 96, 96)[0])

    taken, vehicles = assign(rows, boxes, wanted, (cells + 0.5) * strides, strides)

    assert middle in taken.tolist()
    assert set(vehicles.tolist()) == {0}
    centres = ((cells + 0.5) * strides)[taken]
    assert ((centres > 16) & (centres < 48)).all()


def test_a_cell_that_two_vehicles_want_answers_for_one() -> None:
    cells, strides = grid(96, 96)
    rows = torch.zeros(len(cells), 7)
    twice = Target(torch.tensor([[16.0, 16, 48, 48], [17, 17, 49, 49]]), torch.tensor([0, 1]), nothing())
    taken, _ = assign(rows, corners(boxes_of(rows[None], 96, 96)[0]), twice, (cells + 0.5) * strides, strides)
    assert len(set(taken.tolist())) == len(taken)


def test_where_no_vehicle_is_what_was_known_of_objects_is_kept() -> None:
    cells, _ = grid(96, 96)
    known = torch.full((1, len(cells), 7), -5.0)
    known[:, 7, 4:] = 5.0  # the teacher takes one cell for a bicycle and a motorcycle
    unsure = Target(nothing(), torch.zeros(0, dtype=torch.int64), torch.tensor([[-1.0, -1, 97, 97]]))
    without = Target(nothing(), torch.zeros(0, dtype=torch.int64), nothing())
    forgetful = torch.full((1, len(cells), 7), -5.0)

    def loss(rows: torch.Tensor, target: Target) -> list[float]:
        return [part.item() for part in losses(rows, known, [target], 96, 96)]

    # Both frames keep their objects. Only the frame with an unsure place keeps their classes.
    assert loss(known, unsure)[1] < loss(forgetful, unsure)[1]
    assert loss(known, without)[1] < loss(forgetful, without)[1]
    assert loss(known, unsure)[2] < loss(forgetful, unsure)[2]
    assert loss(known, without)[2] > loss(forgetful, without)[2] + 5


def test_boxes_follow_a_photo_into_its_frame_mirrored_or_not() -> None:
    box = (10.0, 20.0, 30.0, 40.0)
    assert Placed(2, 1, 5, 7, 200, mirrored=False).moved(box) == (25, 27, 65, 47)
    assert Placed(2, 1, 5, 7, 200, mirrored=True).moved(box) == (145, 27, 185, 47)


def test_a_vehicle_that_is_mostly_cut_off_may_be_found_or_not() -> None:
    example = Example(b"", 0, ExampleOrigin(), ((0, (0.0, 0.0, 50.0, 50.0)), (1, (60.0, 0.0, 100.0, 50.0))), ())
    found = target(example, Placed(1, 1, -40, 0, 100, mirrored=False), 96)
    assert found.boxes.tolist() == [[20, 0, 60, 50]]
    assert found.classes.tolist() == [1]
    assert found.unsure.tolist() == [[0, 0, 10, 50]]


def test_a_file_of_another_network_is_no_detector(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "none", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other\.onnx contains no YOLOX-Nano"):
        Detector(2).load(tmp_path / "other.onnx", NAMES)


def test_of_a_files_classes_ours_are_kept_in_our_order_and_a_new_one_starts_from_nothing(detector: Detector) -> None:
    other = Detector(3)
    other.load(MODEL, ["motorcycle", "car", "bicycle"])
    frame = 255 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = detector(frame), other.eval()(frame)
    assert torch.allclose(theirs[..., :5], ours[..., :5])
    assert torch.allclose(theirs[..., 5], ours[..., 6])
    assert torch.allclose(theirs[..., 7], ours[..., 5])
    assert (theirs[..., 6] == -4).all()


def test_it_learns_to_find_drawn_vehicles(detector: Detector) -> None:
    generator = np.random.default_rng(2)

    def examples(count: int) -> list[Example]:
        drawn = [scene(label, f"{k}.jpg", generator) for label in NAMES for k in range(count)]
        return [
            Example(
                photo.data,
                NAMES.index(photo.label),
                ExampleOrigin("street", "s"),
                ((NAMES.index(photo.label), photo.vehicles[0].box),),
            )
            for photo in drawn
        ]

    def loss(network: Detector) -> float:
        images, targets = Frames(examples(4), 2, seed=7).draw(8, 192)
        with torch.no_grad():
            return sum(part.item() for part in losses(network(images), detector(images), targets, 192, 192))

    settings = Settings(detector_steps=12, detector_batch=4, detector_learning_rate=1e-3)
    lines: list[str] = []
    begun = Detector(2)
    begun.load_state_dict(detector.state_dict())

    learned = fit_detector(begun, Frames(examples(12), 2, seed=1), settings, lines.append, side=192)

    assert loss(learned) < 0.8 * loss(detector)
    assert lines[-1].startswith("detector step=12/12 box_loss=")


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_the_learning_rate_rises_and_falls_within_so_many_steps(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = one_cycle(optimizer, 0.5, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()

    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] < 1e-4
