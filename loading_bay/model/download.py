"""Downloads: resumed where they stopped, checked before they are used."""

import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from loading_bay.stack.errors import UserError

from .dataset import file_digest

# Both as published at https://www.cs.toronto.edu/~kriz/cifar.html.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
CIFAR_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
# YOLOX-Nano as its authors exported it (release 0.1.1rc0, Apache-2.0), in a repository that keeps it at a fixed commit.
DETECTOR_URL = (
    "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/"
    "3d4f1119d0694200671c08069ecb847aa0d8495a/model/yolox_nano.onnx"
)
DETECTOR_SHA256 = "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14"
CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 60
# Left free on the disk beside the download itself: the staged images are smaller than the archive.
SPARE_BYTES = 256 << 20

Progress = Callable[[int, int | None], None]


def download(
    url: str, path: Path, checksum: str, progress: Progress, *, algorithm: str = "md5", instead: str = "--archive FILE"
) -> None:
    """Fetch a file; a complete one is left alone, a partial one (`<name>.part`) is continued.

    Args:
        url: its address, over HTTP.
        path: the file to write.
        checksum: the one that it must have, in hexadecimal.
        progress: called with (bytes so far, bytes in all or None).
        algorithm: of the checksum.
        instead: the option that takes a local copy.

    Raises:
        UserError: the server does not answer, the disk is too small, or the checksum is wrong.
    """
    if path.is_file() and file_digest(path, algorithm) == checksum:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _fetch(url, part, progress)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{url} could not be fetched: {error}; run the command again to go on, or give {instead}"
        ) from error
    found = file_digest(part, algorithm)
    if found != checksum:
        part.unlink()
        raise UserError(
            f"{url} arrived with {algorithm} {found}, not {checksum}; it was removed: run the command again"
        )
    part.replace(path)


def _fetch(url: str, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310 - known
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is here already; the checksum decides
        raise
    with answer:
        # A server that does not know ranges sends the file from its beginning.
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            done = 0
        left = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        total = None if left is None else done + left
        _require_space(part.parent, left or 0)
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")


def _require_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_BYTES:
        raise UserError(f"{folder} has {free >> 20} MB free and {(wanted + SPARE_BYTES) >> 20} MB are needed")
