"""SerializePhoto: the picture for the endpoint, and the order in a photo's metadata."""

import base64
import importlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from PIL import Image

from functions.photo.errors import PhotoTooLarge, UnreadablePhoto

KEY = "uploads/" + "ключ/" * 100 + "photo.jpg"
MOST_STATE_BYTES = 200 << 10
SETTINGS = {
    "MAX_PHOTO_BYTES": "26214400",
    "MAX_PHOTO_PIXELS": "50000000",
    "POWERTOOLS_METRICS_NAMESPACE": "LoadingBay/test",
}
CONTEXT = SimpleNamespace(
    function_name="serialize", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="id"
)
Serialize = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def app() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        app = importlib.import_module("functions.serialize.app")
    yield app
    app.decoder.close()


@pytest.fixture
def serialize(app: Any, monkeypatch: pytest.MonkeyPatch) -> Serialize:
    """Return a call of the function for one photo that lies in S3, with settings and metadata."""

    def serialize(photo: bytes, metadata: dict[str, str] | None = None, **settings: object) -> dict[str, Any]:
        client = boto3.client("s3")
        body = StreamingBody(io.BytesIO(photo), len(photo))
        answer = {"Body": body, "ContentLength": len(photo), "LastModified": datetime(2026, 11, 28, tzinfo=UTC)}
        monkeypatch.setattr(app, "s3", client)
        monkeypatch.setattr(app, "settings", replace(app.settings, **settings))
        with Stubber(client) as stub:
            stub.add_response("get_object", answer | {"Metadata": metadata or {}})
            record: dict[str, Any] = app.handler({"s3_bucket": "inbox", "s3_key": KEY, "order": "forged"}, CONTEXT)
        return record

    return serialize


def picture(record: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(record["image_data"])))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(4).randbytes(size[0] * size[1] * 3))


def checks(size: tuple[int, int]) -> Image.Image:
    """Neighbouring pixels of opposite colours, the worst case for JPEG."""
    colours = np.array([[255, 0, 255], [0, 255, 0]], np.uint8)
    return Image.fromarray(colours[np.indices(size[::-1]).sum(0) % 2])


def test_the_whole_photo_goes_on_upright_as_a_jpeg(serialize: Serialize) -> None:
    # Given a photo that a phone stored on its side, red above and blue below
    upright = Image.new("RGB", (600, 1200), "red")
    upright.paste("blue", (0, 600, 600, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6

    record = serialize(encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif))

    sent = picture(record)
    assert (record["content_type"], sent.format, sent.size) == ("image/jpeg", "JPEG", (208, 416))
    for row, colour in ((10, (255, 0, 0)), (400, (0, 0, 255))):
        assert np.abs(np.asarray(sent)[row, 100].astype(int) - colour).max() < 10
    assert record["photo"] == {"format": "JPEG", "width": 1200, "height": 600, "bytes": record["photo"]["bytes"]}


def test_the_central_square_goes_on_as_a_png(serialize: Serialize) -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))

    record = serialize(encode(wide, "PNG"), is_square=True, image_size=64)

    sent = picture(record)
    assert (record["content_type"], sent.format, sent.size) == ("image/png", "PNG", (64, 64))
    assert np.asarray(sent)[32, 2].tolist() == [0, 0, 255]


def test_a_small_photo_keeps_its_size(serialize: Serialize) -> None:
    assert picture(serialize(encode(noise((40, 30)), "PNG"))).size == (40, 30)


@pytest.mark.parametrize("shape", [(640, 640), (2560, 2560), (640, 400)])
@pytest.mark.parametrize("scene", [noise, checks], ids=["noise", "checks"])
def test_no_photo_makes_a_state_of_the_workflow_too_large(
    scene: Callable[[tuple[int, int]], Image.Image], shape: tuple[int, int], serialize: Serialize
) -> None:
    record = serialize(encode(scene(shape), "PNG"), image_size=640)

    assert len(json.dumps(record)) < MOST_STATE_BYTES
    assert max(picture(record).size) == 640


def test_a_photo_keeps_as_much_quality_as_its_size_allows(serialize: Serialize) -> None:
    smooth = Image.radial_gradient("L").resize((900, 700)).convert("RGB")

    sent = picture(serialize(encode(smooth, "PNG"), image_size=640))

    expected = smooth.resize(sent.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(sent).astype(int) - np.asarray(expected)).mean() < 1
    noisy = serialize(encode(noise((640, 640)), "PNG"), image_size=640)["image_data"]
    assert len(noisy) > 100_000


@pytest.mark.parametrize("order", ["A-17", "7", "a_b-C", "x" * 64])
def test_the_order_of_a_photo_goes_on(order: str, serialize: Serialize, capsys: pytest.CaptureFixture[str]) -> None:
    record = serialize(encode(noise((8, 8)), "PNG"), {"order": order, "driver": "7"})

    assert record["order"] == order
    assert "OrdersInvalid" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("photo", "error", "reason"),
    [
        (b"no photo", UnreadablePhoto, "not a JPEG, PNG, WebP, HEIC or AVIF photo"),
        (bytes(200), PhotoTooLarge, "the photo has 200 bytes, more than 100 are accepted"),
    ],
    ids=["unreadable", "too large"],
)
@pytest.mark.parametrize(
    ("metadata", "order"), [({"order": "A-17"}, {"order": "A-17"}), ({"order": "A 17"}, {}), ({}, {})]
)
def test_a_rejection_names_the_reason_and_the_order(
    metadata: dict[str, str],
    order: dict[str, str],
    photo: bytes,
    error: type[Exception],
    reason: str,
    serialize: Serialize,
) -> None:
    with pytest.raises(error) as rejected:
        serialize(photo, metadata, max_bytes=100)

    assert json.loads(str(rejected.value)) == {"reason": reason} | order


@pytest.mark.parametrize(
    "metadata",
    [{}, {"driver": "7"}],
)
def test_a_photo_without_an_order_has_none(
    metadata: dict[str, str], serialize: Serialize, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "order" not in serialize(encode(noise((8, 8)), "PNG"), metadata)
    assert "OrdersInvalid" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "order",
    [
        "",
        "x" * 65,
        "A 17",
        "A-17\n",
        "Ä-17",
        "１７",  # digits, but not ASCII
        "Ã\x84-17",  # UTF-8 as HTTP headers are read
        "A%2D17",
        "=?UTF-8?Q?=C3=84-17?=",
        "=?UTF-8?B?w4QtMTc=?=",
        "../../A-17",
        "<script>",
        "A-17,B-18",
    ],
)
def test_an_invalid_order_is_left_out_and_counted(
    order: str, serialize: Serialize, capsys: pytest.CaptureFixture[str]
) -> None:
    record = serialize(encode(noise((8, 8)), "PNG"), {"order": order})

    assert "order" not in record
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "OrdersInvalid" in line]
    assert [line["OrdersInvalid"] for line in counted] == [[1.0]]
