"""The decoding process: a photo that breaks it is refused, and the next one is decoded."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from functions.photo.decoder import Decoder
from functions.photo.errors import DecoderFailed, PhotoTooLarge, UnreadablePhoto
from functions.photo.image import central_square, upright

from .profiles import ADOBE

pillow_heif.register_heif_opener()
PHOTO = Path("events/photos/phone-12mp-rotated.jpg").read_bytes()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(max_pixels=20_000_000) as decoder:
        yield decoder


def test_its_pictures_equal_those_decoded_in_this_process(decoder: Decoder) -> None:
    square, whole = decoder.square(PHOTO, 32), decoder.upright(PHOTO, 640)

    here = central_square(PHOTO, size=32, max_pixels=20_000_000)
    assert np.array_equal(np.asarray(square.image), np.asarray(here.image))
    assert (square.format, square.width, square.height) == (here.format, here.width, here.height)
    assert whole.image.tobytes() == upright(PHOTO, longest_side=640, max_pixels=20_000_000).image.tobytes()


def test_one_process_decodes_photo_after_photo(decoder: Decoder) -> None:
    decoder.square(PHOTO, 32)
    first = decoder.start()
    for refused in (b"", b"no photo", PHOTO[:500]):
        with pytest.raises(UnreadablePhoto):
            decoder.square(refused, 32)
    decoder.square(PHOTO, 32)

    assert decoder.start() == first


def test_a_damaged_photo_is_refused_with_its_reason_by_a_used_process_and_by_a_fresh_one(decoder: Decoder) -> None:
    for _ in range(2):
        with pytest.raises(UnreadablePhoto, match=r"^the JPEG photo is damaged \(cut off\)$"):
            decoder.square(PHOTO[:5000], 32)


def test_a_refusal_keeps_its_reason() -> None:
    with Decoder(max_pixels=1000) as decoder, pytest.raises(PhotoTooLarge, match=r"4032 × 3024 pixels"):
        decoder.square(PHOTO, 32)


def ended_while_it_decodes(decoder: Decoder, number: signal.Signals) -> None:
    """Let a signal end the process that gets the next photo, once it has the photo."""
    decoder.wait_until_ready()
    process = decoder.start()
    os.kill(process, signal.SIGSTOP)

    def end() -> None:
        os.kill(process, number)
        os.kill(process, signal.SIGCONT)

    threading.Timer(0.1, end).start()


def test_a_photo_that_crashes_a_fresh_process_is_refused_and_the_next_one_decoded(decoder: Decoder) -> None:
    decoder.close()
    ended_while_it_decodes(decoder, signal.SIGSEGV)

    with pytest.raises(UnreadablePhoto, match="crashes its decoder"):
        decoder.square(PHOTO, 32)
    assert decoder.square(PHOTO, 32).width == 4032


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGPROF])
def test_a_crash_or_time_out_of_a_used_process_does_not_count_against_the_photo(
    decoder: Decoder, number: signal.Signals
) -> None:
    decoder.square(PHOTO, 32)
    ended_while_it_decodes(decoder, number)

    assert decoder.square(PHOTO, 32).width == 4032


def test_a_process_that_somebody_else_ends_is_not_the_photo_s_fault(decoder: Decoder) -> None:
    ended_while_it_decodes(decoder, signal.SIGKILL)

    with pytest.raises(DecoderFailed):
        decoder.square(PHOTO, 32)
    assert decoder.square(PHOTO, 32).width == 4032


def test_a_photo_that_takes_too_long_is_refused() -> None:
    with Decoder(max_pixels=20_000_000, seconds=0.05) as decoder, pytest.raises(UnreadablePhoto, match="takes more"):
        decoder.upright(PHOTO, 4032)


def test_a_suspended_machine_is_not_the_photo_s_fault() -> None:
    with Decoder(max_pixels=20_000_000, patience=3) as decoder:
        decoder.wait_until_ready()
        os.kill(decoder.start(), signal.SIGSTOP)

        with pytest.raises(DecoderFailed, match="not decoded within"):
            decoder.square(PHOTO, 32)
        assert decoder.square(PHOTO, 32).width == 4032


@pytest.mark.skipif(sys.platform != "linux", reason="macOS lets no process limit its memory")
def test_a_photo_that_needs_too_much_memory_is_refused() -> None:
    large = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(large, "PNG")

    with Decoder(max_pixels=20_000_000, megabytes=170) as decoder, pytest.raises(PhotoTooLarge, match="memory"):
        decoder.square(large.getvalue(), 32)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS lets no process limit its memory")
@pytest.mark.parametrize("format", ["WEBP", "AVIF", pytest.param("HEIF", marks=pytest.mark.long)])
def test_photos_do_not_take_memory_from_later_ones(format: str) -> None:
    # Given a photo for which a new process has just enough memory
    large = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(large, "PNG")
    with Decoder(max_pixels=20_000_000, megabytes=400) as decoder:
        decoder.square(large.getvalue(), 32)
        # When other photos come first, each with a different valid colour profile of several megabytes
        for number in range(10):
            padded = io.BytesIO()
            profile = ADOBE + bytes([number]) * 20_000_000
            Image.new("RGB", (60, 40)).save(padded, format, icc_profile=profile)
            decoder.square(padded.getvalue(), 32)

        assert decoder.square(large.getvalue(), 32).width == 5000


def stand_in(folder: Path, script: str) -> str:
    """Return the path of an interpreter that does something else before it starts."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\n{script}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_finds_its_library_through_the_environment_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an interpreter that is linked to a library in an unusual folder, as on Lambda
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, 'test -n "$LD_LIBRARY_PATH" || exit 127'))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/var/lang/lib")

    with Decoder(max_pixels=20_000_000) as decoder:
        assert decoder.square(PHOTO, 32).width == 4032


def test_it_starts_under_the_installed_command_from_any_folder(tmp_path: Path) -> None:
    program = "from functions.photo.decoder import Decoder; Decoder(max_pixels=10).wait_until_ready()"

    done = subprocess.run([sys.executable, "-P", "-c", program], check=False, cwd=tmp_path, capture_output=True)

    assert done.returncode == 0, done.stderr.decode()


def test_without_memory_files_a_temporary_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused, raising=False)

    with Decoder(max_pixels=20_000_000) as decoder:
        assert decoder.square(PHOTO, 32).width == 4032


@pytest.mark.parametrize(
    ("script", "reason"), [("exit 127", "ended with status 127"), ("kill -9 $$", "ended with status -9")]
)
def test_a_function_whose_decoder_does_not_start_fails_at_its_start(script: str, reason: str, tmp_path: Path) -> None:
    start = f"import sys; sys.executable = {stand_in(tmp_path, script)!r}; import functions.serialize.app"
    settings = {"IMAGE_SIZE": "64", "IMAGE_SHAPE": "SQUARE", "MAX_PHOTO_BYTES": "1000", "MAX_PHOTO_PIXELS": "1000"}

    started = subprocess.run(
        [sys.executable, "-c", start],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | settings | {"AWS_DEFAULT_REGION": "us-east-1"},
    )

    assert started.returncode != 0
    last_line = started.stderr.strip().splitlines()[-1]
    assert last_line == f"functions.photo.errors.DecoderFailed: the decoding process does not start: it {reason}"


def test_a_missing_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with Decoder(max_pixels=20_000_000) as decoder, pytest.raises(DecoderFailed, match="/nowhere/python"):
        decoder.square(PHOTO, 32)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of a process")
def test_the_process_sees_no_credentials(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    decoder.close()
    decoder.square(PHOTO, 32)

    assert b"secret" not in Path(f"/proc/{decoder.start()}/environ").read_bytes()


def test_no_process_is_left_behind() -> None:
    with Decoder(max_pixels=20_000_000) as decoder:
        decoder.square(PHOTO, 32)
        process = decoder.start()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
