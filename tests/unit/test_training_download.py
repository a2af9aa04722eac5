"""The download against a real HTTP server: complete, resumed, wrong, interrupted."""

import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loading_bay.model import download
from loading_bay.stack.errors import UserError

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@dataclass
class Site:
    """A server of one file, with its requests and its misbehaviour."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    knows_ranges: bool = True
    cut_after: int | None = None
    status: int = 200
    content: bytes = CONTENT


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.knows_ranges else 0
            if site.status != 200:
                self.send_error(site.status)
                return
            if start >= len(site.content):
                self.send_error(416)
                return
            body = site.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cut_after])

        def log_message(self, format: str, *args: object) -> None:
            """Do not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/file"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


def fetch(site: Site, path: Path) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    download.download(site.url, path, MD5, lambda done, total: seen.append((done, total)))
    return seen


def test_a_file_is_fetched_with_progress(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    seen = fetch(site, path)
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not path.with_name("file.part").exists()


def test_a_complete_file_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    fetch(site, tmp_path / "file")
    fetch(site, tmp_path / "file")
    assert len(site.ranges) == 1


def test_a_broken_download_resumes(site: Site, tmp_path: Path) -> None:
    site.cut_after = 300_000
    with pytest.raises(UserError, match="run the command again to go on"):
        fetch(site, tmp_path / "file")
    assert 0 < (tmp_path / "file.part").stat().st_size <= 300_000
    site.cut_after = None
    done = (tmp_path / "file.part").stat().st_size
    fetch(site, tmp_path / "file")
    assert site.ranges == [None, f"bytes={done}-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_file_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"wrong beginning")
    site.knows_ranges = False
    fetch(site, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_partial_file_that_is_complete_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(site, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_wrong_checksum_removes_the_file_and_says_so(site: Site, tmp_path: Path) -> None:
    site.content = CONTENT[::-1]
    with pytest.raises(UserError, match=f"not {MD5}; it was removed"):
        fetch(site, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_refusing_server_is_named(site: Site, tmp_path: Path) -> None:
    site.status = 503
    with pytest.raises(UserError, match=r"503.*--archive FILE"):
        fetch(site, tmp_path / "file")


def test_a_missing_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be fetched"):
        download.download("http://127.0.0.1:9/file", tmp_path / "file", MD5, lambda done, total: None)


def test_a_full_disk_is_named_before_anything_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 1 << 20))
    with pytest.raises(UserError, match="has 1 MB free and 257 MB are needed"):
        fetch(site, tmp_path / "file")
    assert not (tmp_path / "file.part").exists()
