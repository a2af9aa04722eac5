"""Reading a photo from S3: exactly the named one, never one that is too large, and every failure under its name."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from functions.photo.errors import PhotoNotFound, PhotoTooLarge, StorageUnavailable
from functions.photo.storage import open_photo

UPLOADED = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


class UnreadBody(io.RawIOBase):
    """A body whose transfer would be a mistake."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was transferred")


def answer(data: bytes) -> dict[str, Any]:
    body = StreamingBody(io.BytesIO(data), len(data))
    return {"Body": body, "ContentLength": len(data), "LastModified": UPLOADED, "Metadata": {}}


@pytest.fixture
def stub() -> Stubber:
    client = boto3.client("s3")
    stubber = Stubber(client)
    stubber.activate()
    return stubber


def fetch(stub: Stubber, **which: str | None) -> Any:
    asked: dict[str, Any] = {"version_id": None, "etag": None} | which
    return open_photo(stub.client, "inbox", "uploads/a b+c%20.png", **asked)


@pytest.mark.parametrize(
    ("which", "parameters"),
    [
        ({}, {}),
        ({"etag": "abc"}, {"IfMatch": "abc"}),
        ({"version_id": "v1", "etag": "abc"}, {"VersionId": "v1"}),
    ],
)
def test_exactly_the_object_of_the_event_is_read(
    stub: Stubber, which: dict[str, str], parameters: dict[str, str]
) -> None:
    expected = {"Bucket": "inbox", "Key": "uploads/a b+c%20.png", **parameters}
    stub.add_response("get_object", answer(b"photo"), expected)

    stored = fetch(stub, **which)

    assert (stored.read(100), stored.uploaded_at) == (b"photo", UPLOADED)


def test_a_photo_that_is_too_large_is_refused_before_its_transfer(stub: Stubber) -> None:
    body = StreamingBody(UnreadBody(), 101)  # type: ignore[arg-type]
    stub.add_response("get_object", {"Body": body, "ContentLength": 101, "LastModified": UPLOADED, "Metadata": {}})

    with pytest.raises(PhotoTooLarge, match="101 bytes, more than 100"):
        fetch(stub).read(100)


@pytest.mark.parametrize(
    ("code", "status", "error", "message"),
    [
        ("NoSuchKey", 404, PhotoNotFound, "no longer exists"),
        ("NoSuchVersion", 404, PhotoNotFound, "no longer exists"),
        ("MethodNotAllowed", 405, PhotoNotFound, "no longer exists"),  # the version is a delete marker
        ("PreconditionFailed", 412, PhotoNotFound, "was overwritten"),
        ("InvalidObjectState", 403, PhotoNotFound, "is archived"),
        ("SlowDown", 503, StorageUnavailable, "SlowDown"),
        ("InternalError", 500, StorageUnavailable, "InternalError"),
        ("AccessDenied", 403, ClientError, "AccessDenied"),
    ],
)
def test_every_s3_error_has_its_name(
    stub: Stubber, code: str, status: int, error: type[Exception], message: str
) -> None:
    for _ in range(2):  # botocore itself tries twice if that may help
        stub.add_client_error("get_object", code, http_status_code=status)

    with pytest.raises(error, match=message):
        fetch(stub)


def test_a_transfer_that_breaks_off_is_worth_another_try(stub: Stubber) -> None:
    stub.add_response("get_object", answer(b"photo") | {"Body": StreamingBody(io.BytesIO(b"pho"), 5)})

    with pytest.raises(StorageUnavailable, match="did not answer"):
        fetch(stub).read(100)


def test_a_missing_answer_from_s3_is_worth_another_try(monkeypatch: pytest.MonkeyPatch, stub: Stubber) -> None:
    def unreachable(**_: object) -> Callable[..., None]:
        raise EndpointConnectionError(endpoint_url="https://s3.invalid")

    monkeypatch.setattr(stub.client, "get_object", unreachable)

    with pytest.raises(StorageUnavailable, match="did not answer"):
        fetch(stub)
