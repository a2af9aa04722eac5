"""The staged data set: files, lists, and the copy in S3."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws

from loading_bay.model import staging
from loading_bay.model.dataset import Dataset, Origin, Photo
from loading_bay.stack.errors import UserError


def photo(label: str, name: str) -> Photo:
    generator = np.random.default_rng(len(label) + sum(name.encode()))
    return Photo(name, label, generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))


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
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    staging.write(data(), tmp_path / "staged")
    return tmp_path / "staged"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="photos")
        yield client


def upload(s3: Any, folder: Path) -> int:
    return staging.upload(s3, folder, "photos", "cifar", lambda done, total: None)


def test_images_keep_their_names_and_pixels(folder: Path) -> None:
    again = staging.read_split(folder / "train", ["bicycle", "motorcycle"])
    expected = {(item.label, item.pixels.tobytes()) for item in data().train}
    assert {(item.label, item.pixels.tobytes()) for item in again} == expected
    assert (folder / "train/bicycle/bike_s_1.png").is_file()


def test_images_keep_their_origin_in_any_folder(tmp_path: Path) -> None:
    origin = Origin("street", "openimages", "1.5", "openimages:00f3a1")
    train = [replace(item, origin=origin) for item in data().train]
    manifest = staging.write(replace(data(), train=train), tmp_path / "staged")
    assert manifest.image_size == 32
    assert {item.origin for item in staging.read_split(tmp_path / "staged/train")} == {origin}


def test_two_photos_with_the_same_stem_are_both_kept(folder: Path) -> None:
    assert {path.name for path in (folder / "train/bicycle").iterdir()} == {
        "bike_s_1.png",
        "a b+c.png",
        "a b+c.png.png",
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
    }
    assert (manifest.dropped, manifest.digest, manifest.seed) == (3, "sha256:0", 1)


def test_staging_again_replaces_the_old_data_set(folder: Path) -> None:
    staging.write(replace(data(), train=data().validation), folder)
    assert not (folder / "train/bicycle/a b+c.png").exists()
    assert len(staging.read_split(folder / "train")) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["staged"]


def test_a_folder_with_other_files_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match="no staged data set: give another --output"):
        staging.write(data(), tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_an_unstaged_folder_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loading-bay model stage"):
        staging.read_manifest(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .*give another --output"):
        staging.write(data(), tmp_path / "file" / "staged")


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
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.session.Session().client("s3", region_name="us-east-1")
    with pytest.raises(UserError, match="no AWS credentials; run aws configure"):
        staging.upload(client, folder, "photos", "cifar", lambda done, total: None)
