"""Photographs from the street: what is read of an archive, and what is refused."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from stack.errors import UserError
from training import photographs

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
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.tar\.gz is no archive of photographs"):
        photographs.read_archives([path], 64)
