"""Decodes photos in a process of its own, whose memory and time no photo can exceed.

A photo comes from anybody, and decoders are C: what a photo does to them happens to a process that holds nothing else,
no credentials, and ends when it crashes, takes too long or asks for too much. The process decodes one photo after the
other, so that a photo pays about a millisecond for it and not the start of an interpreter.
"""

import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from PIL import Image

from .errors import PhotoTooLarge, UnreadablePhoto
from .image import Photo, central_square, upright

REFUSALS = {"PhotoTooLarge": PhotoTooLarge, "UnreadablePhoto": UnreadablePhoto}
REQUEST = struct.Struct("<8sIQQ")  # shape, side, most pixels, bytes of the photo
LONGEST_ANSWER = 4096
# Photo and picture are handed over in memory that both processes map, which costs a tenth of sending them.
SHARED_BYTES = 100 << 20  # as much as MaxPhotoBytes may be
# One arena, as each reserves address space; memory is kept for the next photo, which saves a hundredth of its time.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
OUT_OF_TIME = -signal.SIGPROF
CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)}


class DecoderFailed(Exception):
    """The decoding process did not start, or ended through no fault of the photo. Worth another try."""


class Decoder:
    """Decodes one photo after the other within bounds; to be used in a `with`, or for as long as its owner lives.

    Args:
        max_pixels: more are refused before anything is decoded.
        seconds: of processor time for a photo, as a busy machine is no fault of the photo; waited for twice as long.
        megabytes: of address space. 50 megapixels of WebP, the format that needs most, take 940. On Linux alone:
            macOS lets no process limit itself, and there the bounds of the header have to do.
    """

    def __init__(self, *, max_pixels: int, seconds: float = 10, megabytes: int = 1100) -> None:
        self.max_pixels = max_pixels
        self.seconds = seconds
        self.megabytes = megabytes
        self._process: _Process | None = None

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def square(self, data: bytes, size: int) -> Photo:
        """Return the photo's central square, reduced to size × size pixels, as `photo.central_square` does.

        Raises:
            PhotoTooLarge: more pixels than `max_pixels`, or more memory than a photo may take.
            UnreadablePhoto: not an accepted format, damaged, cut off, or more work than a photo may make.
            DecoderFailed: worth another try.
        """
        return self._decode("square", data, size)

    def upright(self, data: bytes, longest_side: int) -> Photo:
        """Return the whole photo with no side above `longest_side` pixels, as `photo.upright` does; raises as above."""
        return self._decode("upright", data, longest_side)

    def start(self) -> int:
        """Start the process, if there is none, without waiting until it is ready; return its id."""
        return self._running().id

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _running(self) -> "_Process":
        if self._process is None or not self._process.lives():
            self.close()
            self._process = _Process(self.seconds, self.megabytes)
        return self._process

    def _decode(self, shape: str, data: bytes, side: int) -> Photo:
        if len(data) > SHARED_BYTES:
            raise PhotoTooLarge(f"the photo has {len(data):,} bytes, more than {SHARED_BYTES:,} are decoded")
        process = self._running()
        try:
            answer = process.ask(REQUEST.pack(shape.encode(), side, self.max_pixels, len(data)), data)
        except OSError as error:
            status = process.end()
            if isinstance(error, TimeoutError) or status == OUT_OF_TIME:
                raise UnreadablePhoto(f"the photo takes more than {self.seconds} seconds to decode") from error
            if status in CRASHES:
                raise UnreadablePhoto(f"the photo crashes its decoder ({signal.Signals(-status).name})") from error
            raise DecoderFailed(f"the decoding process ended with status {status}") from error
        if "error" in answer:
            raise REFUSALS[answer["error"]](answer["reason"])
        return Photo(process.picture(*answer["size"]), answer["format"], answer["width"], answer["height"])


class _Process:
    """The decoding process, the socket to it and the memory shared with it."""

    def __init__(self, seconds: float, megabytes: int) -> None:
        self._seconds = seconds
        self._socket, theirs = socket.socketpair()
        # Nothing of the environment but where modules are: no credentials.
        path = os.pathsep.join(str(Path(folder).resolve()) for folder in sys.path)
        with theirs, _shareable() as file:
            self._shared = mmap.mmap(file.fileno(), SHARED_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-S", "-m", __name__, str(file.fileno()), str(seconds), str(megabytes)],
                env={"PYTHONPATH": path} | MALLOC,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                pass_fds=[file.fileno()],
                start_new_session=True,  # Ctrl-C is for this process, which closes the other
            )
        self.id = self._process.pid

    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes, data: bytes) -> dict[str, Any]:
        """Hand over a photo, and return what the process says of it.

        Raises:
            TimeoutError: no answer came in twice the processor time that a photo may take.
            OSError: the process ended.
        """
        self._shared[: len(data)] = data
        self._socket.settimeout(2 * self._seconds)
        self._socket.sendall(request)
        answer = self._socket.recv(LONGEST_ANSWER)
        if not answer:
            raise ConnectionError
        return dict(json.loads(answer))

    def picture(self, width: int, height: int) -> Image.Image:
        return Image.frombytes("RGB", (width, height), self._shared[: 3 * width * height])

    def end(self) -> int:
        """End the process if it did not end by itself, and return its exit status."""
        self._socket.close()
        self._shared.close()
        try:
            return self._process.wait(0.1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _shareable() -> BinaryIO:
    """Return a file that is nowhere but in memory or, on macOS, one without a name."""
    if sys.platform == "linux":
        file: BinaryIO = os.fdopen(os.memfd_create("photo"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(SHARED_BYTES)
    return file


def main() -> None:
    """Decode what is asked for through standard input until it is closed: python -m … FILE SECONDS MEGABYTES."""
    file, seconds, megabytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the photo
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    with memoryview(mmap.mmap(file, SHARED_BYTES)) as shared:
        while request := os.read(0, REQUEST.size):
            shape, side, max_pixels, length = REQUEST.unpack(request)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            answer, pixels = _answer(shape.rstrip(b"\0").decode(), shared[:length], side, max_pixels)
            signal.setitimer(signal.ITIMER_PROF, 0)
            shared[: len(pixels)] = pixels
            os.write(1, json.dumps(answer).encode())


def _answer(shape: str, data: memoryview, side: int, max_pixels: int) -> tuple[dict[str, object], bytes]:
    try:
        if shape == "square":
            photo = central_square(data, size=side, max_pixels=max_pixels)
        else:
            photo = upright(data, longest_side=side, max_pixels=max_pixels)
    except (PhotoTooLarge, UnreadablePhoto) as refusal:
        return {"error": type(refusal).__name__, "reason": str(refusal)}, b""
    about = {"size": photo.image.size, "format": photo.format, "width": photo.width, "height": photo.height}
    return about, photo.image.tobytes()


if __name__ == "__main__":
    main()
