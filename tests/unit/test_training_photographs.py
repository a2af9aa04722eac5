"""Photographs are fetched, reduced and cut out by the manifest, get one label as a whole, or are refused."""

import csv
import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from functions.photo.image import upright
from loading_bay.model import photographs
from loading_bay.model.dataset import Vehicle, encoded
from loading_bay.stack.errors import UserError

from .profiles import ADOBE


def quiet(done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    """The folder of a site that publishes one photograph whole and one in sixteen tiles."""
    folder = tmp_path / "site"
    folder.mkdir()
    whole = Image.new("RGB", (300, 200), "green")
    whole.paste((255, 0, 0), (100, 50, 200, 150))
    whole.save(folder / "whole.jpg", quality=95)
    for number in range(16):
        Image.new("RGB", (64, 64), (10 * number, 0, 200)).save(folder / f"{number}.jpg", quality=95)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            """Do not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    header = "source,look,licence,credit,address"
    (tmp_path / "sources.csv").write_text(f"{header}\naura,street,MIT,us,http://127.0.0.1:{server.server_port}/\n")
    sums = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    tiles = [str(number) for number in range(16)]
    (tmp_path / "photographs.csv").write_text(
        "source,original,split,path,sha256,crops,vehicles\n"
        f"aura,one,train,whole.jpg,{sums['whole']},bicycle 1.1 00 100 50 200 150; other background 80 0 0 50 50,"
        "bicycle 100 50 200 150; unsure 0 0 20 20\n"
        f"aura,two,test,{' '.join(f'{tile}.jpg' for tile in tiles)},{' '.join(sums[tile] for tile in tiles)},"
        "motorcycle whole 90 0 64 256 256,motorcycle 0 64 256 256\n"
    )
    yield folder
    server.shutdown()
    server.server_close()


def test_originals_are_fetched_checked_reduced_and_cut_out_by_the_manifest(published: Path, tmp_path: Path) -> None:
    originals = photographs.read_manifest(tmp_path / "photographs.csv", tmp_path / "sources.csv")
    steps: list[tuple[int, int]] = []
    photographs.fetch(originals, tmp_path / "fetched", lambda done, total: steps.append((done, total)))
    assert steps[-1] == (17, 17)
    whole = photographs.read_originals(originals, tmp_path / "fetched", quiet)
    (photo,), (tiled,) = whole.train, whole.test
    assert (photo.label, photo.size, photo.origin.scale) == ("bicycle", (300, 200), "whole")
    assert [vehicle.label for vehicle in photo.vehicles] == ["bicycle", "unsure"]
    assert photo.pixels[60:140, 110:190, 0].mean() > 240
    assert photo.pixels[:40, :90, 0].mean() < 20
    assert (tiled.label, tiled.size) == ("motorcycle", (256, 256))
    crops = photographs.read_crops(originals, tmp_path / "fetched", quiet)
    bicycle, background = crops.train
    assert (bicycle.label, bicycle.origin.scale, bicycle.origin.original) == ("bicycle", "1.1", "aura:one")
    assert bicycle.size == (100, 100)
    assert bicycle.pixels[..., 0].mean() > 200
    assert background.pixels[..., 0].mean() < 30
    (motorcycle,) = crops.test
    for place, tile in ((8, 4), (-8, 15)):
        assert abs(int(motorcycle.pixels[place, place, 0]) - 10 * tile) < 8


def test_an_original_with_wider_colours_is_reduced_as_the_pipeline_would_show_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (120, 160, 130)).save(buffer, "JPEG", quality=95, icc_profile=ADOBE)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    vehicle = Vehicle("bicycle", (0, 0, 64, 64))
    original = photographs.Original("aura", "wide", "train", ["here"], [checksum], [], [vehicle])
    (file,) = original.files(tmp_path)
    file.parent.mkdir()
    file.write_bytes(buffer.getvalue())
    (photo,) = photographs.read_originals([original], tmp_path, quiet).train
    shown = upright(buffer.getvalue(), longest_side=416, max_pixels=10_000).image
    assert photo.data == encoded(shown, photo.origin, [vehicle])
    assert shown.getpixel((0, 0))[0] < 110  # type: ignore[index]


def original(*vehicles: tuple[str, float], crops: str = "bicycle") -> photographs.Original:
    """Make an original whose vehicles fill such shares of 100 × 100 pixels."""
    boxes = [Vehicle(label, (0, 0, 100 * share, 100)) for label, share in vehicles]
    crop = photographs.Crop(crops, "1.1", "00", (0, 0, 10, 10))
    return photographs.Original("aura", "x", "train", [], [], [crop], boxes)


@pytest.mark.parametrize(
    ("found", "label"),
    [
        (original(("bicycle", 0.5)), "bicycle"),
        (original(("bicycle", 0.5), ("motorcycle", 0.1)), "bicycle"),
        (original(("bicycle", 0.5), ("motorcycle", 0.2)), "several"),
        (original(("motorcycle", 0.3), ("motorcycle", 0.2)), "motorcycle"),
        (original(), "other"),
        (original(("unsure", 0.1)), None),
        (original(("unsure", 0.6), ("bicycle", 0.5)), None),
        (original(("motorcycle", 0.005), crops="other"), None),
        (original(("motorcycle", 0.02), crops="other"), "motorcycle"),
        (original(("bicycle", 0.005)), "bicycle"),
    ],
)
def test_a_photograph_is_of_what_is_prominent_in_it(found: photographs.Original, label: str | None) -> None:
    assert found.label(100 * 100) == label


def test_only_missing_photographs_are_fetched_again(published: Path, tmp_path: Path) -> None:
    originals = photographs.read_manifest(tmp_path / "photographs.csv", tmp_path / "sources.csv")
    photographs.fetch(originals, tmp_path / "fetched", lambda done, total: None)
    (published / "whole.jpg").unlink()
    missing = originals[1].files(tmp_path / "fetched")[3]
    missing.unlink()
    photographs.fetch(originals, tmp_path / "fetched", lambda done, total: None)
    assert missing.is_file()


def test_a_changed_original_is_refused(published: Path, tmp_path: Path) -> None:
    originals = photographs.read_manifest(tmp_path / "photographs.csv", tmp_path / "sources.csv")
    Image.new("RGB", (300, 200), "blue").save(published / "whole.jpg")
    with pytest.raises(UserError, match=r"whole\.jpg arrived with sha256"):
        photographs.fetch(originals, tmp_path / "fetched", lambda done, total: None)


def test_every_original_of_the_manifest_has_a_licensed_source_and_is_in_one_split() -> None:
    licences = {row["source"]: row["licence"] for row in csv.DictReader(photographs.SOURCES.open(encoding="utf-8"))}
    originals = photographs.read_manifest()
    assert {licences[original.source] for original in originals} == {"CC BY 2.0", "CC BY 4.0", "CC BY-SA 4.0", "MIT"}
    assert len({(original.source, original.name) for original in originals}) == len(originals)
    assert {original.split for original in originals} == {"train", "test"}
    checksums = [checksum for original in originals for checksum in original.checksums]
    assert {len(checksum) for checksum in checksums} == {64}
    assert all(len(original.addresses) == len(original.checksums) in {1, 16} for original in originals)
    vehicles = [vehicle for original in originals for vehicle in original.vehicles]
    assert {vehicle.label for vehicle in vehicles} == {"bicycle", "motorcycle", "unsure"}
    assert all(vehicle.area > 0 for vehicle in vehicles)
