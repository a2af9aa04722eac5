"""The detector's training: its weights are fine-tuned on the staged boxes, and their average over the steps is kept."""

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from .assignment import losses
from .detector import Detector
from .frames import Frames
from .looking import DETECTOR_SIDE, STRIDES
from .settings import Settings

WEIGHT_DECAY = 0.01
AVERAGE_DECAY = 0.99
# The learning rate rises for this share of the steps, and then falls along a cosine.
WARM_UP_SHARE = 0.1
LARGEST_GRADIENT = 10.0
# The first half of the steps sees smaller frames, for half the time; both sides are multiples of the coarsest stride.
SMALL_SHARE, SMALL_SIDE = 0.5, 0.77
REPORTED_STEPS = 10

Report = Callable[[str], None]


def fit_detector(
    detector: Detector, frames: Frames, settings: Settings, report: Report, side: int = DETECTOR_SIDE
) -> Detector:
    """Fine-tune the detector; in places without a vehicle, it learns to keep its earlier answers.

    Its first parts are frozen: they were trained on many more photos.
    """
    torch.manual_seed(settings.seeds[0])
    detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = copy.deepcopy(detector).eval()
    detector.train()
    for part in detector.stages()[: settings.detector_frozen]:
        part.requires_grad_(False)
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.detector_learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = one_cycle(optimizer, settings.detector_learning_rate, settings.detector_steps)
    average = copy.deepcopy(detector)
    small = int(SMALL_SIDE * side) // STRIDES[-1] * STRIDES[-1]
    started, sums = time.monotonic(), [0.0, 0.0, 0.0]
    for step in range(1, settings.detector_steps + 1):
        shown = small if step <= SMALL_SHARE * settings.detector_steps else side
        images, targets = frames.draw(settings.detector_batch, shown)
        with torch.no_grad():
            taught = teacher(images)
        parts = losses(detector(images), taught, targets, shown, shown)
        optimizer.zero_grad()
        sum(parts).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        follow(average, detector, min(AVERAGE_DECAY, (1 + step) / (10 + step)))
        sums = [total + part.item() for total, part in zip(sums, parts, strict=True)]
        if step % REPORTED_STEPS == 0 or step == settings.detector_steps:
            boxes, objectness, classes = (total / ((step - 1) % REPORTED_STEPS + 1) for total in sums)
            report(
                f"detector step={step}/{settings.detector_steps} box_loss={boxes:.4f} objectness_loss={objectness:.4f} "
                f"class_loss={classes:.4f} seconds={time.monotonic() - started:.0f}"
            )
            sums = [0.0, 0.0, 0.0]
    return average.eval()


def one_cycle(optimizer: torch.optim.Optimizer, rate: float, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule in which the learning rate rises to `rate` and falls to zero within so many steps."""
    # PyTorch divides by the steps of the rise less one, so a rise of exactly one step takes two.
    share = 2 / steps if steps * WARM_UP_SHARE == 1 else WARM_UP_SHARE
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=share)


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights, and the batch statistics with them, a step towards the network's."""
    with torch.no_grad():
        for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if slow.dtype.is_floating_point:
                slow.lerp_(fast, 1 - decay)
