"""The detector: YOLOX-Nano, which finds the bicycles and motorcycles in a photo.

YOLOX is by Ge et al., 2021 (https://arxiv.org/abs/2107.08430; https://github.com/Megvii-BaseDetection/YOLOX,
Apache-2.0). The published weights come as an ONNX file whose batch normalisation is folded into its convolutions, and
the layers here do the same: with batches this small its statistics would be noise.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from .looking import STRIDES

# The published network knows the 80 classes of COCO; these, by number, may be classes of a stack.
COCO_CLASSES = {"person": 0, "bicycle": 1, "car": 2, "motorcycle": 3, "bus": 5, "truck": 7}
# The initial logit of a class that the file does not know.
UNKNOWN_BIAS = -4.0
HEAD_CHANNELS = 64


class Conv(nn.Module):
    """A convolution and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - stride + 1) // 2, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return functional.silu(self.conv(features))


class Separable(nn.Sequential):
    """A 3 × 3 convolution of each channel alone, then one across the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs, 1))


class Bottleneck(nn.Module):
    """A narrow convolution and a separable one, added to their input if `shortcut` is set."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv(channels, channels, 1), Separable(channels, channels))
        self.shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape [N, channels, H, W]."""
        out: Tensor = self.layers(features)
        return features + out if self.shortcut else out


class Split(nn.Module):
    """Half of the channels through bottlenecks, half beside them (CSPNet: Wang et al., 2020)."""

    def __init__(self, inputs: int, outputs: int, blocks: int, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.through = Conv(inputs, half, 1)
        self.beside = Conv(inputs, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(blocks)))
        self.join = Conv(outputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W]."""
        through, beside = self.through(features), self.beside(features)
        joined: Tensor = self.join(torch.cat([self.blocks(through), beside], dim=1))
        return joined


class Pyramid(nn.Module):
    """Maxima over 5, 9 and 13 cells beside the features themselves (SPP: He et al., 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = Conv(channels, channels // 2, 1)
        self.join = Conv(2 * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape [N, channels, H, W]."""
        narrow = self.narrow(features)
        pooled = [functional.max_pool2d(narrow, size, 1, size // 2) for size in (5, 9, 13)]
        joined: Tensor = self.join(torch.cat([narrow, *pooled], dim=1))
        return joined


class Head(nn.Module):
    """The answers of one grid: classes from one branch, box and objectness from the other."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.stem = Conv(inputs, HEAD_CHANNELS, 1)
        self.class_branch = nn.Sequential(*(Separable(HEAD_CHANNELS, HEAD_CHANNELS) for _ in range(2)))
        self.classes = nn.Conv2d(HEAD_CHANNELS, classes, 1)
        self.box_branch = nn.Sequential(*(Separable(HEAD_CHANNELS, HEAD_CHANNELS) for _ in range(2)))
        self.box = nn.Conv2d(HEAD_CHANNELS, 4, 1)
        self.objectness = nn.Conv2d(HEAD_CHANNELS, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, H × W, 5 + classes]: box, logit of objectness, logits of classes."""
        stem = self.stem(features)
        # In the order of the layers above, which is that of a file's convolutions.
        classes = self.classes(self.class_branch(stem))
        beside = self.box_branch(stem)
        return torch.cat([self.box(beside), self.objectness(beside), classes], dim=1).flatten(2).transpose(1, 2)


class Detector(nn.Module):
    """Pixels in, one row per cell of three grids out; `looking.boxes_of` explains a row."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = Conv(3, 16, 6, 2)
        self.dark2 = nn.Sequential(Separable(16, 32, 2), Split(32, 32, 1, shortcut=True))
        self.dark3 = nn.Sequential(Separable(32, 64, 2), Split(64, 64, 3, shortcut=True))
        self.dark4 = nn.Sequential(Separable(64, 128, 2), Split(128, 128, 3, shortcut=True))
        self.dark5 = nn.Sequential(Separable(128, 256, 2), Pyramid(256), Split(256, 256, 1, shortcut=False))
        self.narrow5 = Conv(256, 128, 1)
        self.up4 = Split(256, 128, 1, shortcut=False)
        self.narrow4 = Conv(128, 64, 1)
        self.up3 = Split(128, 64, 1, shortcut=False)
        self.down3 = Separable(64, 64, 2)
        self.out4 = Split(128, 128, 1, shortcut=False)
        self.down4 = Separable(128, 128, 2)
        self.out5 = Split(256, 256, 1, shortcut=False)
        self.heads = nn.ModuleList(Head(inputs, classes) for inputs in (64, 128, 256))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map RGB values 0 … 255, [N, 3, H, W], to rows [N, cells, 5 + classes], finest grid first, row by row."""
        fine = self.dark3(self.dark2(self.stem(pixels)))
        middle = self.dark4(fine)
        narrow5 = self.narrow5(self.dark5(middle))
        narrow4 = self.narrow4(self.up4(torch.cat([_doubled(narrow5), middle], dim=1)))
        out3 = self.up3(torch.cat([_doubled(narrow4), fine], dim=1))
        out4 = self.out4(torch.cat([self.down3(out3), narrow4], dim=1))
        out5 = self.out5(torch.cat([self.down4(out4), narrow5], dim=1))
        return torch.cat([head(out) for head, out in zip(self.heads, (out3, out4, out5), strict=True)], dim=1)

    def stages(self) -> list[nn.Module]:
        """Return the parts of the backbone, from the pixels on."""
        return [self.stem, self.dark2, self.dark3, self.dark4, self.dark5]

    def load(self, path: Path, class_names: Sequence[str]) -> None:
        """Take the weights of an ONNX file: the published one, or a model that this project exported.

        Only the classes in `class_names` are kept; one that the file does not know starts untrained.

        Raises:
            ValueError: the file holds a different network.
        """
        model = onnx.load(path)
        known = {each.key: each.value for each in model.metadata_props}.get("class_names")
        numbers = {name: number for number, name in enumerate(json.loads(known))} if known else COCO_CLASSES
        weights = _in_order_of_use(model)
        layers = list(self._convolutions())
        answers = {id(head.classes) for head in self.heads if isinstance(head, Head)}
        if len(weights) != len(layers):
            raise ValueError(f"{path} contains no YOLOX-Nano")
        with torch.no_grad():
            for layer, (published, offset) in zip(layers, weights, strict=True):
                weight, bias = published, offset
                if weight.shape[1:] == (12, 3, 3):
                    weight = _unfocused(weight)
                elif id(layer) in answers:
                    weight, bias = _of_classes(weight, bias, [numbers.get(name) for name in class_names])
                if layer.weight.shape != weight.shape:
                    raise ValueError(f"{path} contains no YOLOX-Nano")
                layer.weight.copy_(weight)
                cast("Tensor", layer.bias).copy_(bias)

    def _convolutions(self) -> Iterator[nn.Conv2d]:
        """Yield the convolutions in the order in which they are used."""
        return (part for part in self.modules() if isinstance(part, nn.Conv2d))


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


def _in_order_of_use(model: onnx.ModelProto) -> list[tuple[Tensor, Tensor]]:
    """Return every convolution's weight and bias; in an exported model, those of the detector, restored from int8."""
    graph = model.graph
    if graph.node[0].op_type == "If":
        graph = next(each.g for each in graph.node[0].attribute if each.name == "then_branch")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
        elif node.op_type == "Mul" and set(node.input) <= set(arrays):
            arrays[node.output[0]] = arrays[node.input[0]] * arrays[node.input[1]]
    used = [node for node in graph.node if node.op_type == "Conv"]
    return [(torch.tensor(arrays[node.input[1]]), torch.tensor(arrays[node.input[2]])) for node in used]


def _of_classes(weight: Tensor, bias: Tensor, numbers: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """Choose the rows of some classes by their numbers; None is a class that starts untrained."""
    rows = [torch.zeros_like(weight[0]) if number is None else weight[number] for number in numbers]
    biases = [bias.new_tensor(UNKNOWN_BIAS) if number is None else bias[number] for number in numbers]
    return torch.stack(rows), torch.stack(biases)


def _unfocused(weight: Tensor) -> Tensor:
    """Turn the first layer [16, 12, 3, 3], over four pixels' BGR side by side, into one over RGB [16, 3, 6, 6].

    The published network puts each square of two by two pixels into twelve channels: top left, bottom left, top right,
    bottom right. A convolution with steps of two pixels computes the same.
    """
    four = weight.reshape(-1, 2, 2, 3, 3, 3)  # output, right, bottom, colour, row, column
    return four.permute(0, 3, 4, 2, 5, 1).reshape(-1, 3, 6, 6).flip(1).contiguous()


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return each row's cell [cells, 2], across and down, and its stride [cells, 1]."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cells.append(torch.stack([across, down], dim=2).reshape(-1, 2).float())
        strides.append(torch.full((rows * columns, 1), float(stride)))
    return torch.cat(cells), torch.cat(strides)


def boxes_of(rows: Tensor, height: int, width: int) -> Tensor:
    """Return the boxes (centre across, centre down, width, height) in pixels [N, cells, 4] of rows [N, cells, …]."""
    cells, strides = grid(height, width)
    return torch.cat([(rows[..., :2] + cells) * strides, rows[..., 2:4].clamp(max=12).exp() * strides], dim=2)
