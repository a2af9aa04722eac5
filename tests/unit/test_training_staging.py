"""The staged data set: files, lists, and the copy in S3."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws
from PIL import Image

from loading_bay.model import staging
from loading_bay.model.dataset import Dataset, Origin, Photo, Vehicle, encoded
from loading_bay.stack.errors import UserError

NOWHERE = Origin()


def photo(label: str, name: str, origin: Origin = NOWHERE, *vehicles: Vehicle) -> Photo:
    generator = np.random.default_rng(len(label) + sum(name.encode()))
    image = Image.fromarray(generator.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    data = encoded(image, origin, vehicles, lossless=name.endswith("png"))
    return Photo(name, label, data, origin, vehicles)


def data() -> Dataset:
    both = [photo("bicycle", "bike_s_1.png"), photo("motorcycle", "moto_s_2.png")]
    return Dataset(
        class_names=["bicycle", "motorcycle"],
        train=[*both, photo("bicycle", "a b+c.jpg"), photo("bicycle", "a b+c.png")],
        validation=both,
        test=both,
        train_outliers=[photo("cat", "cat.png")],
        validation_outliers=[],
        test_outliers=[photo("dog", "dog.png")],
        dropped=3,
        digest="sha256:0",
        seed=1,
        validation_several=[photo("several", "both.jpg")],
        test_crops=[photo("bicycle", "crop.jpg")],
    )


@pytest.fixture
def published(tmp_path: Path) -> Path:
    file = tmp_path.parent / f"{tmp_path.name}-published.onnx"
    file.write_bytes(b"a detector")
    return file


@pytest.fixture
def folder(tmp_path: Path, published: Path) -> Path:
    staging.write(data(), tmp_path / "staged", published)
    return tmp_path / "staged"


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="photos")
        yield client


def upload(s3: Any, folder: Path) -> int:
    return staging.upload(s3, folder, "photos", "cifar", lambda done, total: None)


def test_photos_keep_their_files_byte_for_byte(folder: Path) -> None:
    again = staging.read_split(folder / "train", ["bicycle", "motorcycle"])
    assert {(item.label, item.data) for item in again} == {(item.label, item.data) for item in data().train}
    assert (folder / "train/bicycle/bike_s_1.png").is_file()


def test_what_is_staged_can_be_read_and_staged_again(folder: Path, published: Path, tmp_path: Path) -> None:
    again = staging.write(staging.read(folder), tmp_path / "again", staging.detector(folder))
    assert again == staging.read_manifest(folder)

    def photos(root: Path) -> dict[Path, bytes]:
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.[jp][pn]g")}

    assert len(photos(folder)) == 12
    assert photos(tmp_path / "again") == photos(folder)
    assert staging.detector(folder).read_bytes() == published.read_bytes()


def test_photos_keep_their_origin_and_their_vehicles_wherever_their_files_go(tmp_path: Path, published: Path) -> None:
    origin, vehicle = Origin("street", "openimages", "whole", "openimages:00f3a1"), Vehicle("bicycle", (1, 2, 3, 4))
    train = [photo(item.label, item.name, origin, vehicle) for item in data().train]
    manifest = staging.write(replace(data(), train=train), tmp_path / "staged", published)
    assert manifest.smallest_side == 32
    found = staging.read_split(tmp_path / "staged/train")
    assert {(item.origin, item.vehicles) for item in found} == {(origin, (vehicle,))}


def test_two_photos_of_one_stem_both_stay(tmp_path: Path, published: Path) -> None:
    twins = [photo("bicycle", "a b+c.jpg"), photo("bicycle", "a b+c.jpg")]
    staging.write(replace(data(), train=[*data().train, *twins]), tmp_path / "staged", published)
    assert {path.name for path in (tmp_path / "staged/train/bicycle").iterdir()} == {
        "bike_s_1.png",
        "a b+c.png",
        "a b+c.jpg",
        "a b+c.jpg.jpg",
    }


def test_lists_have_the_format_of_sagemaker(folder: Path) -> None:
    lines = (folder / "train.lst").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3]
    for _, number, path in rows:
        assert (folder / "train" / path).is_file()
        assert number == {"bicycle": "0", "motorcycle": "1"}[path.split("/")[0]]
    assert {path.name for path in folder.glob("*.lst")} == {"train.lst", "validation.lst", "test.lst"}


def test_the_manifest_describes_the_data_set(folder: Path) -> None:
    manifest = staging.read_manifest(folder)
    assert manifest.class_names == ["bicycle", "motorcycle"]
    assert manifest.counts == {
        "train": 4,
        "validation": 2,
        "test": 2,
        "outliers/train": 1,
        "outliers/validation": 0,
        "outliers/test": 1,
        "several/train": 0,
        "several/validation": 1,
        "several/test": 0,
        "crops/validation": 0,
        "crops/test": 1,
    }
    assert (manifest.dropped, manifest.digest, manifest.seed) == (3, "sha256:0", 1)


def test_staging_again_replaces_what_was_staged(folder: Path, published: Path) -> None:
    staging.write(replace(data(), train=data().validation), folder, published)
    assert not (folder / "train/bicycle/a b+c.png").exists()
    assert len(staging.read_split(folder / "train")) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["staged"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, published: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match="no staged data set: give another --output"):
        staging.write(data(), tmp_path, published)
    assert (tmp_path / "thesis.txt").exists()


def test_an_unstaged_folder_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loading-bay model stage"):
        staging.read_manifest(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, published: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .*give another --output"):
        staging.write(data(), tmp_path / "file" / "staged", published)


def test_upload_mirrors_the_folder(s3: Any, folder: Path) -> None:
    files = {f"cifar/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}
    assert upload(s3, folder) == len(files)
    assert {item["Key"] for item in s3.list_objects_v2(Bucket="photos")["Contents"]} == files
    assert "cifar/train/bicycle/a b+c.png" in files


def test_a_second_upload_sends_only_changes(s3: Any, folder: Path) -> None:
    upload(s3, folder)
    assert upload(s3, folder) == 0
    (folder / "train.lst").write_text("0\t0\tbicycle/bike_s_1.png\n")
    assert upload(s3, folder) == 1


def test_progress_counts_every_file(s3: Any, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    staging.upload(s3, folder, "photos", "cifar", lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_a_missing_bucket_says_how_to_make_one(s3: Any, folder: Path) -> None:
    with pytest.raises(UserError, match="aws s3 mb"):
        staging.upload(s3, folder, "nowhere", "cifar", lambda done, total: None)


def test_missing_credentials_name_the_command_to_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.session.Session().client("s3", region_name="us-east-1")
    with pytest.raises(UserError, match="no AWS credentials; run aws configure"):
        staging.upload(client, folder, "photos", "cifar", lambda done, total: None)
