"""Export: one small ONNX file that holds everything from raw pixels to calibrated probabilities."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .network import EfficientNetLite0, Servable
from .settings import seeds_text

OPSET = 18
# Below this many numbers a weight is not worth compressing; biases never are.
COMPRESSIBLE = 1024
INT8_MAX = 127


@dataclass(frozen=True)
class Description:
    """What the file says about itself in its metadata, where the endpoint and the evaluation read it."""

    class_names: Sequence[str]
    input_size: int
    threshold: float
    seeds: Sequence[int]
    data_digest: str

    def metadata(self, temperature: float) -> dict[str, str]:
        """Give it as ONNX keeps it: text by name."""
        return {
            "class_names": json.dumps(list(self.class_names)),
            "input_size": str(self.input_size),
            "threshold": str(self.threshold),
            "temperature": f"{temperature:.6f}",
            "seeds": seeds_text(self.seeds),
            "data_digest": self.data_digest,
        }


def export(
    network: EfficientNetLite0, network_side: int, temperature: float, description: Description, path: Path
) -> None:
    """Write the graph: `image` uint8 [N, side, side, 3] in, `probabilities` float [N, classes] out."""
    side = description.input_size
    servable = Servable(network, side, network_side, temperature).eval()
    with warnings.catch_warnings():
        # The tracing exporter warns that there is a newer one; that needs a package more for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            servable,
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            path,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes={"image": {0: "N"}, "probabilities": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    compress(model)
    helper.set_model_props(model, description.metadata(temperature))
    onnx.checker.check_model(model)
    onnx.save(model, path)


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
