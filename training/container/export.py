"""Export: one ONNX file that holds both networks, each from raw pixels on, and the weights of their answers."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from .detector import Detector
from .looking import DETECTOR_SIDE, Weights
from .network import EfficientNetLite0, normalise
from .settings import seeds_text

OPSET, IR_VERSION = 18, 10
# Below this many numbers a weight is not worth compressing; biases never are.
COMPRESSIBLE = 1024
INT8_MAX = 127
SWITCH, IMAGE, ANSWER = "find", "image", "answer"


@dataclass(frozen=True)
class Description:
    """The description in the file's metadata, where the endpoint and the evaluation read it."""

    class_names: Sequence[str]
    square_side: int
    threshold: float
    seeds: Sequence[int]
    data_digest: str

    def metadata(self, weights: Weights) -> dict[str, str]:
        """Return it with the weights as ONNX keeps them: text by name."""
        return {
            "class_names": json.dumps(list(self.class_names)),
            "square_side": str(self.square_side),
            "threshold": str(self.threshold),
            "weights": json.dumps(asdict(weights)),
            "seeds": seeds_text(self.seeds),
            "data_digest": self.data_digest,
        }


class _Finding(nn.Module):
    """The detector as it is served: uint8 RGB [N, H, W, 3] in."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> Tensor:
        rows: Tensor = self.detector(pixels.permute(0, 3, 1, 2).float())
        return rows


class _Looking(nn.Module):
    """The classifier as it is served: uint8 RGB [N, side, side, 3] in."""

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(normalise(pixels.permute(0, 3, 1, 2).float()))
        return logits


def export(
    detector: Detector, network: EfficientNetLite0, weights: Weights, description: Description, path: Path
) -> None:
    """Write the graph: the switch `find`, and `image` uint8 [N, H, W, 3] in; `answer` out.

    Where `find` is true, it is the detector's [N, cells, 5 + classes]; else the classifier's [N, classes + 1].
    """
    side = description.square_side
    finding = _traced(_Finding(detector.eval()), (1, DETECTOR_SIDE, DETECTOR_SIDE, 3), {1: "H", 2: "W"})
    looking = _traced(_Looking(network.eval()), (2, side, side, 3), {0: "N"})
    choice = helper.make_node(
        "If",
        [SWITCH],
        [ANSWER],
        then_branch=_branch(finding, "found.", ["N", "cells", "columns"]),
        else_branch=_branch(looking, "looked.", ["N", "classes"]),
    )
    graph = helper.make_graph(
        [choice],
        "find, then look",
        [
            helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, []),
            helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["N", "H", "W", 3]),
        ],
        [helper.make_tensor_value_info(ANSWER, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, description.metadata(weights))
    onnx.save(model, path)


def describe_anew(path: Path, weights: Weights, description: Description) -> None:
    """Replace the weights and the description in a model file."""
    model = onnx.load(path)
    helper.set_model_props(model, description.metadata(weights))
    onnx.save(model, path)


def _traced(module: nn.Module, shape: tuple[int, ...], changing: dict[int, str]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracing exporter warns that there is a newer one, which needs another package for the same graph.
        warnings.simplefilter("ignore")
        path = Path(folder) / "part.onnx"
        torch.onnx.export(
            module,
            (torch.zeros(*shape, dtype=torch.uint8),),
            path,
            input_names=[IMAGE],
            output_names=[ANSWER],
            dynamic_axes={IMAGE: changing, ANSWER: {0: "N", 1: "cells"}},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    compress(model)
    onnx.checker.check_model(model)
    return model


def _branch(model: onnx.ModelProto, prefix: str, shape: list[str]) -> onnx.GraphProto:
    """Return a model's graph as one branch of a choice: it takes the outer graph's image; other names get a prefix."""

    def own(name: str) -> str:
        return name if name in {IMAGE, ""} else prefix + name

    nodes, tensors = [], []
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(map(own, node.input))
        copy.output.extend(map(own, node.output))
        copy.name = own(node.name)
        nodes.append(copy)
    for tensor in model.graph.initializer:
        renamed = onnx.TensorProto()
        renamed.CopyFrom(tensor)
        renamed.name = own(tensor.name)
        tensors.append(renamed)
    output = helper.make_tensor_value_info(own(ANSWER), TensorProto.FLOAT, shape)
    return helper.make_graph(nodes, prefix.rstrip("."), [], [output], tensors)


def compress(model: onnx.ModelProto) -> None:
    """Store every convolution's weights as int8 with one scale per output channel: a quarter of the size.

    A cast and a product restore them. The runtime does that once, while it loads the model, and then computes
    in float as before; the operators for quantised graphs would be run again for every image.
    """
    graph = model.graph
    convolutions = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    restoring: list[onnx.NodeProto] = []
    for tensor in [tensor for tensor in graph.initializer if tensor.name in convolutions]:
        weights = numpy_helper.to_array(tensor)
        if weights.size < COMPRESSIBLE:
            continue
        small, scale = quantise(weights)
        graph.initializer.remove(tensor)
        graph.initializer.extend(
            [
                numpy_helper.from_array(small, f"{tensor.name}.int8"),
                numpy_helper.from_array(scale, f"{tensor.name}.scale"),
            ]
        )
        restoring += [
            helper.make_node("Cast", [f"{tensor.name}.int8"], [f"{tensor.name}.float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{tensor.name}.float", f"{tensor.name}.scale"], [tensor.name]),
        ]
    for position, node in enumerate(restoring):
        graph.node.insert(position, node)


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round [outputs, …] to int8 and a scale [outputs, 1, …], whose product is nearest to the weights."""
    axes = tuple(range(1, weights.ndim))
    scale = np.abs(weights).max(axis=axes, keepdims=True) / INT8_MAX
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.round(weights / scale).astype(np.int8), scale
