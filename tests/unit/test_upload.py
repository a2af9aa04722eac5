"""Which files `loading-bay upload` takes for photos."""

from pathlib import Path

import pytest

from loading_bay.local.photos import photos_below
from loading_bay.stack.template import ROOT


def test_of_a_folder_only_photos_are_taken_and_the_rest_is_counted() -> None:
    photos, skipped = photos_below([ROOT / "events" / "photos"])

    names = [name for name, _ in photos]
    assert "photos/bicycle-road.jpg" in names
    assert not [name for name in names if name.endswith((".md", ".json"))]
    assert skipped == 2


def test_a_file_that_is_named_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"a photo without a suffix")

    assert photos_below([tmp_path / "photo"]) == ([("photo", tmp_path / "photo")], 0)


def test_the_folder_here_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "driver-7").mkdir()
    (tmp_path / "driver-7" / "1.JPG").write_bytes(b"a photo")
    monkeypatch.chdir(tmp_path / "driver-7")

    assert [name for name, _ in photos_below([Path()])[0]] == ["driver-7/1.JPG"]
