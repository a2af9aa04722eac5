"""A guard in front of the local AWS, which otherwise obeys anyone who can reach its port.

This module runs in place of the local AWS command. It passes on requests that are signed with this stack's secret,
presigned links and forms for S3, and requests that AWS accepts from any browser: for the stack's HTTP APIs and for
signing in. MiniStack picks the service of a request from its headers, query and body as well as its path. So the guard
rewrites requests without a signature into a form that leaves it no choice.
"""

import hmac
import html
import json
import os
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from ministack import app as ministack
from ministack.core.iam_evaluator import ResolvedCredential, resolve_credential
from ministack.services.s3 import _parse_multipart_form
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loading_bay.local.sign_in import keep_groups_when_refreshed

ACCOUNT = "000000000000"
AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=(.+), ?SignedHeaders=([a-z\d;-]+), ?Signature=([a-f\d]{64})")
BUCKET = re.compile(r"/[a-z\d][a-z\d.-]{2,62}")
API_HOST = re.compile(r"([a-f\d]{8})\.execute-api\.localhost")
# Cognito sign-in, the keys to check its tokens with, and the health check that `up` waits for.
OPEN = re.compile(
    r"POST /(oauth2/token|login)|GET /(oauth2/authorize|logout|[a-z\d-]+_\w+/\.well-known/jwks\.json|_ministack/health)"
)
OAUTH = re.compile("client_id|code_challenge(_method)?|logout_uri|nonce|redirect_uri|response_type|scope|state")


class Refused(Exception):
    """A request is not passed on: the AWS name of the error, and the reason."""


class Guard:
    """Passes a request on to the local AWS if it is signed, or if AWS would accept it from anyone."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            request = Request(scope, receive)
            body = await request.body()
            try:
                passed = self._opened(request) or _signed(request, body)
            except Refused as refused:
                await _refusal(request, *refused.args)(scope, receive, send)
            else:
                await self._app(passed, _again(body, receive), send)

    def _opened(self, request: Request) -> Scope | None:
        """Return the scope in which to pass on a request that needs no signature, or None for any other request.

        Raises:
            Refused: a page of another site sent it.
        """
        scope, headers = request.scope, request.scope["headers"]
        host = self._host(request.headers.get("host", ""))
        if api := API_HOST.fullmatch(host):
            # MiniStack routes such a path to the API before anything else.
            path = f"/_aws/execute-api/{api[1]}/$default"
            passed = {"path": path + scope["path"], "raw_path": path.encode() + scope["raw_path"]}
            headers = [each for each in headers if each[0] != b"host" and not each[0].startswith(b"x-amz-")]
        elif host in {"localhost", "127.0.0.1"} and OPEN.fullmatch(f"{request.method} {scope['path']}"):
            query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
            passed = {"query_string": urlencode([each for each in query if OAUTH.fullmatch(each[0])]).encode()}
            kept = {b"content-type", b"content-length"} if request.method == "POST" else set()
            headers = [each for each in headers if each[0] in kept]
        else:
            return None
        if self._is_foreign(request):
            raise Refused("AccessDenied", "a page of another site asks for this")
        return {**scope, **passed, "headers": [(b"host", f"localhost:{self._port}".encode()), *headers]}

    def _is_foreign(self, request: Request) -> bool:
        """Tell whether a page of another site sent a request, other than by a link that a person followed."""
        asked = request.headers
        if "origin" in asked:
            host = self._host(urlsplit(asked["origin"]).netloc)
            return host != "localhost" and not API_HOST.fullmatch(host)
        leads_here = request.method == "GET" and asked.get("sec-fetch-dest") == "document"
        return asked.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not leads_here

    def _host(self, address: str) -> str:
        """Return the host name in an address at this port, or an empty string for another port."""
        name, _, port = address.lower().rpartition(":")
        return name if port == str(self._port) else ""


def _signed(request: Request, body: bytes) -> Scope:
    """Return the scope in which to pass on a signed request.

    Raises:
        Refused: it is not signed, or not with this stack's secret.
    """
    headers, query = request.headers, request.query_params
    if found := AUTHORIZATION.fullmatch(headers.get("authorization", "")):
        credential, names, signature = found.groups()
        auth = _auth(S3SigV4Auth if "/s3/" in credential else SigV4Auth, credential)
        _compare(auth, request, headers.get("x-amz-date", ""), names, body, signature)
        return request.scope
    if "authorization" not in headers and BUCKET.match(request.scope["path"]):
        if "X-Amz-Signature" in query:
            return _link(request)
        if headers.get("content-type", "").startswith("multipart/form-data") and not query:
            return _form(request, body)
    raise Refused("MissingAuthenticationToken", "sign the request: loading-bay env prints the credentials")


def _link(request: Request) -> Scope:
    """Return the scope in which to pass on a presigned link: to S3, as signed, until it expires."""
    link = request.query_params
    date, seconds = link.get("X-Amz-Date", ""), link.get("X-Amz-Expires", "")
    try:
        expires = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(seconds=int(seconds))
    except (ValueError, OverflowError):
        raise Refused("AccessDenied", "the link does not say when it expires") from None
    if expires < datetime.now(UTC):
        raise Refused("AccessDenied", "Request has expired")
    auth = _auth(S3SigV4QueryAuth, link.get("X-Amz-Credential", ""), "s3")
    _compare(auth, request, date, link.get("X-Amz-SignedHeaders", ""), b"", link["X-Amz-Signature"])
    # A form in the body could name another service.
    kept = [each for each in request.scope["headers"] if not each[1].startswith(b"application/x-www-form-urlencoded")]
    return {**request.scope, "headers": kept}


def _form(request: Request, body: bytes) -> Scope:
    """Return the scope in which to pass on a presigned form: to S3, which enforces its policy and its expiry."""
    parts = _parse_multipart_form(request.headers["content-type"], body)
    fields = {name.lower(): value.decode(errors="replace") for name, _, _, value in parts if name != "file"}
    credential = fields.get("x-amz-credential", "")
    policy = AWSRequest()
    policy.context["timestamp"] = fields.get("x-amz-date", "")
    expected = _auth(SigV4Auth, credential, "s3").signature(fields.get("policy", ""), policy)
    if not hmac.compare_digest(expected, fields.get("x-amz-signature", "")):
        raise Refused("SignatureDoesNotMatch", "the form is not signed with a secret of this stack")
    if any(name.startswith("x-amz-") for name in request.headers):
        raise Refused("AccessDenied", "a header is not signed")
    to_s3 = f"AWS4-HMAC-SHA256 Credential=local/{credential.partition('/')[2]}"
    return {**request.scope, "headers": [*request.scope["headers"], (b"authorization", to_s3.encode())]}


def _auth(kind: type[SigV4Auth], credential: str, service: str = r"[a-z\d-]+") -> SigV4Auth:
    """Return the signer of a credential: the stack, or a session that the local AWS issued."""
    found = re.fullmatch(rf"([^/]+)/\d{{8}}/([a-z\d-]+)/({service})/aws4_request", credential)
    owner = resolve_credential(found[1], ACCOUNT) if found else None
    if not found or not isinstance(owner, ResolvedCredential):
        raise Refused("InvalidClientTokenId", "the access key is not one of this stack")
    return kind(Credentials(owner.access_key_id, owner.secret_access_key), found[3], found[2])


def _compare(auth: SigV4Auth, request: Request, date: str, names: str, body: bytes, signature: str) -> None:
    """Sign a request again, and compare."""
    headers = {name: ",".join(request.headers.getlist(name)) for name in names.split(";")}
    if any(name.startswith("x-amz-") and name not in headers for name in request.headers):
        raise Refused("AccessDenied", "a header is not signed")
    query = re.sub("&X-Amz-Signature=[^&]*", "", request.scope["query_string"].decode())
    path = request.scope["raw_path"].decode()
    again = AWSRequest(request.method, f"http://{request.headers.get('host')}{path}?{query}", headers, body)
    again.context["timestamp"] = date
    expected = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    if not hmac.compare_digest(expected, signature):
        raise Refused("SignatureDoesNotMatch", "not signed with the secret of this stack; see: loading-bay env")


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a channel that repeats a body that was already read, and then continues."""
    messages = iter([{"type": "http.request", "body": body}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


def _refusal(request: Request, code: str, reason: str) -> Response:
    """Answer in the form that the caller's client reads: XML for S3 and the query protocol, JSON for others."""
    as_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if as_form or "/s3/" in request.headers.get("authorization", "/s3/"):
        said = f"<Code>{code}</Code><Message>{html.escape(reason)}</Message>"
        return Response(f"<ErrorResponse><Error>{said}</Error></ErrorResponse>", 403, media_type="text/xml")
    return Response(json.dumps({"__type": code, "message": reason}), 403, media_type="application/json")


def main() -> None:
    """Run the local AWS, guarded."""
    keep_groups_when_refreshed()
    ministack.app = Guard(ministack.app, int(os.environ["GATEWAY_PORT"]))
    ministack.main()


if __name__ == "__main__":
    main()
