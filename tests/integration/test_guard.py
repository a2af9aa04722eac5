"""Access to the local AWS: for its owner, the holder of a valid link or form, and the stack's pages."""

import base64
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from playwright.sync_api import Page, sync_playwright

from functions.decisions.uploads import PresignedUpload
from loading_bay.local.stack import CONCURRENT_CALLS, REGION
from loading_bay.operations.presign import presign_upload
from tests.e2e.browser import find_chromium

from .bay import Bay, picture, wait_for

FUNCTIONS = "/2015-03-31/functions"
OWNED = "owned"
QUEUE = {"Action": "CreateQueue", "Version": "2012-11-05", "QueueName": OWNED}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/x-amz-json-1.0"}


def scoped(key: str, service: str) -> dict[str, str]:
    """Return a header that is signed with an invented secret."""
    scope = f"{key}/{time.strftime('%Y%m%d', time.gmtime())}/{REGION}/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"}


# Headers, query and body that make the local AWS create a queue or list its tables, at any path.
ORDERS: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({"X-Amz-Target": "AmazonSQS.CreateQueue"} | JSON, {}, json.dumps({"QueueName": OWNED})),
    ({"X-Amz-Target": "DynamoDB_20120810.ListTables"} | JSON, {}, "{}"),
    ({}, QUEUE, ""),
    (FORM, {}, urlencode(QUEUE)),
    (scoped("local", "sqs"), QUEUE, ""),
    (scoped("000000000000", "sqs") | FORM, {}, urlencode(QUEUE)),
]


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


def at_host(bay: Bay, name: str) -> dict[str, str]:
    """Return the header with a host name of the local AWS, which not every resolver knows."""
    return {"Host": f"{name}:{urlsplit(bay.stack.aws_url).port}"}


def assert_nothing_was_obeyed(bay: Bay, answers: list[requests.Response]) -> None:
    assert [answer.url for answer in answers if bay.table in answer.text] == []
    assert bay.stack.client("sqs").list_queues(QueueNamePrefix=OWNED).get("QueueUrls", []) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", FUNCTIONS),
        ("POST", f"{FUNCTIONS}/loading-bay-serialize/invocations"),
        ("GET", "/"),
        ("POST", "/"),
        ("POST", "/_ministack/config"),
        ("POST", "/_ministack/reset"),
        ("POST", "/oauth2/revoke"),
        ("PUT", "/login"),
        ("GET", "/login/object"),
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


def test_open_routes_lead_nowhere_else(bay: Bay) -> None:
    api = urlsplit(bay.stack.outputs["ReviewUrl"]).hostname or ""
    hosts = [
        "localhost",
        "127.0.0.1",
        api,
        api.upper(),
        api.replace("execute-api", "EXECUTE-API"),
        f"sqs.{REGION}.localhost",
    ]
    pool = bay.stack.outputs["ReviewersPool"]
    paths = [f"/{pool}/.well-known/jwks.json", "/a_b/.well-known/jwks.json", "/oauth2/token", "/oauth2/authorize"]
    paths += ["/oauth2/revoke", "/login", "/logout", "/_ministack/health", "/api/queue", f"/{bay.bucket}"]

    answers = [
        requests.request(
            method, bay.stack.aws_url + path, params=query, data=body, headers=headers | at_host(bay, host), timeout=20
        )
        for method, host, path, (headers, query, body) in product(["GET", "POST"], hosts, paths, ORDERS)
    ]

    assert_nothing_was_obeyed(bay, answers)


def test_the_keys_of_pools_are_public_and_those_of_nothing_else(bay: Bay) -> None:
    def keys(pool: str) -> requests.Response:
        return requests.get(f"{bay.stack.aws_url}/{pool}/.well-known/jwks.json", timeout=10)

    assert keys(bay.stack.outputs["ReviewersPool"]).json()["keys"]
    assert keys("us-east-1_nobody").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "host", "passes"),
    [
        ("GET", "/oauth2/authorize", "localhost", True),
        ("POST", "/oauth2/token", "localhost", True),
        ("POST", "/login", "localhost", True),
        ("POST", "/login", "evil.example", False),
        ("POST", "/oauth2/token", "oauth2.localhost", False),
    ],
)
def test_signing_in_is_open_under_this_machine_s_own_name(
    bay: Bay, method: str, path: str, host: str, passes: bool
) -> None:
    answer = requests.request(method, bay.stack.aws_url + path, headers=at_host(bay, host), timeout=10)

    assert (answer.status_code != 403) == passes


@pytest.fixture
def link(bay: Bay) -> str:
    """Sign a link that reads one photo."""
    key = bay.upload(picture("red"), "presigned ü+.jpg")
    s3 = client(bay, "s3", bay.stack.secret)
    return str(s3.generate_presigned_url("get_object", Params={"Bucket": bay.bucket, "Key": key}, ExpiresIn=600))


def test_a_link_works_for_its_object_until_it_expires(bay: Bay, link: str) -> None:
    s3 = client(bay, "s3", bay.stack.secret)
    parameters = {"Bucket": bay.bucket, "Key": "uploads/presigned ü+.jpg"}
    short = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=1)
    unlimited = re.sub("&X-Amz-Expires=[0-9]+", "", link)
    other = s3.generate_presigned_url("put_object", Params=parameters | {"Metadata": {"driver": "7"}}, ExpiresIn=60)

    assert requests.get(link, timeout=10).content == picture("red")
    assert requests.put(other, data=b"", headers={"x-amz-meta-driver": "7"}, timeout=10).status_code == 200
    assert requests.put(other, data=b"", headers={"x-amz-meta-driver": "8"}, timeout=10).status_code == 403
    for wrong in (link.replace("presigned", "another"), unlimited, f"{link}&versionId=1"):
        assert requests.get(wrong, timeout=10).status_code == 403
    wait_for(lambda: requests.get(short, timeout=10).status_code == 403)
    assert requests.put(link, data=b"", timeout=10).status_code == 403


def test_a_link_allows_nothing_else(bay: Bay, link: str) -> None:
    put = client(bay, "s3", bay.stack.secret).generate_presigned_url(
        "put_object", Params={"Bucket": bay.bucket, "Key": "uploads/order.txt"}, ExpiresIn=600
    )

    answers = [
        requests.request(
            method, url + (f"&{urlencode(query)}" if query else ""), data=body, headers=headers, timeout=20
        )
        for (method, url), (headers, query, body) in product([("GET", link), ("PUT", put)], ORDERS)
    ]

    assert_nothing_was_obeyed(bay, answers)


@pytest.fixture
def form(bay: Bay) -> PresignedUpload:
    return presign_upload(bay.stack.deployed, "driver-7", "image/jpeg")


def test_a_form_allows_nothing_else(bay: Bay, form: PresignedUpload) -> None:
    function = f"{FUNCTIONS}/loading-bay-serialize/invocations"
    urls = [
        form.url,
        f"{form.url}/",
        f"{bay.stack.aws_url}/",
        bay.stack.aws_url + function,
        f"{bay.stack.aws_url}/restapis",
    ]
    hosts = ["127.0.0.1", "localhost", f"sqs.{REGION}.localhost", f"lambda.{REGION}.localhost"]

    answers = []
    for url, host, (order, query, _) in product(urls, hosts, ORDERS):
        headers = {name: value for name, value in order.items() if name != "Content-Type"} | at_host(bay, host)
        parts = {"file": ("photo.jpg", picture("red"))}
        answers.append(
            requests.post(url, params=query, data=form.fields | QUEUE, files=parts, headers=headers, timeout=20)
        )

    assert_nothing_was_obeyed(bay, answers)
    assert min(answer.status_code for answer in answers) >= 400


def test_no_field_after_the_file_replaces_a_signed_one(bay: Bay, form: PresignedUpload) -> None:
    key = "uploads/driver-8/photo.jpg"
    free = [["starts-with", f"${name}", ""] for name in [*form.fields, "bucket"] if name != "policy"]
    policy = base64.b64encode(json.dumps({"expiration": "2099-01-01T00:00:00Z", "conditions": free}).encode()).decode()
    after: Any = {"file": ("photo.jpg", picture("red")), "policy": (None, policy), "key": (None, key)}

    assert requests.post(form.url, data=form.fields, files=after, timeout=20).status_code == 403
    assert bay.s3.list_objects_v2(Bucket=bay.bucket, Prefix=key)["KeyCount"] == 0


# Every request that a page can send without asking: each kind to each address, until all have ended.
SEND = """
async ([urls, form]) => {
  const ended = (element, last = element) => new Promise((end) => {
    element.onload = element.onerror = element.onclose = end;
    document.body.append(last);
  });
  const make = (name, facts) => Object.assign(document.createElement(name), facts);
  const post = (action) => {
    const frame = make('iframe', { name: action }), sender = make('form', { action, method: 'POST', target: action });
    sender.append(...Object.entries(form).map(([name, value]) => make('input', { name, value })));
    const sent = ended(frame);
    document.body.append(sender);
    sender.submit();
    return sent;
  };
  const body = new URLSearchParams(form), headers = { 'X-Amz-Target': 'AmazonSQS.CreateQueue' };
  await Promise.allSettled(urls.flatMap((url) => [
    ...['img', 'script', 'iframe'].map((name) => ended(make(name, { src: url }))),
    ended(make('link', { rel: 'stylesheet', href: url })),
    post(url),
    fetch(url, { mode: 'no-cors', method: 'POST', body }),
    fetch(url, { method: 'POST', body, headers }),
    fetch(url, { credentials: 'include' }),
    ended(new WebSocket(url.replace('http', 'ws')), ''),
  ]));
}
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    # Chromium does not run its sandbox as root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        yield browser.new_page()
        browser.close()


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    """Serve an empty page; yield its port."""

    class EmptyPage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("site", ["127.0.0.1", "localhost"], ids=["another site", "another port of the same site"])
def test_a_page_of_another_site_gets_nothing(bay: Bay, page: Page, foreign_port: int, site: str) -> None:
    port = urlsplit(bay.stack.aws_url).port
    api, pool = urlsplit(bay.stack.outputs["ReviewUrl"]).hostname, bay.stack.outputs["ReviewersPool"]
    paths = ["/", f"/{pool}/.well-known/jwks.json", "/oauth2/token", "/oauth2/authorize", "/login", "/logout"]
    urls = [f"http://{host}:{port}{path}" for host, path in product(["localhost", "127.0.0.1", api], paths)]
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if urlsplit(answer.url).port == port else None)
    page.goto(f"http://{site}:{foreign_port}/")

    page.evaluate(SEND, [[f"{url}?{urlencode(QUEUE)}" for url in urls], QUEUE])

    assert_nothing_was_obeyed(bay, [])
    assert set(statuses) == {403}
    assert len(statuses) > 5 * len(urls)


def test_a_page_of_another_site_may_link_to_the_sign_in(bay: Bay, page: Page, foreign_port: int) -> None:
    page.goto(f"http://127.0.0.1:{foreign_port}/")

    page.evaluate("address => { location = address }", bay.stack.outputs["ReviewUrl"])

    page.wait_for_url("**/oauth2/authorize*")
    page.wait_for_selector("input[name=password]")


def test_functions_share_a_limited_number_of_processes(bay: Bay) -> None:
    limit = bay.stack.client("lambda").get_account_settings()["AccountLimit"]

    assert limit["ConcurrentExecutions"] == CONCURRENT_CALLS
