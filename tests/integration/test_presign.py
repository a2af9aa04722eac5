"""A real presigned upload: the photo is classified, and any upload that differs from the signature is refused.

The local AWS checks the policy's conditions like S3, and its guard checks the signature.
"""

import uuid

import pytest
import requests

from functions.decisions.uploads import PresignedUpload
from loading_bay.operations.presign import presign_upload

from .bay import Bay, picture


@pytest.fixture
def upload(bay: Bay) -> PresignedUpload:
    return presign_upload(bay.stack.deployed, "driver-7", "image/jpeg", order="4711", max_bytes=100_000)


def post(upload: PresignedUpload, data: bytes, **changed: str) -> int:
    """Post a photo like an app; return the status."""
    answer = requests.post(upload.url, data=upload.fields | changed, files={"file": ("photo.jpg", data)}, timeout=20)
    return answer.status_code


def test_the_photo_is_classified_under_its_driver_s_prefix(bay: Bay, upload: PresignedUpload) -> None:
    assert post(upload, picture("red")) == 204

    assert upload.key.startswith("uploads/driver-7/")
    decision = bay.outcome(upload.key)
    assert (decision.status, decision.driver, decision.order) == ("ROUTED", "driver-7", "4711")


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({"key": "uploads/driver-8/photo.jpg"}, 1000),
        ({"x-amz-meta-order": "4712"}, 1000),
        ({"key": "batches/photo.jpg"}, 1000),
        ({"Content-Type": "text/html"}, 1000),
        ({"acl": "public-read"}, 1000),
        ({"success_action_redirect": "https://example.com/"}, 1000),
        ({}, 100_001),
        ({}, 0),
        ({"x-amz-signature": "0" * 64}, 1000),
        ({"policy": "e30="}, 1000),
    ],
    ids=[
        "another driver",
        "another order",
        "another prefix",
        "a page",
        "public",
        "redirect",
        "too large",
        "empty",
        "forged",
        "no policy",
    ],
)
def test_nothing_else_can_be_uploaded_with_it(
    bay: Bay, upload: PresignedUpload, changed: dict[str, str], size: int
) -> None:
    assert post(upload, bytes(size), **changed) in {400, 403}

    stored = bay.s3.list_objects_v2(Bucket=bay.bucket, Prefix=changed.get("key", upload.key))
    assert stored["KeyCount"] == 0


def test_the_keys_of_two_uploads_differ(upload: PresignedUpload) -> None:
    assert uuid.UUID(upload.key.removesuffix(".jpg")[-36:])
