"""Finds capture files in a folder, or under an S3 prefix, which it mirrors into a local cache."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from rich.progress import Progress

from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import client
from loading_bay.stack.errors import UserError
from loading_bay.stack.window import Window

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CAPTURE_SUFFIXES = (".jsonl", ".jsonl.gz")

# A record's time and its hour folder may differ by this much, because SageMaker writes a file some minutes after its
# calls. A larger difference means that one of the two clocks is wrong (see captures.py).
CLOCK_TOLERANCE = timedelta(hours=2)

PARALLEL_REQUESTS = 16
DOWNLOAD_ATTEMPTS = 3
# The most finished but unread downloads: limits memory, and keeps all connections busy.
FETCH_AHEAD = 256

_BROKEN_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

# …/{endpoint}/{variant}/yyyy/mm/dd/hh/file, the layout of SageMaker data capture.
# https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
_LAYOUT = re.compile(r"(?:^|/)([^/]+)/([^/]+)/(\d{4})/(\d\d)/(\d\d)/(\d\d)/[^/]+$")
_DAY_FOLDER = re.compile(r"(?:^|/)(\d{4})/(\d\d)/(\d\d)/$")


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A capture file on this machine; `hour` is that of its hour folder, if it has one."""

    name: str
    path: str
    endpoint: str
    variant: str
    hour: datetime | None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file under the source that is skipped, and the reason."""

    name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    etag: str
    size: int


def capture_files(source: str, window: Window, cache: Path, progress: Progress) -> Iterator[CaptureFile | SkippedFile]:
    """Yield every file under `source` in order of name; files in S3 are fetched.

    `source` is a folder, one file, or `s3://bucket/prefix`. Files whose hour folder is completely outside `window` are
    ignored. Files from S3 are kept in the folder `cache`, so a second run fetches only new ones.

    Raises UserError if `source` is empty.
    """
    if source.startswith("s3://"):
        return _s3_files(source, window, cache, progress)
    return _local_files(Path(source), window, progress)


def _may_hold(window: Window, start: datetime, length: timedelta) -> bool:
    """Tell whether a folder for `length` from `start` can contain a record of this window."""
    if window.since is not None and start + length + CLOCK_TOLERANCE <= window.since:
        return False
    return window.until is None or start - CLOCK_TOLERANCE < window.until


def _local_files(source: Path, window: Window, progress: Progress) -> Iterator[CaptureFile | SkippedFile]:
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder, a file or s3://bucket/prefix")
    refused: list[OSError] = []
    paths = sorted(_walk(source, refused)) if source.is_dir() else [str(source)]
    if not paths and not refused:
        raise UserError(f"{source} does not contain any files")
    root = source if source.is_dir() else source.parent
    absolute_root = _readable(root.resolve())
    for error in refused:
        yield SkippedFile(f"{_readable(Path(error.filename).relative_to(root))}/", "unreadable", str(error.strerror))
    reading = progress.add_task("Reading captures", total=len(paths))
    for path in paths:
        name = _readable(Path(path).relative_to(root))
        if source.is_dir() and not name.endswith(CAPTURE_SUFFIXES):  # a file that is given by name may have any
            yield _not_a_capture_file(name)
        elif not Path(path).is_file():
            yield SkippedFile(name, "unreadable", "not a regular file")
        else:
            file = _described(name, path, f"{absolute_root}/{name}")
            if file.hour is None or _may_hold(window, file.hour, timedelta(hours=1)):
                yield file
        progress.advance(reading)


def _walk(folder: Path, refused: list[OSError]) -> Iterator[str]:
    """Yield the path of every file; unreadable folders are added to `refused`."""
    for parent, _, names in os.walk(folder, onerror=refused.append):
        for name in names:
            yield f"{parent}/{name}"


def _readable(path: Path) -> str:
    """Return a printable form of a path, whose bytes need not be UTF-8."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


def _s3_files(source: str, window: Window, cache: Path, progress: Progress) -> Iterator[CaptureFile | SkippedFile]:
    address, s3 = Address.parse(source), client("s3")
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # the photos are private
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        listing = progress.add_task("Listing", total=None)
        objects: list[_Object] = []
        for each in _list(s3, address, window, pool):
            objects.append(each)
            progress.update(listing, description=f"Listing: {len(objects)} files")
        progress.update(listing, total=1, completed=1)
        objects.sort(key=lambda each: each.key)
        if not objects and window == Window():
            raise UserError(f"{source} does not contain any objects")
        fetching = progress.add_task("Reading captures", total=len(objects))
        ahead: deque[Future[CaptureFile | SkippedFile]] = deque()
        waiting = iter(objects)
        try:
            while True:
                while len(ahead) < FETCH_AHEAD and (found := next(waiting, None)):
                    ahead.append(pool.submit(_fetch, s3, address.bucket, found, cache))
                if not ahead:
                    return
                yield ahead.popleft().result()
                progress.advance(fetching)
        finally:
            for unread in ahead:
                unread.cancel()


def _list(s3: "S3Client", source: Address, window: Window, pool: ThreadPoolExecutor) -> Iterator[_Object]:
    """Yield all objects under the prefix that may be in the window; folders are listed in parallel."""
    where = source if source.prefix.endswith(CAPTURE_SUFFIXES) else source.folder
    running = {pool.submit(_list_folder, s3, where)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for folder in done:
            objects, inner = folder.result()
            for each in objects:
                hour = _hour(each.key)
                if hour is None or _may_hold(window, hour, timedelta(hours=1)):
                    yield each
            running |= {
                pool.submit(_list_folder, s3, Address(where.bucket, each)) for each in inner if _day_in(each, window)
            }


def _list_folder(s3: Any, where: Address) -> tuple[list[_Object], list[str]]:
    # A day is listed in one go: its 24 hour folders would cost 24 calls, and seldom contain 1,000 files together.
    flat = _DAY_FOLDER.search(where.prefix) is not None
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=where.bucket, Prefix=where.prefix, **({} if flat else {"Delimiter": "/"})
    )
    objects, inner = [], []
    for page in pages:
        inner += [each["Prefix"] for each in page.get("CommonPrefixes", ())]
        objects += [
            _Object(each["Key"], each["ETag"], each["Size"])
            for each in page.get("Contents", ())
            if not each["Key"].endswith("/")  # the console's "folders" are empty objects
        ]
    return objects, inner


def _day_in(prefix: str, window: Window) -> bool:
    found = _DAY_FOLDER.search(prefix)
    day = _moment(*found.groups()) if found else None
    return day is None or _may_hold(window, day, timedelta(days=1))


def _fetch(s3: "S3Client", bucket: str, found: _Object, cache: Path) -> CaptureFile | SkippedFile:
    name = f"s3://{bucket}/{found.key}"
    if not found.key.endswith(CAPTURE_SUFFIXES):
        return _not_a_capture_file(name)
    # A key may be any text. A digest cannot lead out of the cache, and a changed object has another ETag.
    identity = f"{s3.meta.endpoint_url}\n{bucket}\n{found.key}\n{found.etag}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    kept = cache / digest[:2] / digest
    if not (kept.exists() and kept.stat().st_size == found.size):
        kept.parent.mkdir(exist_ok=True)
        try:
            _download(s3, bucket, found.key, kept)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return SkippedFile(name, "gone" if code in {"NoSuchKey", "404"} else "unreadable", str(error))
        except _BROKEN_OFF as error:
            return SkippedFile(name, "unreadable", str(error))
    return _described(name, str(kept), found.key)


def _download(s3: "S3Client", bucket: str, key: str, kept: Path) -> None:
    # Renamed only when complete, so an interrupted run does not leave a partial file under this name.
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        # boto3 retries requests automatically, but not a truncated answer.
        for last in (False,) * (DOWNLOAD_ATTEMPTS - 1) + (True,):
            try:
                with part.open("wb") as file:
                    for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
                break
            except _BROKEN_OFF:
                if last:
                    raise
        part.replace(kept)
    finally:
        part.unlink(missing_ok=True)


def _described(name: str, path: str, place: str) -> CaptureFile:
    found = _LAYOUT.search(place)
    hour = _hour(place)
    if found and hour:
        return CaptureFile(name, path, found[1], found[2], hour)
    folders = place.split("/")
    return CaptureFile(name, path, folders[-2] if len(folders) > 1 else "", "", None)


def _hour(place: str) -> datetime | None:
    found = _LAYOUT.search(place)
    return _moment(*found.groups()[2:]) if found else None


def _moment(*parts: str) -> datetime | None:
    year, month, day, hour = (*map(int, parts), 0)[:4]
    try:
        return datetime(year, month, day, hour, tzinfo=UTC)
    except ValueError:  # SageMaker never makes a folder such as 2026/13/45
        return None


def _not_a_capture_file(name: str) -> SkippedFile:
    return SkippedFile(name, "not_a_capture_file", f"does not end in {' or '.join(CAPTURE_SUFFIXES)}")
