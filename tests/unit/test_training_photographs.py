"""Street photographs: fetched and cropped by the manifest, or read from an archive, or refused."""

import csv
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from functions.photo.image import central_square
from loading_bay.model import photographs
from loading_bay.stack.errors import UserError

from .profiles import ADOBE

INDEX = """file,label,split,source,licence,url,scale,original
train/bicycle/a.png,bicycle,train,aura,MIT,here,1.5,aura:a
test_wild/other/b.png,other,test_wild,aura,MIT,here,background,aura:b
"""


def archive(path: Path, index: str) -> Path:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(picture, "PNG")
    files = {"train/bicycle/a.png": picture.getvalue(), "test_wild/other/b.png": picture.getvalue()}
    with tarfile.open(path, "w:gz") as tar:
        for name, body in (files | {"index.csv": index.encode()}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def test_crops_come_with_their_split_and_origin(tmp_path: Path) -> None:
    found = photographs.read_archives([archive(tmp_path / "some.tar.gz", INDEX)], 32)
    (train,), (test,) = found.train, found.test
    assert (train.label, train.name, train.pixels.shape) == ("bicycle", "a.png", (32, 32, 3))
    assert (train.origin.look, train.origin.source) == ("street", "aura")
    assert (train.origin.scale, train.origin.original) == ("1.5", "aura:a")
    assert (test.label, test.origin.scale) == ("other", "background")


def test_a_source_of_unknown_licence_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "some.tar.gz", INDEX.replace(",aura,", ",somewhere,"))
    with pytest.raises(UserError, match="photographs of somewhere"):
        photographs.read_archives([path], 64)


@pytest.mark.parametrize("content", [b"", b"not a tar file"])
def test_a_file_that_is_not_an_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.tar\.gz is no archive of photographs"):
        photographs.read_archives([path], 64)


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
        "source,original,split,path,sha256,crops\n"
        f"aura,one,train,whole.jpg,{sums['whole']},bicycle 1.1 00 100 50 200 150; other background 80 0 0 50 50\n"
        f"aura,two,test,{' '.join(f'{tile}.jpg' for tile in tiles)},{' '.join(sums[tile] for tile in tiles)},"
        "motorcycle whole 90 0 64 256 256\n"
    )
    yield folder
    server.shutdown()
    server.server_close()


def test_originals_are_fetched_checked_and_cut_out_by_the_manifest(published: Path, tmp_path: Path) -> None:
    originals = photographs.read_manifest(tmp_path / "photographs.csv", tmp_path / "sources.csv")
    steps: list[tuple[int, int]] = []
    photographs.fetch(originals, tmp_path / "fetched", lambda done, total: steps.append((done, total)))
    assert steps[-1] == (17, 17)
    found = photographs.read_originals(originals, tmp_path / "fetched", 64)
    bicycle, background = found.train
    assert (bicycle.label, bicycle.origin.scale, bicycle.origin.original) == ("bicycle", "1.1", "aura:one")
    assert bicycle.pixels[..., 0].mean() > 200
    assert background.pixels[..., 0].mean() < 30
    (motorcycle,) = found.test
    for place, tile in ((8, 4), (-8, 15)):
        assert abs(int(motorcycle.pixels[place, place, 0]) - 10 * tile) < 8


def test_an_original_with_wider_colours_is_cropped_like_in_the_pipeline(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (120, 160, 130)).save(buffer, "JPEG", quality=95, icc_profile=ADOBE)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    crop = photographs.Crop("bicycle", "whole", "00", (0, 0, 64, 64))
    original = photographs.Original("aura", "wide", "train", ["here"], [checksum], [crop])
    (file,) = original.files(tmp_path)
    file.parent.mkdir()
    file.write_bytes(buffer.getvalue())
    (photo,) = photographs.read_originals([original], tmp_path, 32).train
    shown = np.asarray(central_square(buffer.getvalue(), size=32, max_pixels=10_000).image)
    assert np.array_equal(photo.pixels, shown)
    assert shown[0, 0, 0] < 110


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
    assert {licences[original.source] for original in originals} == {"CC BY 2.0", "CC BY 4.0", "MIT"}
    assert len({(original.source, original.name) for original in originals}) == len(originals)
    assert {original.split for original in originals} == {"train", "test"}
    checksums = [checksum for original in originals for checksum in original.checksums]
    assert {len(checksum) for checksum in checksums} == {64}
    assert all(len(original.addresses) == len(original.checksums) in {1, 16} for original in originals)
