"""The review page's function: access, answers and content policy, with real events of an HTTP API."""

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
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from functions.decisions.classes import parse_classes
from functions.decisions.decision import timestamp
from functions.decisions.reviews import Desk
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.template import ROOT

from .test_reviews import ROUTED, TABLE, WORKFLOW, aws, close, desk, dynamodb, new_id, put, second  # noqa: F401 - fixtures

EVENT = json.loads((ROOT / "events" / "review" / "http-api.json").read_text())
CLIENT = "1example23456789"
CONTEXT = SimpleNamespace(
    function_name="review", memory_limit_in_mb=1769, invoked_function_arn="arn:aws:lambda:::review", aws_request_id="1"
)
Call = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def function(aws: None) -> Iterator[ModuleType]:  # noqa: F811
    """Import the function like Lambda, with its variables set."""
    variables = {
        "DECISIONS_TABLE": TABLE,
        "ANNOUNCE_REVIEW_ARN": WORKFLOW,
        "VEHICLE_CLASSES": "bicycle:1:near,motorcycle:2:far",
        "CLIENT_ID": CLIENT,
        "SIGN_IN_URL": "https://loading-bay.auth.eu-central-1.amazoncognito.com",
        "UNDO_SECONDS": "5",
        "SECOND_SHARE": "0",
        "SALT": "salt",
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
    review: ModuleType,
    method: str,
    path: str,
    body: str | None = None,
    claims: dict[str, str | None] | None = None,
    *,
    binary: bool = False,
) -> dict[str, Any]:
    event = json.loads(json.dumps(EVENT))
    event |= {"rawPath": path, "routeKey": f"{method} {path}", "body": body, "isBase64Encoded": binary}
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


CALLS = ["queue", "picture", "beside", "decide", "undo"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"cognito_groups": None}, "not in the group reviewers"),
        ({"cognito_groups": "[dispatch reviewers-old]"}, "not in the group reviewers"),
        ({"cognito_groups": "[x,reviewers]"}, "not in the group reviewers"),
        ({"cognito_groups": "[reviewers,]"}, "not in the group reviewers"),
        ({"cognito_groups": "[reviewers]]"}, "not in the group reviewers"),
        ({"cognito_groups": "[[reviewers]"}, "not in the group reviewers"),
        ({"cognito_groups": "[[reviewers]]"}, "not in the group reviewers"),
        ({"cognito_groups": "[a\treviewers b\nreviewers c\u00a0reviewers]"}, "not in the group reviewers"),
        ({"cognito_groups": "[Reviewers]"}, "not in the group reviewers"),
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
    for path in ("/", "/main.js", "/page.css", "/nothing", "/../app.py", "/%2e%2e/app.py"):
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


def test_every_script_and_style_that_the_page_asks_for_is_served(review: ModuleType) -> None:
    asked, seen = {"/"}, set()
    while asked:
        path = asked.pop()
        seen.add(path)
        answer = request(review, "GET", path)
        assert answer["statusCode"] == 200, path
        kinds = {"js": "text/javascript", "css": "text/css"}
        assert answer["headers"]["Content-Type"].startswith(kinds.get(path.rpartition(".")[2], "text/html"))
        named = re.findall(r"""(?:src|href)="([^"]+)"|from '\./([^']+)'""", answer["body"])
        asked |= {f"/{name}" for names in named for name in names if name} - seen

    assert {path.rpartition(".")[2] for path in seen} == {"/", "css", "js"}


def test_no_script_turns_text_into_markup() -> None:
    scripts = [path.read_text() for path in (ROOT / "functions" / "review" / "page").glob("*.js")]

    for script in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|cookie", script
        )


@pytest.mark.parametrize("path", ["/nothing", "/app.py", "/page/main.js", "/index.html", "/api", "/main.js/x"])
def test_all_other_paths_are_missing(review: ModuleType, path: str) -> None:
    assert request(review, "GET", path)["statusCode"] == 404


@pytest.mark.parametrize("classes", ["bicycle:1:near,motorcycle:2:far", "bicycle:1:near,scooter:2:near,van:3:far"])
def test_guidelines_unless_given_suit_the_classes(
    review: ModuleType,
    desk: Desk,  # noqa: F811
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    classes: str,
) -> None:
    monkeypatch.setattr(review, "settings", replace(review.settings, guidelines=""))
    monkeypatch.setattr(review, "desk", replace(desk, classes=parse_classes(classes)))

    rules = call("queue", {"since": SINCE})[1]["guidelines"]

    assert len(rules) >= 2
    assert any("scooter is a motorcycle" in rule for rule in rules) == ("scooter" not in classes)


def test_the_queue_returns_photos_and_other_activity(call: Call, desk: Desk) -> None:  # noqa: F811
    scores = {"motorcycle": "0.4", "bicycle": "0.6"}
    box = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}
    edges = {name: {"N": str(edge)} for name, edge in box.items()}
    photo = put(desk, "driver-7/one.jpg", order="4711")
    desk.table.dynamodb.update_item(
        TableName=TABLE,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET probabilities = :scores, detection = :found",
        ExpressionAttributeValues={
            ":scores": {"M": {name: {"N": each} for name, each in scores.items()}},
            ":found": {"M": {"box": {"M": edges}, "score": {"N": "0.7"}, "reason_code": {"S": "TOO_SMALL"}}},
        },
    )

    status, answer = call("queue", {"want": 3, "since": SINCE})

    assert status == 200
    assert answer["photos"] == [
        {
            "photo": photo,
            "key": "uploads/driver-7/one.jpg",
            "driver": "driver-7",
            "order": "4711",
            "since": "2026-11-25T10:00:00.000Z",
            "scores": {"bicycle": 0.6, "motorcycle": 0.4},
            "box": box,
            "why": "TOO_SMALL",
            "second": False,
        }
    ]
    assert answer["waiting"] == 1
    assert answer["answers"] == ["bicycle", "motorcycle", "neither"]
    assert answer["guidelines"] == ["Look <twice>", "Then decide"]
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


def test_a_photo_that_somebody_else_holds_cannot_be_decided(call: Call, desk: Desk) -> None:  # noqa: F811
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
        ("decide", {"photo": "€" * 700, "answer": "bicycle", "review_id": str(uuid.UUID(int=1))}),
        ("decide", {"photo": "", "answer": "bicycle", "review_id": str(uuid.UUID(int=1))}),
        ("undo", {"photo": "x"}),
        ("beside", {}),
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


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        "{",
        "null",
        '"x"',
        DEEP,
        f'{{"photo": {DEEP}}}',
        f'{{"x": {DEEP}}}',
        '{"photo": "\\ud800", "answer": "bicycle", "review_id": "x"}',
        '{"photo": "\ud800", "answer": "bicycle", "review_id": "x"}',
        '{"since": NaN}',
        "\ufeff{}",
    ],
    ids=["cut", "null", "text", "deep", "deep photo", "deep field", "escaped surrogate", "surrogate", "NaN", "BOM"],
)
def test_a_body_that_is_not_a_call_is_refused(review: ModuleType, name: str, body: str) -> None:
    assert request(review, "POST", f"/api/{name}", body)["statusCode"] == 400


@pytest.mark.parametrize("body", ["!", base64.b64encode(b"\xff{}").decode()], ids=["not base64", "not UTF-8"])
def test_a_binary_body_that_is_not_a_call_is_refused(review: ModuleType, body: str) -> None:
    assert request(review, "POST", "/api/undo", body, binary=True)["statusCode"] == 400


TEXT = st.text(st.characters(), max_size=20)  # surrogates among them
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)
FIELDS = ("photo", "answer", "review_id", "corrects", "beside", "since", "want", "have", "skipped", "release")


@given(name=st.sampled_from(CALLS), body=st.dictionaries(st.sampled_from(FIELDS), VALUE), escaped=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_body_brings_the_function_down(review: ModuleType, name: str, body: dict[str, Any], escaped: bool) -> None:
    answer = request(review, "POST", f"/api/{name}", json.dumps(body, ensure_ascii=escaped))

    assert answer["statusCode"] in {200, 400, 404}


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


def test_the_table_decides_where_the_picture_comes_from(review: ModuleType, call: Call, desk: Desk) -> None:  # noqa: F811
    upload(review, "uploads/secret.png", picture())

    status, _ = call("picture", {"photo": "s3://inbox/uploads/secret.png", "s3_key": "uploads/secret.png"})
    assert status == 404
    routed = put(desk, "routed.png", status="ROUTED", queue=None, due_at=None)
    assert call("picture", {"photo": routed})[0] == 404


@pytest.mark.parametrize(
    ("data", "status"), [(b"<svg onload=alert(1)>", 422), (picture((3000, 2000)), 422), (b"x" * 1_000_001, 422)]
)
def test_a_picture_that_cannot_be_shown_has_a_reason(
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


# ---------------------------------------------------------------------------------------- the driver's other photos ---


def taken(review: ModuleType, desk: Desk, name: str, hours: float = 0, **changes: Any) -> str:  # noqa: F811
    """Upload a photo and write its record, `hours` after today's noon; return its name."""
    number = len(all_decisions(desk.table))
    etag = upload(review, f"uploads/{name}", picture((40 + number, 20)))
    now = datetime.now(UTC) + timedelta(hours=hours)
    decided = {"status": "ROUTED", "vehicle": "bicycle", "queue": None, "due_at": None, "error": None, "reason": None}
    photo = f"s3://inbox/uploads/{name}#{etag}"
    return put(desk, name, **{"photo": photo, "etag": etag, "uploaded_at": timestamp(now)} | decided | changes)


WAITS: dict[str, Any] = {"status": "REVIEW", "queue": "REVIEW#0", "due_at": 1, "vehicle": None}


def test_the_driver_s_other_photos_of_the_day_are_shown(
    review: ModuleType,
    call: Call,
    desk: Desk,  # noqa: F811
) -> None:
    photo = taken(review, desk, "driver-7/now.png", **WAITS)
    earlier = taken(review, desk, "driver-7/today/earlier.png", -2)
    rejected = taken(review, desk, "driver-7/later.png", 1, status="REJECTED", vehicle=None)
    for name, hours in [("driver-70/x.png", 0), ("x.png", 0), ("driver-7/old.png", -13)]:
        taken(review, desk, name, hours)
    upload(review, "uploads/driver-7/no-record.png", picture())

    status, answer = call("beside", {"photo": photo})

    assert status == 200
    assert [(each["photo"], each["outcome"]) for each in answer["photos"]] == [
        (earlier, "bicycle"),
        (rejected, "rejected"),
    ]
    shown = request(review, "POST", "/api/picture", json.dumps({"photo": earlier, "beside": photo}))
    assert shown["statusCode"] == 200


def test_the_nearest_photos_of_a_busy_driver_are_shown(review: ModuleType, call: Call, desk: Desk) -> None:  # noqa: F811
    photo = taken(review, desk, "driver-8/now.png", **WAITS)
    for number in range(9):
        taken(review, desk, f"driver-8/{number}.png")

    assert len(call("beside", {"photo": photo})[1]["photos"]) == 4


def test_only_the_same_driver_s_photos_of_the_day_can_be_seen_beside_one_in_review(
    review: ModuleType,
    call: Call,
    desk: Desk,  # noqa: F811
) -> None:
    photo, other = taken(review, desk, "driver-7/now.png", **WAITS), taken(review, desk, "driver-7/other.png")
    strangers = [
        taken(review, desk, name, hours)
        for name, hours in [("driver-8/x.png", 0), ("driver-7/old.png", -13), ("x.png", 0)]
    ]
    elsewhere = put(desk, photo=f"s3://inbox/elsewhere/driver-7/x.png#{'0' * 32}", status="ROUTED")

    for stranger in [*strangers, elsewhere, "s3://inbox/uploads/driver-7/nothing.png#0", photo]:
        assert call("picture", {"photo": stranger, "beside": photo})[0] == 404
    assert call("picture", {"photo": photo, "beside": other})[0] == 404  # it was never in review
    assert call("picture", {"photo": other})[0] == 404
    assert call("beside", {"photo": other})[0] == 404


def test_a_photo_outside_a_driver_s_folder_is_shown_alone(review: ModuleType, call: Call, desk: Desk) -> None:  # noqa: F811
    photo = taken(review, desk, "now.png", **WAITS)
    taken(review, desk, "other.png")

    assert call("beside", {"photo": photo})[1] == {"photos": []}


def test_an_audit_is_blind(call: Call, review: ModuleType, desk: Desk) -> None:  # noqa: F811
    etag = upload(review, "uploads/driver-7/1.png", picture())
    photo = put(desk, "driver-7/1.png", photo=f"s3://inbox/uploads/driver-7/1.png#{etag}", etag=etag, **ROUTED)
    other = upload(review, "uploads/driver-7/2.png", picture())
    put(desk, "driver-7/2.png", photo=f"s3://inbox/uploads/driver-7/2.png#{other}", etag=other, **ROUTED)
    box = {name: {"N": edge} for name, edge in {"left": "0", "top": "0", "right": "1", "bottom": "1"}.items()}
    desk.table.dynamodb.update_item(
        TableName=TABLE,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET detection = :found",
        ExpressionAttributeValues={":found": {"M": {"box": {"M": box}, "score": {"N": "0.7"}}}},
    )

    (first, *_) = call("queue", {"want": 1, "since": SINCE})[1]["photos"]

    assert (first["scores"], first["box"], first["why"]) == ({}, None, None)
    assert "motorcycle" not in json.dumps(first)
    assert call("beside", {"photo": photo})[1]["photos"] == []  # whose outcomes would give it away
    assert request(review, "POST", "/api/picture", json.dumps({"photo": photo}))["statusCode"] == 200


def test_an_audit_ends_with_its_photo(call: Call, review: ModuleType, desk: Desk) -> None:  # noqa: F811
    photo = put(desk, "expired.png", **ROUTED)
    assert call("queue", {"want": 1, "since": SINCE})[1]["waiting"] == 1

    status = request(review, "POST", "/api/picture", json.dumps({"photo": photo}))["statusCode"]

    assert status == 404
    assert call("queue", {"want": 1, "since": SINCE})[1]["waiting"] == 0
    record = desk.table.get(photo)
    assert record is not None
    assert (record.status, record.vehicle) == ("ROUTED", "motorcycle")


def test_a_second_opinion_is_blind_to_the_first(
    call: Call,
    review: ModuleType,
    desk: Desk,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking = replace(desk, second_share=1)
    monkeypatch.setattr(review, "desk", asking)
    etag = upload(review, "uploads/driver-7/1.png", picture())
    known = {"etag": etag, "probabilities": ROUTED["probabilities"]}
    photo = put(desk, "driver-7/1.png", photo=f"s3://inbox/uploads/driver-7/1.png#{etag}", **known)
    taken(review, desk, "driver-7/2.png")
    first = asking.decide(photo, "motorcycle", review_id=new_id(), reviewer="zoe")
    since = {"since": timestamp(datetime.now(UTC) - timedelta(hours=1))}
    assert call("queue", {"want": 1} | since)[1]["recent"] == []
    second(desk, photo)

    found = call("queue", {"want": 1} | since)[1]

    (item,) = found["photos"]
    assert (item["photo"], item["scores"], item["box"], item["why"], item["second"]) == (photo, {}, None, None, True)
    assert "zoe" not in json.dumps(found)
    assert call("beside", {"photo": photo})[1]["photos"] == []
    assert request(review, "POST", "/api/picture", json.dumps({"photo": photo}))["statusCode"] == 200
    given = {"photo": photo, "answer": "bicycle", "review_id": new_id()}
    status, answered = call("decide", given)
    assert (status, answered["answer"], answered["id"]) == (200, "bicycle", given["review_id"])
    assert "zoe" not in json.dumps(answered)
    assert (first.answer, call("undo", {"photo": photo, "review_id": given["review_id"]})[0]) == ("motorcycle", 200)


def test_everybody_sees_their_own_decisions_that_another_person_will_see(
    call: Call,
    review: ModuleType,
    desk: Desk,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(review, "desk", replace(desk, second_share=1))
    photo = put(desk)
    assert call("decide", {"photo": photo, "answer": "bicycle", "review_id": new_id()})[0] == 200

    found = call("queue", {"want": 1, "since": timestamp(datetime.now(UTC) - timedelta(hours=1))})[1]

    assert [each["photo"] for each in found["recent"]] == [photo]
