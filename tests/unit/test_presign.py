"""A presigned upload allows exactly one key, one type and a limited size, and is signed."""

import base64
import json
import shlex
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from functions.decisions.uploads import PresignedUpload
from loading_bay.cli.main import main
from loading_bay.operations.presign import curl, presign_upload
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

SECRET = "not a real secret"  # noqa: S105


@pytest.fixture
def deployed() -> Deployed:
    session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=SECRET, region_name="eu-central-1")
    return Deployed(session, {"UploadUri": "s3://inbox/uploads/"}, {"MaxPhotoBytes": "26214400"})


def policy_of(upload: PresignedUpload) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(base64.b64decode(upload.fields["policy"]))
    return policy


def test_the_policy_names_one_key_one_type_and_a_range_of_sizes(deployed: Deployed) -> None:
    upload = presign_upload(deployed, "driver-7", "image/png", max_bytes=5_000_000)

    conditions = policy_of(upload)["conditions"]
    signature = [each for each in conditions if isinstance(each, dict) and next(iter(each)).startswith("x-amz-")]
    rest = [each for each in conditions if each not in signature]
    assert sorted(rest, key=str) == sorted(
        [
            {"bucket": "inbox"},
            {"key": upload.key},
            {"Content-Type": "image/png"},
            ["content-length-range", 1, 5_000_000],
        ],
        key=str,
    )
    assert upload.key.startswith("uploads/driver-7/")
    assert upload.key.endswith(".png")


def test_the_order_is_part_of_what_is_signed(deployed: Deployed) -> None:
    upload = presign_upload(deployed, "driver-7", "image/jpeg", order="4711")

    assert {"x-amz-meta-order": "4711"} in policy_of(upload)["conditions"]
    assert upload.fields["x-amz-meta-order"] == "4711"


@pytest.mark.parametrize("order", ["", "a b", "a/b", "4711\n", "é", "x" * 65])
def test_no_order_is_signed_that_would_not_be_recorded(deployed: Deployed, order: str) -> None:
    with pytest.raises(UserError, match="not an order"):
        presign_upload(deployed, "driver-7", "image/jpeg", order=order)


def test_two_uploads_never_share_a_key(deployed: Deployed) -> None:
    keys = {presign_upload(deployed, "driver-7", "image/jpeg").key for _ in range(20)}

    assert len(keys) == 20


def test_it_expires_at_its_stated_time(deployed: Deployed) -> None:
    upload = presign_upload(deployed, "driver-7", "image/jpeg", seconds=60)

    expiration = datetime.fromisoformat(policy_of(upload)["expiration"])
    assert abs(expiration - datetime.fromisoformat(upload.expires_at)) < timedelta(seconds=2)
    assert expiration < datetime.now(UTC) + timedelta(seconds=62)


def test_it_is_signed_for_buckets_with_a_kms_key_and_reveals_no_secret(deployed: Deployed) -> None:
    upload = presign_upload(deployed, "driver-7", "image/jpeg")

    assert upload.fields["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert upload.url == "https://inbox.s3.eu-central-1.amazonaws.com/"
    assert SECRET not in json.dumps([upload.url, upload.fields])


@pytest.mark.parametrize("driver", ["", "..", "../other", "a/b", "a b", "driver-7/", "%2e%2e", "é", "x" * 65, "a\n"])
def test_no_driver_s_name_leads_out_of_the_driver_s_prefix(deployed: Deployed, driver: str) -> None:
    with pytest.raises(UserError, match="not a driver's name"):
        presign_upload(deployed, driver, "image/jpeg")


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "image/gif", "", "image/jpeg\n"])
def test_nothing_but_photos_is_signed(deployed: Deployed, content_type: str) -> None:
    with pytest.raises(UserError, match="not accepted"):
        presign_upload(deployed, "driver-7", content_type)


def test_the_command_prints_the_form_for_an_app_or_a_command_for_a_person(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loading_bay.cli.commands.find_stack", lambda *_: deployed)
    as_json = CliRunner(mix_stderr=False).invoke(main, ["presign", "driver-7", "--json"])
    typed = CliRunner(mix_stderr=False).invoke(main, ["presign", "driver-7"])

    assert set(json.loads(as_json.output)) == {"url", "fields", "key", "expires_at"}
    assert "-F Content-Type=image/jpeg" in typed.output
    conditions = policy_of(PresignedUpload(**json.loads(as_json.output)))["conditions"]
    assert ["content-length-range", 1, 26_214_400] in conditions


class Store(BaseHTTPRequestHandler):
    """Answers every upload with the status that its server has."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.mark.parametrize(("status", "stored"), [(204, True), (307, False), (301, False), (403, False), (503, False)])
def test_the_printed_command_succeeds_only_if_the_photo_was_stored(
    deployed: Deployed, tmp_path: Path, status: int, stored: bool
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Store)
    server.status = status  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    upload = replace(presign_upload(deployed, "driver-7", "image/jpeg"), url=f"http://127.0.0.1:{server.server_port}/")

    command = curl(upload).replace("PHOTO", str(tmp_path / "photo.jpg"))
    done = subprocess.run(shlex.split(command), check=False, capture_output=True)

    server.shutdown()
    assert (done.returncode == 0) == stored, done.stderr
