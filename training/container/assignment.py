"""The detector's targets and losses: which cell answers for which vehicle, and how wrong its answers are.

SimOTA and the losses of YOLOX (Ge et al., 2021, https://arxiv.org/abs/2107.08430): every vehicle takes the cells near
its centre that already answer best, as many as their overlaps with it add up to.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .detector import boxes_of, grid

# A cell may answer for a vehicle whose centre is at most this many cells away.
REACH = 2.5
# A vehicle takes as many cells as the overlaps of this many best cells add up to.
MOST_CELLS = 10
# The weight of the overlap relative to the classes, in the choice of cells and in the loss.
CHOICE_WEIGHT = 3.0
BOX_WEIGHT = 5.0


@dataclass(frozen=True)
class Target:
    """The vehicles of one picture in its pixels (left, top, right, bottom) [V, 4], their classes [V].

    `unsure` [U, 4] are places where something may be a vehicle.
    """

    boxes: Tensor
    classes: Tensor
    unsure: Tensor


def overlaps(some: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union [N, M] of boxes [N, 4] and [M, 4] (left, top, right, bottom)."""
    sides = (
        torch.minimum(some[:, None, 2:], others[None, :, 2:]) - torch.maximum(some[:, None, :2], others[None, :, :2])
    ).clamp_min(0)
    shared = sides.prod(dim=2)
    return shared / (_areas(some)[:, None] + _areas(others)[None] - shared + 1e-9)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def corners(boxes: Tensor) -> Tensor:
    """Turn boxes [..., 4] (centre, size) into (left, top, right, bottom)."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)


def losses(rows: Tensor, taught: Tensor, targets: list[Target], height: int, width: int) -> tuple[Tensor, ...]:
    """Return the losses of boxes, objectness and classes of a batch of rows [N, cells, 5 + classes].

    Each is a sum over cells, divided by the number of cells that answer for a vehicle. The other cells should keep the
    answers that the network gave before this training, `taught` of the same shape: whether there is an object, and how
    much it looks like each class. (A network that learns from vehicles alone takes every object for one of them,
    because it never sees anything else.) In a frame without vehicles or unsure places, no object is of any class.
    """
    cells, strides = grid(height, width)
    centres = (cells + 0.5) * strides
    found = corners(boxes_of(rows, height, width))
    box_loss = class_loss = objectness_loss = rows.sum() * 0
    taken_cells = 0
    for row, teacher, boxes, target in zip(rows, taught, found, targets, strict=True):
        objects, kinds = teacher[:, 4].sigmoid(), teacher[:, 5:].sigmoid()
        importance = objects.clone()
        if len(target.boxes):
            taken, vehicle = assign(row.detach(), boxes.detach(), target, centres, strides)
            overlap = overlaps(boxes[taken], target.boxes)[torch.arange(len(taken)), vehicle]
            box_loss = box_loss + (1 - overlap**2).sum()
            objects[taken], importance[taken] = 1, 1
            kinds[taken] = functional.one_hot(target.classes[vehicle], kinds.shape[1]) * overlap.detach()[:, None]
            taken_cells += len(taken)
        elif not len(target.unsure):
            kinds = torch.zeros_like(kinds)
        objectness_loss = objectness_loss + functional.binary_cross_entropy_with_logits(
            row[:, 4], objects, reduction="sum"
        )
        class_loss = class_loss + functional.binary_cross_entropy_with_logits(
            row[:, 5:], kinds, importance[:, None].expand_as(kinds), reduction="sum"
        )
    count = max(taken_cells, 1)
    return BOX_WEIGHT * box_loss / count, objectness_loss / count, class_loss / count


def assign(row: Tensor, boxes: Tensor, target: Target, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the cells of one picture that answer for a vehicle: (their numbers [T], the vehicle of each [T])."""
    inside = (centres[:, None] > target.boxes[None, :, :2]).all(dim=2) & (
        centres[:, None] < target.boxes[None, :, 2:]
    ).all(dim=2)
    middles = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    near = ((centres[:, None] - middles[None]).abs() < REACH * strides[:, None]).all(dim=2)
    candidates = (inside | near).any(dim=1).nonzero()[:, 0]
    overlap = overlaps(boxes[candidates], target.boxes)
    scores = (row[candidates, 5:].sigmoid() * row[candidates, 4:5].sigmoid()).sqrt()
    kinds = functional.one_hot(target.classes, row.shape[1] - 5).float()
    misfit = functional.binary_cross_entropy(
        scores[:, None].expand(-1, len(kinds), -1).clamp(1e-6, 1 - 1e-6),
        kinds[None].expand(len(scores), -1, -1),
        reduction="none",
    ).sum(dim=2)
    cost = misfit - CHOICE_WEIGHT * (overlap + 1e-8).log()
    cost = cost + 1e5 * (~(inside & near)[candidates])
    counts = overlap.topk(min(MOST_CELLS, len(candidates)), dim=0).values.sum(dim=0).int().clamp_min(1)
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    for number, count in enumerate(counts.tolist()):
        chosen[cost[:, number].topk(min(count, len(candidates)), largest=False).indices, number] = True
    # A cell that several vehicles want goes to the one that it fits best.
    several = chosen.sum(dim=1) > 1
    chosen[several] = functional.one_hot(cost[several].argmin(dim=1), len(target.boxes)).bool()
    rows, vehicles = chosen.nonzero(as_tuple=True)
    return candidates[rows], vehicles
