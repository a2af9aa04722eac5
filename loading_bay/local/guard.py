"""The local AWS behind a guard, which lets nothing through that is not signed with this stack's secret.

Runs in the local AWS's own environment, in the place of its command. MiniStack checks no signature of its owner and
answers any page in a browser: without the guard, whoever reaches its port creates a function and runs it as the
developer. What AWS itself leaves open to browsers stays open: the routes of a deployed HTTP API, and Cognito's sign-in.
"""

import html
import json
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ministack import app as ministack
from ministack.core import sigv4
from ministack.core.iam_evaluator import resolve_credential
from ministack.core.responses import set_request_account_id

from loading_bay.local.sign_in import keep_groups_when_refreshed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/_ministack/health"
API_HOST = re.compile(r"([0-9a-f]+)\.execute-api\.localhost")
# Cognito's sign-in and, for whoever checks its tokens, the public keys of a user pool (its id has an underscore, which
# no bucket's name may have).
SIGN_IN = {
    ("GET", "/oauth2/authorize"),
    ("POST", "/oauth2/token"),
    ("POST", "/oauth2/revoke"),
    ("POST", "/login"),
    ("GET", "/logout"),
}
PUBLIC_KEYS = re.compile(r"/[\w-]+_\w+/\.well-known/jwks\.json")
# The field of a form: its name and, after any other headers and an empty line, its value.
FORM_FIELD = re.compile(rb'name="([^"]+)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


class Refused(Exception):
    """A request that the guard does not let through: AWS's name for the error, and why."""


class Guard:
    """Passes on to the local AWS what is signed with a secret that it gave out, and what is open to everybody."""

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = _headers(scope)
            try:
                receive = await self._checked(scope, headers, receive)
            except Refused as refused:
                await _refuse(send, headers, *refused.args)
            else:
                await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        if self._is_open(scope["method"], scope["path"], headers):
            return receive
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        if "X-Amz-Signature" in query:
            _check_presigned(scope, headers, query)
        elif "authorization" in headers:
            if "x-amz-content-sha256" in headers:  # S3's, which signs the body's digest and may be large
                _check_header(scope, headers, query, b"")
            else:
                body = await _read(receive)
                _check_header(scope, headers, query, body)
                return _again(body, receive)
        elif headers.get("content-type", "").startswith("multipart/form-data"):
            body = await _read(receive)
            _check_form(body)
            return _again(body, receive)
        else:
            raise Refused("MissingAuthenticationToken", "sign the request: loading-bay env prints with what")
        return receive

    def _is_open(self, method: str, path: str, headers: dict[str, str]) -> bool:
        """Tell whether AWS takes this request from anybody, and it comes from no page but the stack's own."""
        host = headers.get("host", "").lower()
        hostname, _, port = host.rpartition(":")
        if port != str(self._port):
            return False
        if "origin" in headers:
            origin = urlsplit(headers["origin"])
            ours = origin.hostname == "localhost" or API_HOST.fullmatch(origin.hostname or "")
            if not ours or origin.port != self._port:
                return False
        if api := API_HOST.fullmatch(hostname):
            return _has_route(api[1], method, path)
        if hostname not in {"localhost", "127.0.0.1"}:
            return False
        if method == "GET" and (path == HEALTH or PUBLIC_KEYS.fullmatch(path)):
            return True
        return (method, path) in SIGN_IN


def _has_route(api: str, method: str, path: str) -> bool:
    """Tell whether an HTTP API has a route for the request; a catch-all is none, as it would cover all of AWS."""
    from ministack.services import apigateway  # noqa: PLC0415 - see the imports at the top

    route = None if path.startswith("/_") else apigateway._match_route(api, method, path)
    return route is not None and route["routeKey"] != "$default"


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, those that came several times joined as a signature wants them."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), sigv4.decode_header_value(value)
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def _check_header(scope: Scope, headers: dict[str, str], query: dict[str, list[str]], body: bytes) -> None:
    signature = sigv4.parse_header_signature(headers)
    if isinstance(signature, tuple):
        raise Refused(*signature)
    if skewed := sigv4.request_time_failure(signature):
        raise Refused(*skewed)
    _compare(signature, scope, headers, query, body)


def _check_presigned(scope: Scope, headers: dict[str, str], query: dict[str, list[str]]) -> None:
    signature = sigv4.parse_query_signature(query)
    if isinstance(signature, tuple):
        raise Refused(*signature)
    try:
        expired = sigv4.presigned_request_is_expired(signature.amz_date, query["X-Amz-Expires"][0])
    except (KeyError, ValueError):
        expired = True
    if expired:
        raise Refused("AccessDenied", "Request has expired")
    _compare(signature, scope, headers, query, b"", presigned=True)


def _compare(
    signature: Any,
    scope: Scope,
    headers: dict[str, str],
    query: dict[str, list[str]],
    body: bytes,
    *,
    presigned: bool = False,
) -> None:
    secret = _secret(signature.access_key_id)
    path = scope["raw_path"].decode("latin-1")
    failure = sigv4.header_signature_failure(
        signature, secret, scope["method"], path, query, headers, body, presigned=presigned
    )
    if failure:
        raise Refused(*failure)


def _check_form(body: bytes) -> None:
    """Check the signed policy of an upload by form; S3 takes no field that comes after the file."""
    before_file = body.partition(b'name="file"')[0]
    fields = {name.decode().lower(): value.decode() for name, value in FORM_FIELD.findall(before_file)}
    try:
        key, date, region, service, _ = fields["x-amz-credential"].split("/")
        policy, signature = fields["policy"], fields["x-amz-signature"]
    except (KeyError, ValueError):
        raise Refused("AccessDenied", "the form is not signed") from None
    expected = sigv4.calculate_signature(_secret(key), date, region, service, policy)
    if not sigv4.signatures_match(expected, signature):
        raise Refused("SignatureDoesNotMatch", sigv4.SIGNATURE_MISMATCH)


def _secret(access_key_id: str) -> str:
    """Return the secret of an access key: the stack's own, or one that a role's session got."""
    set_request_account_id(access_key_id)
    credential = resolve_credential(access_key_id)
    if not hasattr(credential, "secret_access_key"):
        raise Refused("InvalidClientTokenId", credential.message)
    return str(credential.secret_access_key)


async def _read(receive: Receive) -> bytes:
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that has been read a second time, and then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, headers: dict[str, str], code: str, message: str) -> None:
    """Answer 403 in the form that the caller's client reads: S3 and the query protocol XML, the others JSON."""
    as_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if as_form or "/s3/" in headers.get("authorization", "/s3/"):
        media_type = b"text/xml"
        said = f"<Code>{code}</Code><Message>{html.escape(message)}</Message>"
        text = f"<ErrorResponse><Error>{said}</Error></ErrorResponse>"
    else:
        media_type = b"application/json"
        text = json.dumps({"__type": code, "message": message})
    start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", media_type)]}
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


def main() -> None:
    """Run the local AWS, guarded."""
    keep_groups_when_refreshed()
    ministack.app = Guard(ministack.app, int(os.environ["GATEWAY_PORT"]))
    ministack.main()


if __name__ == "__main__":
    main()
