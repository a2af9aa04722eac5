"""Decodes photos in a separate process with limited memory and time.

Anybody can upload a photo, and decoders are written in C. So they run in a process without credentials, which ends
when a photo crashes it, takes too long or needs too much memory. The process decodes one photo after another, so
a photo pays about a millisecond for the separation, not the start of an interpreter.
"""

import contextlib
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
from typing import Any, BinaryIO, NamedTuple, Self

from PIL import Image

from .errors import DecoderFailed, PhotoTooLarge, UnreadablePhoto
from .image import PreparedPhoto, central_square, upright

REFUSALS: dict[str, type[PhotoTooLarge | UnreadablePhoto]] = {
    "PhotoTooLarge": PhotoTooLarge,
    "UnreadablePhoto": UnreadablePhoto,
}
REQUEST = struct.Struct("<8sIQQ")  # shape, side, most pixels, bytes of the photo
LONGEST_ANSWER = 4096
# Both processes map the memory that holds photo and picture, which costs a tenth of sending them.
SHARED_BYTES = 100 << 20  # the maximum of MaxPhotoBytes
# An interpreter that is linked to a shared library, such as the one on Lambda, does not start without the first.
PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "PYTHONHOME", "LANG", "LC_ALL", "TMPDIR")
# One arena, because each reserves address space. Keeping memory for the next photo saves 1 % of its time.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
START_SECONDS = 30
OUT_OF_TIME = -signal.SIGPROF
CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)}


class Decoder:
    """Decodes one photo after another within limits. Use it in a `with` block, or for the life of its owner.

    A photo that crashes the process, exhausts it or makes a decoder give up is decoded once more in a fresh process,
    because earlier photos may have left the first one short of memory.

    Args:
        max_pixels: photos with more pixels are refused before decoding.
        seconds: processor time for a photo.
        patience: seconds of wall-clock time before the process is given up. A slow machine may be the cause, so the
        photo is worth another try.
        megabytes: address space. 50 megapixels of WebP, the most demanding format, take 940. Linux only: on macOS a
        process cannot limit itself, and only the limits of the header apply.
    """

    def __init__(self, *, max_pixels: int, seconds: float = 10, patience: float = 20, megabytes: int = 1100) -> None:
        self.max_pixels = max_pixels
        self.seconds = seconds
        self.patience = patience
        self.megabytes = megabytes
        self._process: _Process | None = None

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def square(self, data: bytes, size: int) -> PreparedPhoto:
        """Return the photo's central square, reduced to size × size pixels, as `image.central_square` does.

        Raises:
            PhotoTooLarge: more pixels than `max_pixels`, or more memory than a photo may take.
            UnreadablePhoto: not an accepted format, damaged, cut off, or more work than a photo may make.
            DecoderFailed: worth another try.
        """
        return self._decode("square", data, size)

    def upright(self, data: bytes, longest_side: int) -> PreparedPhoto:
        """Return the whole photo with no side above `longest_side` pixels, as `image.upright` does; raises as above."""
        return self._decode("upright", data, longest_side)

    def start(self) -> int:
        """Start the process unless it runs, without waiting for it, and return its id."""
        return self._running().id

    def wait_until_ready(self) -> None:
        """Start the process unless it runs, and wait until it can decode.

        Raises:
            DecoderFailed: the process does not start, so it could not decode a photo either.
        """
        self._running().wait_until_ready()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _running(self) -> "_Process":
        if self._process is None or not self._process.is_alive():
            self.close()
            self._process = _Process(self.seconds, self.patience, self.megabytes)
        return self._process

    def _decode(self, shape: str, data: bytes, side: int) -> PreparedPhoto:
        if len(data) > SHARED_BYTES:
            raise PhotoTooLarge(f"the photo has {len(data):,} bytes, more than {SHARED_BYTES:,} are decoded")
        request = REQUEST.pack(shape.encode(), side, self.max_pixels, len(data))
        while True:
            process = self._running()
            was_fresh = process.is_fresh
            try:
                answer = process.decode(request, data)
            except DecoderFailed:
                self.close()
                raise
            if isinstance(answer, PreparedPhoto):
                return answer
            if answer.is_certain:
                raise answer.error
            self.close()
            if was_fresh:
                raise answer.error


class _Refusal(NamedTuple):
    """The reason to reject a photo; unless `certain`, the state of the process may be the cause."""

    error: PhotoTooLarge | UnreadablePhoto
    is_certain: bool = False


class _Process:
    """The decoding process, its socket and its shared memory."""

    def __init__(self, seconds: float, patience: float, megabytes: int) -> None:
        self.is_fresh = True
        self._is_ready = False
        self._seconds = seconds
        self._patience = patience
        self._socket, theirs = socket.socketpair()
        # The interpreter gets the variables that it needs to start and the module paths, but no credentials. This
        # package's path is named, because an editable installation finds the package without a path.
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        env["PYTHONPATH"] = os.pathsep.join(
            str(Path(folder).resolve()) for folder in [str(Path(__file__).parents[2]), *sys.path]
        )
        with theirs, _shareable() as file:
            self._shared = mmap.mmap(file.fileno(), SHARED_BYTES)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-S", "-m", __name__, str(file.fileno()), str(seconds), str(megabytes)],
                    env=env | MALLOC,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    pass_fds=[file.fileno()],
                    start_new_session=True,  # Ctrl-C goes to this process, which then closes the other
                )
            except OSError as error:
                raise DecoderFailed(f"the decoding process does not start: {error}") from error
        self.id = self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._receive(START_SECONDS)
        except TimeoutError as error:
            raise DecoderFailed(f"the decoding process is not ready after {START_SECONDS} seconds") from error
        except OSError as error:
            raise DecoderFailed(f"the decoding process does not start: it ended with status {self.end()}") from error
        self._is_ready = True

    def decode(self, request: bytes, data: bytes) -> PreparedPhoto | _Refusal:
        """Decode a photo in the process; return the picture or the refusal.

        Raises:
            DecoderFailed: the process did not start, did not answer in time, or was ended by somebody else.
        """
        self.wait_until_ready()
        self.is_fresh = False
        try:
            self._shared[: len(data)] = data
            self._socket.sendall(request)
            answer = self._receive(self._patience)
        except TimeoutError as error:
            raise DecoderFailed(f"the photo was not decoded within {self._patience} seconds") from error
        except OSError as error:
            return _Refusal(self._why_ended(error))
        if "error" in answer:
            return _Refusal(REFUSALS[answer["error"]](answer["reason"]), answer["is_certain"])
        width, height = answer["size"]
        image = Image.frombytes("RGB", (width, height), self._shared[: 3 * width * height])
        return PreparedPhoto(image, answer["format"], answer["width"], answer["height"])

    def end(self) -> int:
        """End the process if it did not end on its own, and return its exit status."""
        self._socket.close()
        if not self._shared.closed:
            self._shared.close()
        try:
            return self._process.wait(0.1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._socket.settimeout(seconds)
        answer = self._socket.recv(LONGEST_ANSWER)
        if not answer:
            raise ConnectionError
        return dict(json.loads(answer))

    def _why_ended(self, error: OSError) -> UnreadablePhoto:
        status = self.end()
        if status == OUT_OF_TIME:
            return UnreadablePhoto(f"the photo takes more than {self._seconds} seconds to decode")
        if status in CRASHES:
            return UnreadablePhoto(f"the photo crashes its decoder ({signal.Signals(-status).name})")
        raise DecoderFailed(f"the decoding process ended with status {status}") from error


def _shareable() -> BinaryIO:
    """Return a file in memory or, on systems without one, an unnamed temporary file."""
    try:
        file: BinaryIO = os.fdopen(os.memfd_create("photo"), "r+b")
    except (AttributeError, OSError):
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(SHARED_BYTES)
    return file


def main() -> None:
    """Decode photos as requests arrive on standard input, until it closes: python -m … FILE SECONDS MEGABYTES."""
    file, seconds, megabytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the photo
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    # A function that Lambda ends may leave an answer unread.
    with contextlib.suppress(ConnectionError), memoryview(mmap.mmap(file, SHARED_BYTES)) as shared:
        os.write(1, b"{}")  # ready
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
    except MemoryError:
        reason = "the photo takes too much memory to decode"
        return {"error": "PhotoTooLarge", "reason": reason, "is_certain": False}, b""
    except (PhotoTooLarge, UnreadablePhoto) as refusal:
        is_certain = refusal.__cause__ is None
        return {"error": type(refusal).__name__, "reason": str(refusal), "is_certain": is_certain}, b""
    about = {"size": photo.image.size, "format": photo.format, "width": photo.width, "height": photo.height}
    return about, photo.image.tobytes()


if __name__ == "__main__":
    main()
