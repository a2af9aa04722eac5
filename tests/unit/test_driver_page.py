"""The drivers' function: access, signed uploads, outcomes in the API, and the page's texts."""

import base64
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from functions.decisions.reason_code import ReasonCode
from functions.decisions.reviews import Desk
from loading_bay.stack.template import ROOT

from .test_reviews import TABLE, aws, close, decide, desk, dynamodb, put  # noqa: F401 - fixtures

EVENT = json.loads((ROOT / "events" / "review" / "http-api.json").read_text())
CLIENT = "1example23456789"
CONTEXT = SimpleNamespace(
    function_name="driver", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:::driver", aws_request_id="1"
)
PAGE = ROOT / "functions" / "driver" / "page"
LANGUAGES = {name: json.loads((PAGE / f"{name}.json").read_text()) for name in ("en", "es", "pt")}
Call = Callable[..., tuple[int, Any]]


def function(**changed: str) -> ModuleType:
    """Import the function as Lambda does, with its variables set."""
    variables = {
        "DECISIONS_TABLE": TABLE,
        "INBOX_BUCKET": "inbox",
        "UPLOAD_PREFIX": "uploads/",
        "CLIENT_ID": CLIENT,
        "SIGN_IN_URL": "https://loading-bay.auth.eu-central-1.amazoncognito.com",
        "MAX_PHOTO_BYTES": "1000000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (variables | changed).items():
            patch.setenv(name, value)
        sys.modules.pop("functions.driver.app", None)
        return importlib.import_module("functions.driver.app")


@pytest.fixture(scope="module")
def app(aws: None) -> Iterator[ModuleType]:  # noqa: F811
    module = function()
    module.s3.create_bucket(Bucket="inbox")
    yield module
    sys.modules.pop("functions.driver.app", None)


def request(
    app: ModuleType, method: str, path: str, body: object = None, query: dict[str, str] | None = None, **claims: Any
) -> dict[str, Any]:
    event = json.loads(json.dumps(EVENT))
    event |= {"rawPath": path, "routeKey": f"{method} {path}", "body": json.dumps(body), "queryStringParameters": query}
    event["requestContext"]["http"] |= {"method": method, "path": path}
    authorized = event["requestContext"]["authorizer"]["jwt"]["claims"]
    authorized |= {"username": "driver-7", "cognito:groups": "[drivers]", "scope": "driver/upload"}
    for name, value in claims.items():
        key = name.replace("cognito_", "cognito:")
        authorized.pop(key, None)
        if value is not None:
            authorized[key] = value
    answer: dict[str, Any] = app.handler(event, CONTEXT)
    return answer


@pytest.fixture
def call(app: ModuleType, desk: Desk) -> Call:  # noqa: F811
    def call(method: str, path: str, *more: Any, **claims: Any) -> tuple[int, Any]:
        answer = request(app, method, path, *more, **claims)
        return answer["statusCode"], json.loads(answer["body"])

    return call


def upload(app: ModuleType, name: str = "driver-7/one.jpg", data: bytes = b"photo") -> dict[str, str]:
    """Upload a photo; return the attributes of its record that name it."""
    key = f"uploads/{name}"
    etag = app.s3.put_object(Bucket="inbox", Key=key, Body=data)["ETag"].strip('"')
    return {"photo": f"s3://inbox/{key}#{etag}", "s3_key": key, "etag": etag}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/uploads"), ("GET", "/photos"), ("GET", "/photos/one.jpg")], ids=str
)
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"cognito_groups": None}, "not in the group drivers"),
        ({"cognito_groups": "[reviewers]"}, "not in the group drivers"),
        ({"scope": "review/decide"}, "sign in"),
        ({"token_use": "id"}, "sign in"),
        ({"client_id": "another"}, "sign in"),
        ({"username": None}, "sign in"),
        ({"username": "../other"}, "driver's name"),
        ({"username": "a.b"}, "driver's name"),
    ],
)
def test_only_a_driver_gets_in(call: Call, method: str, path: str, claims: dict[str, Any], said: str) -> None:
    body = {"content_type": "image/jpeg"} if method == "POST" else None

    status, answer = call(method, path, body, {"since": "20261128T000000Z"}, **claims)

    assert status == 403
    assert said in answer["message"]


def test_an_upload_is_signed_for_the_folder_of_the_driver_who_calls(call: Call) -> None:
    body = {"content_type": "image/jpeg", "order": "4711", "driver": "driver-8", "key": "uploads/driver-8/x.jpg"}

    status, answer = call("POST", "/uploads", body)

    assert status == 200
    policy = json.loads(base64.b64decode(answer["fields"]["policy"]))["conditions"]
    assert {"key": f"uploads/driver-7/{answer['id']}"} in policy
    assert {"x-amz-meta-order": "4711"} in policy
    assert ["content-length-range", 1, 1_000_000] in policy


@pytest.mark.parametrize(
    "body",
    [{}, [], None, {"content_type": "text/html"}, {"content_type": "image/jpeg", "order": "a/b"}, {"content_type": 7}],
    ids=json.dumps,
)
def test_nothing_else_is_signed(call: Call, body: object) -> None:
    status, answer = call("POST", "/uploads", body)

    assert status == 400
    assert answer["message"]


DONE: dict[str, Any] = {"queue": None, "due_at": None, "error": None, "reason": None, "reason_code": None}
AUDITED: dict[str, Any] = {"reviewed_by": "ana", "routed_as": "bicycle:1:near", "revision": 1}
BOX = {"left": 0.25, "top": 0.5, "right": 0.75, "bottom": 1.0}
FOUND = {"detection": {"box": {side: Decimal(str(share)) for side, share in BOX.items()}}}
NEAR = {"status": "routed", "bay": "1", "orders": "near"}


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        ({"status": "CLAIMED", "queue": "OPEN#0"}, {"status": "waiting"}),
        ({"status": "ROUTED", "queue": "OPEN#0", "bay": "1", "order_range": "near"}, {"status": "waiting"}),
        (DONE | {"status": "ROUTED", "bay": "1", "order_range": "near"}, {"status": "routed", "bay": "1"}),
        (DONE | FOUND | {"status": "ROUTED", "bay": "1"}, {"status": "routed", "box": BOX}),
        ({"status": "REVIEW"}, {"status": "review"}),
        ({"status": "ROUTED", "queue": "OPEN#0", "bay": "1", "reviewed_by": "ana"}, {"status": "review"}),
        # An audit, while it waits, while it can be undone, and once it is announced
        ({"status": "ROUTED", "queue": "AUDIT#0", "bay": "1", "order_range": "near"}, NEAR),
        (AUDITED | {"status": "ROUTED", "queue": "OPEN#0", "bay": "2", "order_range": "far"}, NEAR),
        (AUDITED | {"status": "REJECTED", "queue": "OPEN#0"}, NEAR),
        (DONE | AUDITED | {"status": "ROUTED", "bay": "2", "order_range": "far"}, NEAR | {"bay": "2", "orders": "far"}),
        (DONE | {"status": "ROUTED", "bay": "2", "reviewed_by": "ana"}, {"status": "routed", "bay": "2"}),
        ({"status": "FAILED", "queue": "OPEN#0"}, {"status": "failed"}),
        ({"status": "FAILED", "queue": "FAILED#0"}, {"status": "failed"}),
        (
            DONE | {"status": "REJECTED", "reason_code": "UNREADABLE"},
            {"status": "retake", "reason_code": "UNREADABLE", "message": "the file is not a photo"},
        ),
        (
            DONE | {"status": "REJECTED", "reason_code": "OF_A_LATER_VERSION"},
            {"status": "retake", "message": "the photo cannot be used"},
        ),
    ],
)
def test_a_driver_learns_what_was_announced(
    app: ModuleType,
    call: Call,
    desk: Desk,  # noqa: F811
    record: dict[str, Any],
    outcome: dict[str, Any],
) -> None:
    put(desk, **upload(app) | record)

    status, answer = call("GET", "/photos/one.jpg")

    assert status == 200
    assert outcome.items() <= answer.items()
    assert "reviewed_by" not in answer
    assert ("box" in answer) is ("box" in outcome)


def test_a_photo_that_nobody_has_looked_at_waits(app: ModuleType, call: Call) -> None:
    upload(app)

    assert call("GET", "/photos/one.jpg")[1]["status"] == "waiting"


@pytest.mark.parametrize("name", ["two.jpg", "one.jp", "..%2Fdriver-8%2Fone.jpg", "../driver-8/one.jpg", "one.jpg.png"])
def test_what_is_not_the_driver_s_is_not_there(app: ModuleType, call: Call, name: str) -> None:
    upload(app)
    upload(app, "driver-8/one.jpg")
    upload(app, "driver-8/two.jpg")

    assert call("GET", f"/photos/{name}")[0] == 404


def test_the_day_s_photos_of_the_driver_come_newest_first(app: ModuleType, call: Call) -> None:
    for name in (
        "driver-9/20261127T230000Z-a.jpg",
        "driver-9/20261128T010000Z-b.jpg",
        "driver-90/20261128T010000Z.jpg",
    ):
        upload(app, name)

    status, answer = call("GET", "/photos", None, {"since": "20261128T000000Z"}, username="driver-9")

    assert status == 200
    assert [each["id"] for each in answer["photos"]] == ["20261128T010000Z-b.jpg"]
    assert call("GET", "/photos", None, {"since": "../"})[0] == 400


def test_the_page_may_reach_the_api_the_sign_in_and_the_inbox_alone(app: ModuleType) -> None:
    for path in ("/driver", "/driver/main.js", "/driver/session.js", "/driver/es.json", "/driver/nothing"):
        answer = request(app, "GET", path)
        policy = answer["headers"]["Content-Security-Policy"]
        reached = next(each for each in policy.split("; ") if each.startswith("connect-src")).split()[1:]
        assert reached == [
            "'self'",
            "https://loading-bay.auth.eu-central-1.amazoncognito.com",
            "https://inbox.s3.amazonaws.com",
        ]
    assert answer["statusCode"] == 404


def test_tokens_of_another_issuer_name_the_driver_by_their_subject(aws: None, desk: Desk) -> None:  # noqa: F811
    app = function(CLIENT_ID="")
    claims: dict[str, Any] = {"username": None, "cognito_groups": None, "token_use": None, "client_id": None}
    body = {"content_type": "image/jpeg"}

    answer = request(app, "POST", "/uploads", body, None, **claims, sub="driver-42")

    assert json.loads(answer["body"])["fields"]["key"].startswith("uploads/driver-42/")
    refused = request(app, "POST", "/uploads", body, None, **claims | {"scope": "openid"}, sub="driver-42")
    assert refused["statusCode"] == 403


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    texts, english = LANGUAGES[language], LANGUAGES["en"]

    assert texts.keys() == english.keys()
    codes = list(ReasonCode)
    rejecting = set(codes[: codes.index(ReasonCode.NOT_FOUND) + 1]) - {ReasonCode.UNSURE}
    assert texts["reasons"].keys() == {*rejecting, "OTHER"}
    for name, text in texts.items():
        if isinstance(text, str):
            assert set(_blanks(text)) == set(_blanks(english[name])), name


def _blanks(text: str) -> list[str]:
    return [part.partition("}")[0] for part in text.split("{")[1:]]
