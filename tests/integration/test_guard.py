"""What the local AWS gives to whoever does not know the stack's secret: another user here, or a page in a browser."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from loading_bay.local.stack import CONCURRENT_CALLS, REGION

from .bay import Bay, picture

FUNCTIONS = "/2015-03-31/functions"


def client(bay: Bay, service: str, secret: str) -> Any:
    session: Any = boto3
    return session.client(
        service,
        endpoint_url=bay.stack.aws_url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key=secret,
        config=Config(signature_version="s3v4" if service == "s3" else None),
    )


def address(bay: Bay, host: str) -> str:
    return f"http://{host}:{urlsplit(bay.stack.aws_url).port}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", FUNCTIONS),
        ("POST", f"{FUNCTIONS}/loading-bay-serialize/invocations"),
        ("GET", "/"),
        ("POST", "/"),
        ("POST", "/_ministack/config"),
        ("POST", "/_ministack/reset"),
        ("OPTIONS", FUNCTIONS),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example"}, {"Content-Type": "text/plain"}])
def test_nothing_unsigned_passes(bay: Bay, method: str, path: str, headers: dict[str, str]) -> None:
    answer = requests.request(method, bay.stack.aws_url + path, data=b"{}", headers=headers, timeout=10)

    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("service", ["dynamodb", "lambda", "sqs", "s3", "cloudformation"])
def test_a_wrong_secret_is_refused_as_by_aws(bay: Bay, service: str) -> None:
    call = {
        "dynamodb": "list_tables",
        "lambda": "list_functions",
        "sqs": "list_queues",
        "s3": "list_buckets",
        "cloudformation": "list_stacks",
    }[service]
    getattr(client(bay, service, bay.stack.secret), call)()

    with pytest.raises(ClientError) as refused:
        getattr(client(bay, service, "guessed"), call)()

    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_a_signed_request_whose_body_was_changed_is_refused(bay: Bay) -> None:
    dynamodb = client(bay, "dynamodb", bay.stack.secret)
    dynamodb.meta.events.register("before-send", lambda request, **_: setattr(request, "body", b"{ }"))

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        dynamodb.list_tables()


def test_a_presigned_address_works_for_its_object_until_it_expires(bay: Bay) -> None:
    key = bay.upload(picture("red"), "presigned ü+.jpg")
    s3 = client(bay, "s3", bay.stack.secret)
    parameters = {"Bucket": bay.bucket, "Key": key}
    signed = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)
    expired = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=-1)

    assert requests.get(signed, timeout=10).content == picture("red")
    assert requests.get(signed.replace("presigned", "another"), timeout=10).status_code == 403
    assert requests.put(signed, data=b"", timeout=10).status_code == 403
    assert requests.get(expired, timeout=10).status_code == 403


@pytest.fixture
def api(bay: Bay) -> Iterator[str]:
    """Deploy an HTTP API with one route and one for all the rest; yields its host."""
    gateway = bay.stack.client("apigatewayv2")
    made = gateway.create_api(Name="page", ProtocolType="HTTP")["ApiId"]
    gateway.create_route(ApiId=made, RouteKey="GET /page")
    gateway.create_route(ApiId=made, RouteKey="$default")
    yield f"{made}.execute-api.localhost"
    gateway.delete_api(ApiId=made)


@pytest.mark.parametrize(
    ("method", "path", "headers", "passes"),
    [
        ("GET", "/page", {}, True),
        ("GET", "/page", {"Origin": "http://evil.example"}, False),
        ("POST", "/page", {}, False),
        ("GET", "/_ministack/state", {}, False),
        ("POST", FUNCTIONS, {}, False),
    ],
)
def test_the_routes_of_an_api_are_open_to_its_own_pages(
    bay: Bay, api: str, method: str, path: str, headers: dict[str, str], passes: bool
) -> None:
    headers = headers | {"Host": address(bay, api).removeprefix("http://")}
    answer = requests.request(method, bay.stack.aws_url + path, headers=headers, timeout=10)

    assert (answer.status_code != 403) == passes


@pytest.mark.parametrize(
    ("method", "path", "host", "passes"),
    [
        ("GET", "/oauth2/authorize", "localhost", True),
        ("POST", "/oauth2/token", "localhost", True),
        ("POST", "/login", "localhost", True),
        ("POST", "/login", "evil.example", False),
        ("PUT", "/login", "localhost", False),
        ("GET", "/login/object", "localhost", False),
    ],
)
def test_signing_in_is_open_under_this_machine_s_own_name(
    bay: Bay, method: str, path: str, host: str, passes: bool
) -> None:
    headers = {"Host": address(bay, host).removeprefix("http://")}
    answer = requests.request(method, bay.stack.aws_url + path, headers=headers, timeout=10)

    assert (answer.status_code != 403) == passes


def test_functions_share_a_bounded_number_of_processes(bay: Bay) -> None:
    limit = bay.stack.client("lambda").get_account_settings()["AccountLimit"]

    assert limit["ConcurrentExecutions"] == CONCURRENT_CALLS
