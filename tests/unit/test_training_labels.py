"""Labels: people's decisions, fetched from the bucket; some are learned, some are always held out."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws
from PIL import Image

from loading_bay.model import staging
from loading_bay.model.dataset import Dataset, Origin, Photo, encoded, read_photo
from loading_bay.model.labels import LARGEST_WEIGHT, Labels, fetch, read_labels
from loading_bay.model.retraining import joined
from loading_bay.stack.addresses import Address
from loading_bay.stack.errors import UserError

NAMES = ["bicycle", "motorcycle"]
LABELS = Address("inbox", "labels/")


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((32, 32))


def staged(image: Image.Image) -> bytes:
    return encoded(image, Origin(), lossless=True)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="inbox")
        yield client


def names(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.suffix}" for path in folder.glob("*/*")}


def test_labels_are_fetched_once_by_class_and_follow_the_bucket(s3: Any, tmp_path: Path) -> None:
    for k, label in enumerate(("bicycle", "motorcycle", "neither")):
        s3.put_object(Bucket="inbox", Key=f"labels/{label}/claim-{k}-photo.PNG", Body=png(k))
    s3.put_object(Bucket="inbox", Key="uploads/other.png", Body=png(9))

    assert fetch(s3, LABELS, tmp_path) == (3, 0)
    assert names(tmp_path) == {"bicycle/.png", "motorcycle/.png", "neither/.png"}
    (kept,) = (tmp_path / "bicycle").iterdir()

    kept.write_bytes(b"not fetched again")
    s3.delete_object(Bucket="inbox", Key="labels/motorcycle/claim-1-photo.PNG")
    s3.put_object(Bucket="inbox", Key="labels/bicycle/claim-1-photo.PNG", Body=png(1))
    fetch(s3, LABELS, tmp_path)

    assert kept.read_bytes() == b"not fetched again"
    assert list((tmp_path / "motorcycle").iterdir()) == []
    assert len(list((tmp_path / "bicycle").iterdir())) == 2


ODD = ["labels/../outside.png", "labels/bicycle/a/../../../b.png", "labels/loose.png", "labels/bicycle/"]
ODD += ["labels/a\0b/1.png", "labels/a\nbicycle/1.png", f"labels/{'🚲' * 62}/1.png", f"labels/{'x' * 300}/1.png"]


@pytest.mark.parametrize("key", ODD)
def test_a_key_cannot_lead_out_of_the_folder_or_stop_the_others(s3: Any, tmp_path: Path, key: str) -> None:
    s3.put_object(Bucket="inbox", Key=key, Body=png(0))
    s3.put_object(Bucket="inbox", Key="labels/bicycle/good.png", Body=png(1))

    assert fetch(s3, LABELS, tmp_path / "deep/labels") == (1, 1)
    assert [path.parent.name for path in tmp_path.rglob("*.png")] == ["bicycle"]


def test_files_that_were_not_fetched_stay(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "bicycle").mkdir()
    (tmp_path / "bicycle/mine.png").write_bytes(png(7))
    (tmp_path / "notes.txt").write_text("mine")
    s3.put_object(Bucket="inbox", Key="labels/bicycle/claim-1", Body=png(1))
    fetch(s3, LABELS, tmp_path)
    s3.delete_object(Bucket="inbox", Key="labels/bicycle/claim-1")
    s3.put_object(Bucket="inbox", Key="labels/motorcycle/claim-2", Body=png(2))

    fetch(s3, LABELS, tmp_path)

    assert names(tmp_path) == {"bicycle/.png", "motorcycle/.photo"}
    assert (tmp_path / "bicycle/mine.png").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_photo_whose_label_is_corrected_keeps_its_name(s3: Any, tmp_path: Path) -> None:
    claim = "0f0e0d0c-0b0a-4908-8706-050403020100"
    s3.put_object(Bucket="inbox", Key=f"labels/bicycle/{claim}-decided", Body=png(1))
    fetch(s3, LABELS, tmp_path)
    (before,) = (tmp_path / "bicycle").iterdir()
    s3.delete_object(Bucket="inbox", Key=f"labels/bicycle/{claim}-decided")
    s3.put_object(Bucket="inbox", Key=f"labels/motorcycle/{claim}-corrected", Body=png(1))

    fetch(s3, LABELS, tmp_path)

    (after,) = (tmp_path / "motorcycle").iterdir()
    assert (after.name, before.exists()) == (before.name, False)


def test_fetched_labels_tell_audits_from_reviews(s3: Any, tmp_path: Path) -> None:
    for k, share in enumerate(["0.02", None, "0.5"]):
        body, metadata = png(k), {"chosen": "audit", "audit-share": share} if share else {"chosen": "review"}
        s3.put_object(Bucket="inbox", Key=f"labels/{NAMES[k % 2]}/claim-{k}", Body=body, Metadata=metadata)
    s3.put_object(Bucket="inbox", Key="labels/motorcycle/claim-of-an-earlier-version", Body=png(3))
    fetch(s3, LABELS, tmp_path)
    found = read_labels(tmp_path, NAMES)
    s3.delete_object(Bucket="inbox", Key="labels/bicycle/claim-2")
    fetch(s3, LABELS, tmp_path)
    later = read_labels(tmp_path, NAMES)

    photos = [*found.learned, *found.held_out]
    assert {photo.label for photo in photos if photo.name in found.audited} == {"bicycle"}
    assert sorted(found.audited.values()) == [0.02, 0.5]
    assert list(later.audited.values()) == [0.02]
    # Half of the accepted photos were seen, so each counts for two; one in fifty counts for no more than the bound.
    assert sorted(photo.origin.weight for photo in photos) == [1, 1, 2, LARGEST_WEIGHT]
    assert sorted(read_photo("", "", photo.data).origin.weight for photo in photos) == [1, 1, 2, LARGEST_WEIGHT]


def test_a_bucket_without_labels_says_how_they_are_made(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="people make them by deciding photos in review"):
        fetch(s3, LABELS, tmp_path)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    for k in range(120):
        path = tmp_path / "labels" / (*NAMES, "neither")[k % 3] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(k))
    return tmp_path / "labels"


def held(found: Labels) -> set[str]:
    return {photo.name for photo in [*found.held_out, *found.held_out_outliers]}


def test_a_third_is_held_out_and_stays_so_when_more_arrive(labels: Path) -> None:
    first = read_labels(labels, NAMES)
    for k in range(120, 240):
        (labels / (*NAMES, "neither")[k % 3] / f"{k}.png").write_bytes(png(k))
    second = read_labels(labels, NAMES)

    assert 25 <= len(held(first)) <= 55
    assert held(first) == {name for name in held(second) if int(name.removesuffix(".png")) < 120}
    assert {photo.label for photo in second.held_out_outliers} == {"neither"}
    assert sum(learned + held_out for _, learned, held_out in second.counts()) == 240


def test_labels_join_the_training_data_but_not_the_test_data(labels: Path, tmp_path: Path) -> None:
    def photos(start: int) -> list[Photo]:
        return [Photo(f"{k}.png", NAMES[k % 2], staged(picture(k))) for k in range(start, start + 4)]

    def others(start: int) -> list[Photo]:
        return [Photo(f"{k}.png", "cat", staged(picture(k))) for k in range(start, start + 4)]

    base = Dataset(NAMES, photos(1000), photos(1010), photos(1020), others(1030), others(1040), others(1050), 0, "d", 1)
    (tmp_path / "detector.onnx").write_bytes(b"a detector")
    staging.write(base, tmp_path / "staged", tmp_path / "detector.onnx")
    found = read_labels(labels, NAMES)
    # A driver's second photo of the same scene, a little brighter, was held out: the first must not be learned.
    twin = found.learned[0]
    brighter = np.clip(twin.pixels.astype(int) + 9, 0, 255).astype(np.uint8)
    found.held_out.append(Photo("twin.png", twin.label, staged(Image.fromarray(brighter))))

    data = joined(tmp_path / "staged", found)

    known = {photo.name for photo in [*data.train, *data.validation]}
    assert {photo.name for photo in data.test} == {photo.name for photo in base.test}
    assert {photo.name for photo in found.learned[1:]} <= known
    assert twin.name not in known
    assert data.dropped == 1
    assert not known & held(found)
    assert {photo.label for photo in data.train_outliers} == {"cat", "neither"}
    assert data.digest != base.digest


def test_of_contradicting_labels_only_the_one_that_the_table_names_is_fetched(s3: Any, tmp_path: Path) -> None:
    for label in NAMES:
        s3.put_object(Bucket="inbox", Key=f"labels/{label}/claim-{label}", Body=png(1))

    assert fetch(s3, LABELS, tmp_path, {"labels/motorcycle/claim-motorcycle"}) == (1, 1)
    assert [path.parent.name for path in tmp_path.glob("*/*")] == ["motorcycle"]
