"""The data set: its images, the dropped ones, and the splits."""

import io
import os
import pickle
import struct
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loading_bay.model import dataset
from loading_bay.model.dataset import Origin, Photo, Pixels, Source, Vehicle, encoded
from loading_bay.stack.errors import UserError

CLASSES = ["bicycle", "motorcycle"]


def file(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels), Origin(), lossless=True)


def photo(label: str, number: int) -> Photo:
    generator = np.random.default_rng(number * 7919 + len(label))
    return Photo(f"{label}_{number}.png", label, file(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)))


def source(count: int = 20, test: int = 0) -> Source:
    train = [photo(label, number) for label in CLASSES for number in range(count)]
    held = [photo(label, 1000 + number) for label in CLASSES for number in range(test)]
    outliers = [photo("cat", number) for number in range(10)]
    return Source(train, held, outliers, [photo("dog", 1)], "sha256:0")


def cifar_archive(path: Path, rows: list[tuple[str, int]], payload: object = None) -> None:
    """Write a tiny archive with the layout of CIFAR-100: the given names and labels in both splits."""
    data = np.arange(len(rows) * 3072, dtype=np.uint32).astype(np.uint8).reshape(len(rows), 3072)
    split = {
        b"filenames": [name.encode() for name, _ in rows],
        b"fine_labels": [label for _, label in rows],
        b"data": data if payload is None else payload,
    }
    meta = {b"fine_label_names": [b"bicycle", b"cattle", b"motorcycle"]}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("train", split), ("test", split), ("meta", meta)):
            body = pickle.dumps(content, protocol=4)
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def test_an_archive_is_read_by_class_and_others_become_outliers(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar.gz"
    cifar_archive(path, [("bike_s_1.png", 0), ("cow.png", 1), ("moto_s_2.png", 2)])
    found = dataset.read_cifar(path, CLASSES)
    assert [(item.name, item.label) for item in found.train] == [
        ("bike_s_1.png", "bicycle"),
        ("moto_s_2.png", "motorcycle"),
    ]
    assert [item.label for item in found.outliers] == ["cattle"]
    assert {item.origin.look for item in found.train} == {"small"}
    # A row is all red values, then green, then blue.
    first = np.arange(3072, dtype=np.uint32).astype(np.uint8)
    assert found.train[0].pixels.shape == (32, 32, 3)
    assert (found.train[0].pixels[0, 1] == [first[1], first[1025], first[2049]]).all()
    assert found.digest.startswith("sha256:")


def test_the_user_sets_the_order_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar.gz"
    cifar_archive(path, [("bike_s_1.png", 0), ("moto_s_2.png", 2)])
    assert {item.label for item in dataset.read_cifar(path, ["motorcycle", "bicycle"]).train} == set(CLASSES)


def test_an_archive_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "evil.tar.gz"
    cifar_archive(path, [("bike_s_1.png", 0)], payload=Evil())
    with pytest.raises(UserError, match="has no place in a data set"):
        dataset.read_cifar(path, CLASSES)
    assert not (tmp_path / "ran").exists()


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def called(name: bytes, arguments: bytes) -> bytes:
    """A pickle's call of one of the three names that an array needs."""
    return b"cnumpy\n" + name + b"\n(" + arguments + b"tR"


def called_dtype(name: bytes) -> bytes:
    return called(b"dtype", text(name))


SHAPE = b"(J\x01\x00\x00\x00J\x00\x0c\x00\x00t"  # 1 × 3,072
POINTERS = text(b"A" * 8 * 3072)
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
HOSTILE = {
    "pointers of its choosing": called(b"ndarray", SHAPE + called_dtype(b"O") + POINTERS),
    "a terabyte": called(b"ndarray", b"(\x8a\x06\x00\x00\x00\x00\x00\x01t" + called_dtype(b"u1")),
    "pointers by its state": EMPTY + b"(K\x01" + SHAPE + called_dtype(b"O") + b"\x89" + POINTERS + b"tb",
    "numbers of other sizes": EMPTY + b"(K\x01" + SHAPE + called_dtype(b"f8") + b"\x89" + POINTERS + b"tb",
    "a list as its content": EMPTY + b"(K\x01" + SHAPE + called_dtype(b"u1") + b"\x89](K\x01etb",
    "another shape": EMPTY + b"(K\x01" + SHAPE + called_dtype(b"u1") + b"\x89C\x02ab" + b"tb",
    "the state of a class": b"cnumpy\nndarray\n(K\x01tb",
    "a dtype of many parts": called(b"dtype", b"]" + text(b"u1") + b"a"),
    "a memo of gigabytes": b"]r\xff\xff\xff\x7f",
    "no array": b"K\x07",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_cannot_name_memory_or_take_much_of_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "evil.tar.gz"
    split = b"\x80\x02}(C\x04data" + HOSTILE[kind] + b"C\x09filenames](C\x05a.pngeC\x0bfine_labels](K\x00eu."
    meta = pickle.dumps({b"fine_label_names": [b"bicycle", b"motorcycle"]}, protocol=2)
    with tarfile.open(path, "w:gz") as tar:
        for name, body in (("train", split), ("test", split), ("meta", meta)):
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))

    with pytest.raises(UserError, match="not CIFAR-100's Python archive") as refused:
        dataset.read_cifar(path, CLASSES)

    assert len(str(refused.value).splitlines()) == 1


def test_a_member_of_an_archive_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "LARGEST_MEMBER", 1_000)
    cifar_archive(tmp_path / "cifar.tar.gz", [("bike_s_1.png", 0)])

    with pytest.raises(UserError, match="train has more than 1,000 bytes"):
        dataset.read_cifar(tmp_path / "cifar.tar.gz", CLASSES)


@pytest.mark.parametrize("content", [b"", b"not a tar file"])
def test_a_file_that_is_not_an_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not CIFAR-100's Python archive") as refused:
        dataset.read_cifar(path, CLASSES)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cifar.tar.gz"
    cifar_archive(path, [("bike_s_1.png", 0), ("moto_s_2.png", 2)])
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = b"" if damage == "cut" else bytes(each ^ 0xFF for each in content[half:])
    path.write_bytes(content)

    with pytest.raises(UserError, match="is damaged, or not CIFAR-100's Python archive") as refused:
        dataset.read_cifar(path, CLASSES)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["bicycle"], "two or more"), (["bicycle", "bicycle"], "two or more"), (["bicycle", "tram"], "no class tram")],
)
def test_wanted_classes_are_checked(tmp_path: Path, classes: list[str], message: str) -> None:
    path = tmp_path / "cifar.tar.gz"
    cifar_archive(path, [("bike_s_1.png", 0)])
    with pytest.raises(UserError, match=message):
        dataset.read_cifar(path, classes)


def test_a_folder_of_photos_is_read_whole_upright_and_reduced(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    for label in (*CLASSES, "cat", "several"):
        (tmp_path / label).mkdir()
        wide = Image.new("RGB", (900, 300), "red")
        wide.paste((0, 0, 255), (600, 0, 900, 300))
        wide.save(tmp_path / label / "one.jpg", quality=95, exif=exif)
    (tmp_path / "bicycle" / "notes.txt").write_text("not a photo")
    found = dataset.read_folder(tmp_path, CLASSES)
    assert [item.label for item in found.train] == CLASSES
    assert [item.label for item in found.test_outliers] == ["cat"]
    assert [item.label for item in found.test_several] == ["several"]
    pixels = found.train[0].pixels
    assert pixels.shape == (416, 139, 3)
    assert pixels[300:, 8:130, 2].min() > 200  # the right side is now the bottom
    assert found.train[0].origin.look == "own"


def test_an_icon_counts_as_a_small_picture_and_keeps_its_pixels(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
        Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(tmp_path / label / "one.png")
    (icon, _) = dataset.read_folder(tmp_path, CLASSES).train
    assert icon.origin.look == "small"
    assert np.array_equal(icon.pixels, np.asarray(Image.open(tmp_path / "bicycle" / "one.png")))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_photo_s_file_says_itself_where_it_comes_from_and_where_its_vehicles_are(lossless: bool) -> None:
    origin = Origin("street", "us", "whole", "us:ünïcode")
    vehicles = (Vehicle("bicycle", (1.5, 2.0, 30.0, 20.0)), Vehicle("unsure", (0.0, 0.0, 5.0, 5.0)))
    data = encoded(Image.new("RGB", (40, 30)), origin, vehicles, lossless=lossless)
    again = dataset.read_photo("a.jpg", "bicycle", data)
    assert (again.origin, again.vehicles, again.size) == (origin, vehicles, (40, 30))
    assert again.suffix == (".png" if lossless else ".jpg")


def test_a_file_that_does_not_say_where_it_comes_from_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(ValueError, match=r"a\.png does not say"):
        dataset.read_photo("a.png", "bicycle", buffer.getvalue())


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
    (tmp_path / "bicycle" / "bad.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(UserError, match=r"bad\.jpg cannot be read"):
        dataset.read_folder(tmp_path, CLASSES)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "link to itself", "gigabytes"])
def test_what_is_no_file_or_too_large_is_named_and_not_read(tmp_path: Path, kind: str) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
    odd = tmp_path / "bicycle" / "odd.jpg"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    elif kind == "gigabytes":
        odd.touch()
        os.truncate(odd, 2 << 30)
    else:
        odd.symlink_to("nowhere" if kind == "link to nothing" else odd.name)

    with pytest.raises(UserError, match=r"odd\.jpg (is not a regular file|has 2,147,483,648 bytes)"):
        dataset.read_folder(tmp_path, CLASSES)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        dataset.read_folder(tmp_path / "none", CLASSES)


def test_odd_numbered_outliers_are_for_the_test_only(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            Image.new("RGB", (32, 32)).save(tmp_path / label / f"{number}.png")
    given = replace(source(), outliers=[], test_outliers=[])
    found = dataset.with_outliers(given, tmp_path)
    names = [f"{item.label}/{item.name}" for item in found.test_outliers]
    assert names == ["cat/0.png", "cat/2.png", "dog/0.png", "dog/2.png"]
    assert [f"{item.label}/{item.name}" for item in found.outliers] == [
        "cat/1.png",
        "cat/3.png",
        "dog/1.png",
        "dog/3.png",
    ]


def test_a_folder_without_outliers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no photos"):
        dataset.with_outliers(source(), tmp_path)


def test_more_outliers_change_the_digest(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "cat" / "a.png")
    before = source()
    after = dataset.with_outliers(before, tmp_path)
    assert after.digest != before.digest
    assert len(after.test_outliers) == len(before.test_outliers) + 1


def test_no_photo_is_in_two_splits_and_every_class_gives_its_share() -> None:
    data = dataset.split(source(), CLASSES, seed=3)
    names = [item.name for part in (data.train, data.validation, data.test) for item in part]
    assert len(names) == len(set(names)) == 40
    for part in (data.validation, data.test):
        assert {label: sum(item.label == label for item in part) for label in CLASSES} in (
            {"bicycle": 3, "motorcycle": 3},
            {"bicycle": 2, "motorcycle": 2},
        )


def test_the_same_seed_splits_the_same_and_another_differently() -> None:
    def validation(seed: int) -> list[str]:
        return [item.name for item in dataset.split(source(), CLASSES, seed).validation]

    assert validation(1) == validation(1)
    assert validation(1) != validation(2)


def test_a_source_with_a_test_split_keeps_it_whole() -> None:
    data = dataset.split(source(test=5), CLASSES, seed=1)
    assert len(data.test) == 10
    assert [item.label for item in data.test_outliers] == ["dog"]


def test_near_duplicates_of_test_photos_are_left_out_even_mirrored_or_brighter() -> None:
    given = source(test=5)
    twin = given.test[0].pixels
    copies = [
        Photo("mirrored.png", "bicycle", file(np.ascontiguousarray(twin[:, ::-1]))),
        Photo("brighter.png", "bicycle", file((twin * 0.5 + 100).astype(np.uint8))),
    ]
    data = dataset.split(Source([*given.train, *copies], given.test, given.outliers, [], "sha256:0"), CLASSES, seed=1)
    assert data.dropped == 2
    kept = {item.name for item in (*data.train, *data.validation)}
    assert not kept & {"mirrored.png", "brighter.png"}


def test_near_duplicates_of_each_other_stay_in_one_split() -> None:
    base = source(test=1)
    twins = []
    for item in base.train[:10]:
        noisy = np.clip(item.pixels.astype(int) + 3, 0, 255).astype(np.uint8)
        twins.append(Photo(f"twin_{item.name}", item.label, file(noisy)))
    for seed in range(5):
        data = dataset.split(
            Source([*base.train, *twins], base.test, base.outliers, [], "sha256:0"), CLASSES, seed=seed
        )
        validation = {item.name for item in data.validation}
        for twin in twins:
            assert (twin.name in validation) == (twin.name.removeprefix("twin_") in validation)


def test_too_few_photos_to_split_are_named() -> None:
    with pytest.raises(UserError, match="class bicycle has 2 photos, too few to split"):
        dataset.split(source(count=2, test=1), CLASSES, seed=1)


def parts(label: str, originals: list[str]) -> list[Photo]:
    """Make three photos of each original."""
    return [
        replace(
            photo(label, 100 * number + part),
            name=f"{original}-{part}.png",
            origin=Origin("street", "us", "1.5", original),
        )
        for number, original in enumerate(originals)
        for part in range(3)
    ]


def test_all_photos_of_an_original_are_in_one_split_and_those_for_the_figures_only_in_the_test() -> None:
    known = [*parts("bicycle", [f"b{n}" for n in range(30)]), *parts("motorcycle", [f"m{n}" for n in range(30)])]
    others = parts("other", [f"o{n}" for n in range(30)])
    held, held_others = parts("bicycle", ["held"]), parts("other", ["held too"])
    given = dataset.with_photographs(source(test=4), [*known, *others], [*held, *held_others], CLASSES)
    data = dataset.split(given, CLASSES, seed=1)
    for train, validation in ((data.train, data.validation), (data.train_outliers, data.validation_outliers)):
        groups = [{item.origin.group for item in part} - {""} for part in (train, validation)]
        assert groups[0]
        assert groups[1]
        assert not groups[0] & groups[1]
    assert {item.name for item in held} <= {item.name for item in data.test}
    assert {item.name for item in held_others} <= {item.name for item in data.test_outliers}
    assert given.digest != source(test=4).digest


def test_crops_are_measured_on_and_never_learned() -> None:
    known, held = parts("bicycle", [f"b{n}" for n in range(30)]), parts("bicycle", ["held"])
    data = dataset.split(dataset.with_photographs(source(test=4), [], [], CLASSES, (known, held)), CLASSES, seed=1)
    assert {item.name for item in data.test_crops} == {item.name for item in held}
    assert data.validation_crops
    whole = dataset.split(dataset.with_photographs(source(test=4), known, [], CLASSES), CLASSES, seed=1)
    validating = {item.origin.group for item in whole.validation}
    assert {item.origin.group for item in data.validation_crops} <= validating
    assert not {item.name for item in known} & {item.name for item in data.train}


def test_photos_of_several_kinds_are_kept_apart() -> None:
    both = parts("several", [f"s{n}" for n in range(30)])
    data = dataset.split(dataset.with_photographs(source(test=4), both, both[:3], CLASSES), CLASSES, seed=1)
    assert len(data.train_several) + len(data.validation_several) == 90
    assert data.validation_several
    assert len(data.test_several) == 3
    assert "several" not in {item.label for item in (*data.train, *data.train_outliers)}


def test_too_few_images_or_outliers_are_said_with_what_to_do() -> None:
    data = dataset.split(source(count=30, test=3), CLASSES, seed=1)
    bicycle, motorcycle, others = dataset.shortages(data)
    assert "bicycle has 26 images" in bicycle
    assert "motorcycle has 26 images" in motorcycle
    assert "there are 7 images of other things" in others
    assert "--outliers" in others
    plenty = replace(data, train=400 * data.train, train_outliers=400 * data.train_outliers)
    assert dataset.shortages(plenty) == []


def test_photos_of_one_camera_and_time_stay_together() -> None:
    groups = {Origin("cctv", "z", "whole", f"z:bike/bike{number}.jpg").group for number in range(20, 40)}
    assert groups == {"z:bike/bike1"}
    assert Origin("street", "z", "whole", "z:00f3a1").group == "z:00f3a1"


def test_outliers_are_limited_by_source() -> None:
    given = dataset.with_photographs(source(), parts("other", ["a", "b", "c"]), [], CLASSES)
    limited = dataset.limit_outliers(given, 4, seed=1)
    assert Counter(item.origin.source for item in limited.outliers) == {"own": 4, "us": 4}


def test_outliers_are_limited_by_seed() -> None:
    limited = dataset.limit_outliers(source(), 4, seed=1)
    assert len(limited.outliers) == 4
    again = dataset.limit_outliers(source(), 4, seed=1)
    assert [item.name for item in limited.outliers] == [item.name for item in again.outliers]


@pytest.mark.skipif("CIFAR100_ARCHIVE" not in os.environ, reason="CIFAR100_ARCHIVE names no archive")
def test_the_real_archive_has_a_thousand_photos_and_its_own_test() -> None:
    found = dataset.read_cifar(Path(os.environ["CIFAR100_ARCHIVE"]), CLASSES)
    assert (len(found.train), len(found.test)) == (1000, 200)
    data = dataset.split(found, CLASSES, seed=1)
    assert 0 < data.dropped < 20
    assert len(data.train) + len(data.validation) + data.dropped == 1000
