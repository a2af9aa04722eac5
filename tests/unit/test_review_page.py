"""The review page's function: who gets in, what goes out, and under which policy, on real events of an HTTP API."""

import base64
import html
import importlib
import io
import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from functions.decisions.reviews import Desk
from loading_bay.stack.template import ROOT

from .test_reviews import TABLE, WORKFLOW, aws, close, desk, dynamodb, new_id, put  # noqa: F401 - fixtures

EVENT = json.loads((ROOT / "events" / "review" / "http-api.json").read_text())
CLIENT = "1example23456789"
CONTEXT = SimpleNamespace(
    function_name="review", memory_limit_in_mb=1769, invoked_function_arn="arn:aws:lambda:::review", aws_request_id="1"
)
Call = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def function(aws: None) -> Iterator[ModuleType]:  # noqa: F811
    """Import the function as Lambda does, with its variables set."""
    variables = {
        "DECISIONS_TABLE": TABLE,
        "ANNOUNCE_REVIEW_ARN": WORKFLOW,
        "VEHICLE_CLASSES": "bicycle:1:near,motorcycle:2:far",
        "CLIENT_ID": CLIENT,
        "SIGN_IN_URL": "https://loading-bay.auth.eu-central-1.amazoncognito.com",
        "UNDO_SECONDS": "5",
        "GUIDELINES": "Look <twice>|Then decide",
        "UPLOAD_PREFIX": "uploads/",
        "MAX_PHOTO_BYTES": "1000000",
        "MAX_PHOTO_PIXELS": "4000000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        module = importlib.import_module("functions.review.app")
        module.s3.create_bucket(Bucket="inbox")
        yield module
    del sys.modules["functions.review.app"]


@pytest.fixture
def review(function: ModuleType, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> ModuleType:  # noqa: F811
    monkeypatch.setattr(function, "desk", desk)
    return function


@pytest.fixture
def call(review: ModuleType) -> Call:
    """Call one route as a signed-in reviewer, or with other claims."""

    def call(name: str, body: object = None, **claims: str | None) -> tuple[int, Any]:
        answer = request(review, "POST", f"/api/{name}", json.dumps(body or {}), claims)
        return answer["statusCode"], json.loads(answer["body"])

    return call


def request(
    review: ModuleType, method: str, path: str, body: str | None = None, claims: dict[str, str | None] | None = None
) -> dict[str, Any]:
    event = json.loads(json.dumps(EVENT))
    event |= {"rawPath": path, "routeKey": f"{method} {path}", "body": body}
    event["requestContext"]["http"] |= {"method": method, "path": path}
    authorized = event["requestContext"]["authorizer"]["jwt"]["claims"]
    authorized |= {"client_id": CLIENT, "exp": str(int(time.time()) + 900)}
    for name, value in (claims or {}).items():
        key = name.replace("cognito_", "cognito:")
        authorized.pop(key, None)
        if value is not None:
            authorized[key] = value
    answer: dict[str, Any] = review.handler(event, CONTEXT)
    return answer


def upload(review: ModuleType, key: str, data: bytes) -> str:
    return str(review.s3.put_object(Bucket="inbox", Key=key, Body=data)["ETag"].strip('"'))


def picture(size: tuple[int, int] = (40, 20), form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, form, **options)
    return buffer.getvalue()


SINCE = "2026-11-25T00:00:00.000Z"


@pytest.mark.parametrize("name", ["queue", "picture", "decide", "undo"])
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"cognito_groups": None}, "not in the group reviewers"),
        ({"cognito_groups": "[dispatch reviewers-old]"}, "not in the group reviewers"),
        ({"token_use": "id"}, "sign in"),
        ({"token_use": "refresh"}, "sign in"),
        ({"token_use": None}, "sign in"),
        ({"client_id": "another"}, "sign in"),
        ({"scope": "aws.cognito.signin.user.admin"}, "sign in"),
        ({"username": None}, "sign in"),
    ],
)
def test_only_a_reviewers_access_token_of_this_page_gets_in(
    call: Call, name: str, claims: dict[str, str | None], said: str
) -> None:
    status, answer = call(name, {"since": SINCE}, **claims)

    assert status == 403
    assert said in answer["message"]


def test_without_an_authorizer_nobody_gets_in(review: ModuleType) -> None:
    event = json.loads(json.dumps(EVENT)) | {"rawPath": "/api/queue", "body": "{}"}
    event["requestContext"]["http"]["path"] = "/api/queue"
    del event["requestContext"]["authorizer"]

    assert review.handler(event, CONTEXT)["statusCode"] == 403


@pytest.mark.parametrize("groups", ["[reviewers]", "[dispatch reviewers]", "reviewers"])
def test_a_member_of_several_groups_is_a_reviewer_too(call: Call, groups: str) -> None:
    assert call("queue", {"since": SINCE}, cognito_groups=groups)[0] == 200


def test_every_answer_carries_the_strict_policy(review: ModuleType) -> None:
    for path in ("/", "/page.js", "/page.css", "/nothing", "/../app.py", "/%2e%2e/app.py"):
        headers = request(review, "GET", path)["headers"]

        policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "blob:",
            "connect-src": "'self' https://loading-bay.auth.eu-central-1.amazoncognito.com",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Set-Cookie" not in headers


def test_the_page_knows_where_to_sign_in_and_nothing_runs_inside_its_markup(review: ModuleType) -> None:
    page = request(review, "GET", "/")["body"]

    (content,) = re.findall(r'<meta name="settings" content="([^"]*)">', page)
    assert json.loads(html.unescape(content)) == {
        "signIn": "https://loading-bay.auth.eu-central-1.amazoncognito.com",
        "clientId": CLIENT,
        "scope": "review/decide",
    }
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page)


def test_the_script_turns_no_text_into_markup() -> None:
    script = (ROOT / "functions" / "review" / "page" / "page.js").read_text()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|cookie", script)


@pytest.mark.parametrize("path", ["/nothing", "/app.py", "/page/page.js", "/api", "/page.js/x"])
def test_there_is_nothing_else_to_be_had(review: ModuleType, path: str) -> None:
    assert request(review, "GET", path)["statusCode"] == 404


def test_the_queue_hands_out_photos_and_says_what_else_goes_on(call: Call, desk: Desk) -> None:  # noqa: F811
    scores = {"motorcycle": "0.4", "bicycle": "0.6"}
    photo = put(desk, "driver-7/one.jpg")
    desk.dynamodb.update_item(
        TableName=TABLE,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET probabilities = :scores",
        ExpressionAttributeValues={":scores": {"M": {name: {"N": each} for name, each in scores.items()}}},
    )

    status, answer = call("queue", {"want": 3, "since": SINCE})

    assert status == 200
    assert answer["photos"] == [
        {
            "photo": photo,
            "key": "uploads/driver-7/one.jpg",
            "driver": "driver-7",
            "since": "2026-11-25T10:00:00.000Z",
            "scores": {"bicycle": 0.6, "motorcycle": 0.4},
        }
    ]
    assert (answer["waiting"], answer["reviewer"], answer["classes"]) == (1, "ana", ["bicycle", "motorcycle"])
    assert answer["guidelines"] == "Look <twice>|Then decide"
    assert call("queue", {"want": 3, "since": SINCE}, username="ben")[1]["colleagues"] == {"ana": 1}
    assert call("queue", {"release": [photo], "since": SINCE})[0] == 200
    assert len(call("queue", {"want": 3, "since": SINCE}, username="ben")[1]["photos"]) == 1


def test_a_decision_is_taken_once_undone_and_corrected(call: Call, desk: Desk) -> None:  # noqa: F811
    photo, first, second, third = put(desk), new_id(), new_id(), new_id()
    decision = {"photo": photo, "answer": "bicycle", "review_id": first}

    status, taken = call("decide", decision)
    assert (status, taken["answer"], taken["by"], taken["revision"]) == (200, "bicycle", "ana", 1)
    assert call("decide", decision) == (200, taken)
    status, refused = call("decide", decision | {"review_id": second, "answer": "neither"}, username="ben")
    assert (status, refused["decision"]["by"], refused["decision"]["answer"]) == (409, "ana", "bicycle")
    assert call("undo", {"photo": photo, "review_id": first}, username="ben")[0] == 409
    assert call("undo", {"photo": photo, "review_id": first})[0] == 200
    assert call("decide", decision)[0] == 409
    assert call("decide", decision | {"review_id": second})[0] == 200
    close(desk, photo)
    assert call("undo", {"photo": photo, "review_id": second})[0] == 409
    correction = {"photo": photo, "answer": "motorcycle", "review_id": third, "corrects": second}
    assert call("decide", correction)[1]["revision"] == 2


def test_what_somebody_else_holds_cannot_be_decided(call: Call, desk: Desk) -> None:  # noqa: F811
    photo = put(desk, lease_by="ben", lease_until=int(time.time()) + 60)

    status, answer = call("decide", {"photo": photo, "answer": "bicycle", "review_id": new_id()})

    assert (status, answer["message"]) == (409, "ben is looking at this photo")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("decide", {}),
        ("decide", {"photo": "x", "answer": "tank", "review_id": str(uuid.UUID(int=1))}),
        ("decide", {"photo": "x", "answer": "bicycle", "review_id": "1"}),
        ("decide", {"photo": ["x"], "answer": "bicycle", "review_id": str(uuid.UUID(int=1))}),
        ("decide", {"photo": "x" * 2049, "answer": "bicycle", "review_id": str(uuid.UUID(int=1))}),
        ("undo", {"photo": "x"}),
        ("picture", {}),
        ("queue", {}),
        ("queue", {"since": "yesterday"}),
        ("queue", {"since": "2026-11-25T00:00:00"}),
        ("queue", {"since": SINCE, "want": 9}),
        ("queue", {"since": SINCE, "want": "3"}),
        ("queue", {"since": SINCE, "have": ["x"] * 9}),
        ("queue", {"since": SINCE, "have": [7]}),
        ("queue", ["since"]),
    ],
)
def test_nonsense_is_refused_in_one_line(call: Call, name: str, body: object) -> None:
    status, answer = call(name, body)

    assert status == 400
    assert answer["message"]


def test_a_body_that_is_no_json_is_refused(review: ModuleType) -> None:
    assert request(review, "POST", "/api/decide", "{")["statusCode"] == 400


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_is_an_upright_jpeg_of_bounded_size_without_metadata(
    review: ModuleType,
    desk: Desk,  # noqa: F811
    form: str,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    exif[0x010F] = "a name"
    data = picture((1600, 800), form, exif=exif)
    photo = put(desk, "one", etag=upload(review, "uploads/one", data))

    answer = request(review, "POST", "/api/picture", json.dumps({"photo": photo}))

    assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (200, "image/jpeg")
    body = base64.b64decode(answer["body"])
    assert answer["isBase64Encoded"]
    assert b"a name" not in body
    with Image.open(io.BytesIO(body)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (640, 1280))
        assert not shown.getexif()


def test_the_picture_comes_from_where_the_table_says(review: ModuleType, call: Call, desk: Desk) -> None:  # noqa: F811
    upload(review, "uploads/secret.png", picture())

    status, _ = call("picture", {"photo": "s3://inbox/uploads/secret.png", "s3_key": "uploads/secret.png"})
    assert status == 404
    routed = put(desk, "routed.png", status="ROUTED", queue=None, due_at=None)
    assert call("picture", {"photo": routed})[0] == 404


@pytest.mark.parametrize(
    ("data", "status"), [(b"<svg onload=alert(1)>", 422), (picture((3000, 2000)), 422), (b"x" * 1_000_001, 422)]
)
def test_what_cannot_be_shown_says_why(
    review: ModuleType,
    call: Call,
    desk: Desk,  # noqa: F811
    data: bytes,
    status: int,
) -> None:
    photo = put(desk, "odd", etag=upload(review, "uploads/odd", data))

    assert call("picture", {"photo": photo})[0] == status


def test_a_photo_that_was_overwritten_is_not_shown(review: ModuleType, call: Call, desk: Desk) -> None:  # noqa: F811
    etag = upload(review, "uploads/one.png", picture())
    upload(review, "uploads/one.png", picture((41, 20)))

    assert call("picture", {"photo": put(desk, "one.png", etag=etag)})[0] == 404
