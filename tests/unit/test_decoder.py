"""The decoder's process: whatever a photo does to it, the photo is refused and the next one is decoded."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from functions.photo.decoder import Decoder, DecoderFailed
from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.image import central_square, upright

PHOTO = Path("events/photos/phone-12mp-rotated.jpg").read_bytes()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(max_pixels=20_000_000) as decoder:
        yield decoder


def test_its_pictures_are_those_that_would_be_decoded_here(decoder: Decoder) -> None:
    square, whole = decoder.square(PHOTO, 32), decoder.upright(PHOTO, 640)

    here = central_square(PHOTO, size=32, max_pixels=20_000_000)
    assert np.array_equal(np.asarray(square.image), np.asarray(here.image))
    assert (square.format, square.width, square.height) == (here.format, here.width, here.height)
    assert whole.image.tobytes() == upright(PHOTO, longest_side=640, max_pixels=20_000_000).image.tobytes()


def test_one_process_decodes_photo_after_photo(decoder: Decoder) -> None:
    decoder.square(PHOTO, 32)
    first = decoder.start()
    for refused in (b"", b"no photo", PHOTO[:5000]):
        with pytest.raises(UnreadablePhoto):
            decoder.square(refused, 32)
    decoder.square(PHOTO, 32)

    assert decoder.start() == first


def test_a_refusal_keeps_its_reason() -> None:
    with Decoder(max_pixels=1000) as decoder, pytest.raises(PhotoTooLarge, match=r"4032 × 3024 pixels"):
        decoder.square(PHOTO, 32)


def ended_while_it_decodes(decoder: Decoder, number: signal.Signals) -> None:
    """Have the process that will get the next photo end by a signal, once it has it."""
    process = decoder.start()
    os.kill(process, signal.SIGSTOP)

    def end() -> None:
        os.kill(process, number)
        os.kill(process, signal.SIGCONT)

    threading.Timer(0.1, end).start()


def test_a_photo_that_crashes_the_process_is_refused_and_the_next_one_decoded(decoder: Decoder) -> None:
    ended_while_it_decodes(decoder, signal.SIGSEGV)

    with pytest.raises(UnreadablePhoto, match="crashes its decoder"):
        decoder.square(PHOTO, 32)
    assert decoder.square(PHOTO, 32).width == 4032


def test_a_process_that_somebody_else_ends_is_no_fault_of_the_photo(decoder: Decoder) -> None:
    ended_while_it_decodes(decoder, signal.SIGKILL)

    with pytest.raises(DecoderFailed):
        decoder.square(PHOTO, 32)
    assert decoder.square(PHOTO, 32).width == 4032


def test_a_photo_that_takes_too_long_is_refused() -> None:
    with Decoder(max_pixels=20_000_000, seconds=0.05) as decoder, pytest.raises(UnreadablePhoto, match="takes more"):
        decoder.upright(PHOTO, 4032)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS lets no process limit its memory")
def test_a_photo_that_needs_too_much_memory_is_refused() -> None:
    large = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(large, "PNG")

    with Decoder(max_pixels=20_000_000, megabytes=170) as decoder, pytest.raises(PhotoTooLarge, match="memory"):
        decoder.square(large.getvalue(), 32)


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
