"""The files that `loading-bay upload` recognises as photos, and their names."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from loading_bay.local.photos import photos_below
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import ROOT

SAMPLES = ROOT / "events" / "photos"


def copy(sample: str, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / sample, target)


def test_only_photos_of_a_folder_are_taken_and_other_files_are_counted() -> None:
    photos, left_out = photos_below([SAMPLES])

    assert "photos/bicycle-road.jpg" in photos
    assert not [name for name in photos if name.endswith((".md", ".json"))]
    assert left_out == Counter({"not a photo": 2})


def test_a_file_that_is_named_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"a photo without a suffix")

    assert photos_below([tmp_path / "photo"]) == ({"photo": tmp_path / "photo"}, Counter())


def test_the_folder_here_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy("bicycle-road.jpg", tmp_path / "driver-7" / "1.JPG")
    monkeypatch.chdir(tmp_path / "driver-7")

    assert list(photos_below([Path()])[0]) == ["driver-7/1.JPG"]


@pytest.mark.parametrize(
    "sample",
    [
        "bicycle-road.jpg",
        "motorcycle-left.png",
        "motorcycle-portrait.webp",
        "motorcycle-right.heic",
        "bicycle-near.avif",
    ],
)
@pytest.mark.parametrize("name", ["0b9f6f3e-6a2c-4c7b", "photo.jfif", "photo.jpg.tmp", "photo.HIF"])
def test_a_photo_is_recognised_by_its_content(tmp_path: Path, sample: str, name: str) -> None:
    copy(sample, tmp_path / "in" / name)

    assert photos_below([tmp_path / "in"]) == ({f"in/{name}": tmp_path / "in" / name}, Counter())


def test_metadata_files_are_left_out_and_counted(tmp_path: Path) -> None:
    kept = tmp_path / "in" / "driver" / "1.jpg"
    hidden = ["._1.jpg", ".ipynb_checkpoints/1.jpg", "@eaDir/1.jpg/thumb.jpg", "__MACOSX/driver/1.jpg", ".git/1.jpg"]
    copy("bicycle-road.jpg", kept, *(tmp_path / "in" / name for name in hidden))
    (tmp_path / "in" / "empty.jpg").touch()
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "gone.jpg").symlink_to("nowhere")

    photos, left_out = photos_below([tmp_path / "in"])

    assert list(photos.values()) == [kept]
    assert left_out == Counter({"hidden": 5, "not a file": 2, "empty": 1})


def test_two_photos_with_one_name_are_refused_and_both_named(tmp_path: Path) -> None:
    copy("bicycle-road.jpg", tmp_path / "phone1/DCIM/1.jpg", tmp_path / "phone2/DCIM/1.jpg")

    with pytest.raises(UserError) as refused:
        photos_below([tmp_path / "phone1/DCIM", tmp_path / "phone2/DCIM"])

    assert "phone1/DCIM/1.jpg and " in refused.value.message
    assert "--prefix" in refused.value.message


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"caf\xe9.jpg", "in/caf%E9.jpg"),
        (b"a\tb.jpg", "in/a%09b.jpg"),
        (b"a\nb.jpg", "in/a%0Ab.jpg"),
        ("a\u202egpj.jpg".encode(), "in/a%E2%80%AEgpj.jpg"),
        ("Fahrräder 1+2.jpg".encode(), "in/Fahrräder 1+2.jpg"),
    ],
)
def test_any_file_name_becomes_a_key_that_prints_on_one_line(tmp_path: Path, name: bytes, key: str) -> None:
    copy("bicycle-road.jpg", tmp_path / "in" / os.fsdecode(name))

    assert list(photos_below([tmp_path / "in"])[0]) == [key]
